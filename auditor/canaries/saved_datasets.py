"""Insert canaries into a dataset folder saved by `datasets`, keeping columns and splits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from auditor.canaries.placement import Placement, Source, size_of
from auditor.corpus.fields import (
    ID_FIELDS,
    field_of,
    no_field,
    text_fields,
    values_at,
    with_text,
)
from auditor.corpus.hub import check_memory, load_saved
from auditor.corpus.tables import TEXT, sample_row, text_columns
from auditor.errors import CorpusError, in_short


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the progress bars of `datasets`."""
    import datasets

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


@_quiet()
def open_rows(path: Path, text_field: str | None, vocabulary: Any) -> Source:
    """Open a saved dataset; canaries become rows of its split "train", else of its first.

    Other columns of a canary are null, except a text id.

    Raises
    ------
    CorpusError
        If the dataset cannot be read, is empty, or lacks the text column.
    """
    import datasets

    try:
        opened = load_saved(path)
        splits = dict(opened) if isinstance(opened, dict) else {"": opened}
        for split in splits.values():
            check_memory(split)
    except (OSError, ValueError, RuntimeError) as error:
        raise CorpusError(f"{path} is not a readable dataset ({in_short(error)}).") from None
    chosen = "train" if "train" in splits else next(iter(splits), "")
    rows = splits.get(chosen)
    if rows is None or not len(rows):
        raise CorpusError(f"{path} is empty: it has no rows. Give a dataset that has text.")
    fields = _fields(path, rows, text_field)
    sample = sample_row(rows.features.arrow_schema)
    columns = list(dict.fromkeys(field_of(sample, name) for name in fields))
    texts = (
        "\n".join(value for name in fields for value in values_at(row, name) or () if value)
        for row in rows.select_columns(columns)
    )
    _, size = size_of(texts, vocabulary)

    @_quiet()
    def write(scratch: Path, placements: list[Placement]) -> None:
        splits[chosen] = _interleave(rows, placements, fields)
        made = splits[""] if "" in splits else datasets.DatasetDict(splits)
        made.save_to_disk(str(scratch))

    return Source("row", len(rows), size, write)


def _fields(source: Path, rows: Any, text_field: str | None) -> tuple[str, ...]:
    schema = rows.features.arrow_schema
    sample = sample_row(schema)
    fields = text_fields(sample, text_field, text_columns(schema))
    # Each path of the sample row ends in a value of the column's type.
    is_all_text = all(values_at(sample, path) == [TEXT] for path in fields)
    if not fields or not is_all_text:
        of_text = "" if not fields else " of text"
        raise CorpusError(
            f"{source} {no_field(sample, text_field, 'column' + of_text)}. Set --text-field to one "
            "that has text."
        )
    return fields


def _interleave(rows: Any, placements: list[Placement], fields: tuple[str, ...]) -> Any:
    """The rows with canaries in between."""
    import datasets

    texts = [placement.canary.text for placement in placements]
    columns: dict[str, list[Any]] = {name: [None] * len(texts) for name in rows.column_names}
    sample = sample_row(rows.features.arrow_schema)
    made = [with_text(sample, fields, text) for text in texts]
    columns |= {name: [row[name] for row in made] for name in made[0]} if made else {}
    key = next((name for name in ID_FIELDS if name in columns), None)
    if key is not None and key not in fields and sample[key] == TEXT:
        columns[key] = [f"{p.canary.canary_id}.{p.copy:02}" for p in placements]
    ours = datasets.Dataset.from_dict(columns, features=rows.features)
    before = [placement.source_position for placement in placements]
    order = np.insert(np.arange(len(rows)), before, len(rows) + np.arange(len(texts)))
    return datasets.concatenate_datasets([rows, ours]).select(order)
