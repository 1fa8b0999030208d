"""Folders of results: write access, tables as Parquet and CSV, and the manifest.

Used by audits, extractions, membership audits, comparisons, fine-tunings, testbeds and indexes. A
folder is readable by its owner only and written by one process; files are written atomically, and
the manifest last.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from auditor.errors import RunError
from auditor.runs.manifest import differences
from auditor.system.atomic_files import disk_trouble, is_free, make_private, write_atomically
from reports.csv_files import as_csv
from reports.privacy.finding import Finder
from reports.privacy.redaction import mask_personal


def read_json(file: Path) -> dict[str, Any] | None:
    """A manifest as a dict; None if it is missing or invalid."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def refuse_other(
    out: Path, manifest: str, noun: str, there: Any, settings: Mapping[str, Any]
) -> None:
    """Raise a RunError unless the folder is free, or has a result of the same settings.

    manifest : name of the manifest's file
    noun : the kind of result, with its article: "a run"
    there : the settings in the manifest; None = there is no manifest
    settings : the settings of this call
    """
    if not isinstance(there, dict):
        with disk_trouble(out):
            if is_free(out, manifest):
                return
        raise foreign_folder(out, noun)
    # Through JSON, as the stored settings were.
    if different := differences(there, json.loads(json.dumps(settings))):
        raise RunError(
            f"--out {out} holds another {noun.partition(' ')[2]}: {'; '.join(different)}. Choose "
            "another --out, use the same settings to resume it, or delete the folder."
        )


def foreign_folder(out: str | Path, noun: str) -> RunError:
    """The error about a folder that contains something else than `noun`."""
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
    more: Iterable[Finder] = (),
) -> None:
    """Write tables (Parquet and CSV) and files, then the manifest.

    Personal data, and what `more` finders find, is masked in the CSV, unless `reveal`; Parquet
    keeps it.
    """
    make_private(out)
    for name, frame in tables.items():
        clean, sink = change_texts(frame, storable), io.BytesIO()
        clean.to_parquet(sink, index=False)
        write_atomically(out / f"{name}.parquet", sink.getvalue())
        write_atomically(out / f"{name}.csv", as_csv(clean if reveal else masked(clean, more)))
    for name, content in (files or {}).items():
        write_atomically(out / name, content)
    write_json(out / manifest, facts)


def write_json(path: Path, facts: Mapping[str, Any]) -> None:
    """Write a manifest atomically; lone surrogates become JSON escapes."""
    raw = json.dumps(facts, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    write_atomically(path, storable(raw).encode())


def masked(frame: pd.DataFrame, more: Iterable[Finder] = ()) -> pd.DataFrame:
    """The frame with personal data masked, as the rules and `more` finders recognize it."""
    return change_texts(frame, partial(mask_personal, more=tuple(more)))


def storable(text: str) -> str:
    """Escape lone surrogates (from JSON or non-UTF-8 file names), which cannot be encoded.

    >>> storable("a\\ud800")
    'a\\\\ud800'
    """
    return text.encode("utf-8", "backslashreplace").decode()


def change_texts(frame: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    """Apply `change` to every text in a frame."""
    changed = {
        name: frame[name].map(lambda value: change(value) if isinstance(value, str) else value)
        for name in frame.columns
        if not pd.api.types.is_numeric_dtype(frame[name])
    }
    return frame.assign(**changed)
