"""A run's tables as DataFrames: the columns that are asked for, no others, with their types."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from auditor.errors import RunError
from auditor.manifest import shard_order
from reports import schema
from reports.dtypes import typed

if TYPE_CHECKING:
    from auditor.store import Run

# Table -> the stage that makes it, and where it stands.
_MADE_BY = {"samples": "sample", "scores": "score", "matches": "verify"}
_FOLDERS = {"matches": "matches/"}


def read_frame(run: Run, table: schema.Table, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """One of a run's tables, all of its shards stacked.

    Parameters
    ----------
    run : Run
    table : one of `reports.schema`
    columns : names or patterns (`rank:*`), in the order wanted; all by default

    Returns
    -------
    DataFrame with the types that the schema gives; strategies in the order of the config.

    Raises
    ------
    RunError
        If the stage has not run, the run has no such column, or a file is damaged.
    """
    names = _files(run, table.name)
    if not names:
        raise RunError(_not_yet(run, table.name))
    wanted = None if columns is None else _wanted(run, names[0], table.name, columns)
    parts = [run.read(name, wanted) for name in names]
    strategies = [s["name"] for s in run.manifest["config"]["strategies"]]
    try:
        frame = pa.concat_tables(parts, promote_options="default").to_pandas()
        frame = typed(frame, table, values={"strategy": strategies})
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise run.unreadable(names[0], error) from None
    return frame if wanted is None else frame[wanted]


def read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """Some columns of a Parquet file; of the rest nothing is read, and pages are checked."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        return file.read(columns=list(columns))


def _files(run: Run, table: str) -> list[str]:
    shards = run.manifest["shards"]
    if table in ("samples", "scores"):
        names = [name for name in shards if name.startswith(table + "/")]
        return sorted(names, key=lambda name: shard_order(run.manifest, name))
    name = f"{_FOLDERS.get(table, '')}{table}.parquet"
    return [name] if name in shards else []


def _wanted(run: Run, file: str, table: str, columns: Sequence[str]) -> list[str]:
    """The columns that names and patterns mean, each once."""
    if isinstance(columns, str):
        columns = [columns]
    try:
        there = pq.read_schema(run.place(file)).names
    except (OSError, ValueError, pa.ArrowException):
        there = run.read(file).column_names  # says what is wrong with the file
    found: dict[str, None] = {}
    for asked in map(str, columns):
        fitting = [asked] if asked in there else [n for n in there if fnmatchcase(n, asked)]
        if not fitting:
            near = get_close_matches(asked, there, n=1)
            hint = f" The nearest is {near[0]!r}." if near else ""
            raise RunError(
                f"{table} of {run.path} has no column {asked!r}.{hint} It has: {', '.join(there)}."
            )
        found |= dict.fromkeys(fitting)
    return list(found)


def _not_yet(run: Run, table: str) -> str:
    if table == "matches" and not run.config.has_training_text:
        return (
            f"{run.path} has no matches: it was given no training text to look in. "
            f"Give it with: auditor verify {run.path} --corpus PATH."
        )
    return (
        f"{run.path} has no {table} yet: stage {_MADE_BY.get(table, 'report')!r} has not run. "
        f"Finish the run with: auditor audit --resume {run.path}."
    )
