"""A folder of results: who may write into it, its tables as Parquet and CSV, its manifest.

Audits, extractions, membership audits, comparisons, fine-tunings, testbeds and indexes keep their
folders with these functions. A folder is its owner's alone, one process writes it, each file is
whole or not there, and the manifest is written last.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from auditor.errors import RunError
from auditor.runs.manifest import differences
from auditor.system.atomic_files import disk_trouble, is_free, make_own, write_atomically
from reports.csv_files import as_csv
from reports.privacy.redaction import mask_personal


def read_json(file: Path) -> dict[str, Any] | None:
    """What a manifest says; None where it is missing or cannot be read as one."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def refuse_other(out: Path, manifest: str, noun: str, there: Any, asked: Mapping[str, Any]) -> None:
    """An error unless the folder is free, or holds a result of just these settings.

    Parameters
    ----------
    out : path
    manifest : name of the manifest's file
    noun : what the folder is to hold, with its article: "a run"
    there : the settings that the manifest holds; None = there is no manifest
    asked : the settings of this call

    Raises
    ------
    RunError
        Says which settings differ.
    """
    if not isinstance(there, dict):
        with disk_trouble(out):
            if is_free(out, manifest):
                return
        raise not_its_folder(out, noun)
    # Through JSON, as what is there was.
    if different := differences(there, json.loads(json.dumps(asked))):
        raise RunError(
            f"--out {out} holds another {noun.partition(' ')[2]}: {'; '.join(different)}. Choose "
            "another --out, ask for the same again to resume it, or delete the folder."
        )


def not_its_folder(out: str | Path, noun: str) -> RunError:
    """The error about a folder that holds something else than `noun`."""
    return RunError(
        f"--out {out} exists and is not {noun}'s folder. Choose another --out, or empty it."
    )


def save(
    out: Path,
    manifest: str,
    facts: Mapping[str, Any],
    *,
    tables: Mapping[str, pd.DataFrame],
    files: Mapping[str, bytes] | None = None,
    reveal: bool = False,
) -> None:
    """Write tables (Parquet and CSV) and files, and last the manifest.

    Personal data is masked in the CSV, unless `reveal`; Parquet keeps all.

    Raises
    ------
    RunError
        If the folder cannot be written.
    """
    make_own(out)
    for name, frame in tables.items():
        clean, sink = change_texts(frame, storable), io.BytesIO()
        clean.to_parquet(sink, index=False)
        write_atomically(out / f"{name}.parquet", sink.getvalue())
        write_atomically(out / f"{name}.csv", as_csv(clean if reveal else masked(clean)))
    for name, content in (files or {}).items():
        write_atomically(out / name, content)
    write_json(out / manifest, facts)


def write_json(path: Path, facts: Mapping[str, Any]) -> None:
    """A manifest, whole or not at all; a lone surrogate becomes its JSON escape."""
    raw = json.dumps(facts, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    write_atomically(path, storable(raw).encode())


def masked(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame without what rules recognize as personal data."""
    return change_texts(frame, mask_personal)


def storable(text: str) -> str:
    """The text with its lone surrogates as escapes: files, tables and pages cannot hold them.

    They come from JSON, and from names of files that are not UTF-8.

    >>> storable("a\\ud800")
    'a\\\\ud800'
    """
    return text.encode("utf-8", "backslashreplace").decode()


def change_texts(frame: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    """The frame with the change made to each text in it."""
    changed = {
        name: frame[name].map(lambda value: change(value) if isinstance(value, str) else value)
        for name in frame.columns
        if not pd.api.types.is_numeric_dtype(frame[name])
    }
    return frame.assign(**changed)
