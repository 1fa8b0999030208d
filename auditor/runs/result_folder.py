"""The folder of an extraction: what was asked, tables as Parquet and CSV, figures, a page."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from auditor.errors import RunError
from auditor.system.atomic_files import make_own, write_atomically
from reports.csv_files import write_csv

_MANIFEST = "extraction.json"


def refuse_other(out: Path, asked: Mapping[str, Any]) -> None:
    """An error unless the folder is free, or holds an extraction of just this.

    Raises
    ------
    RunError
        If it holds something else, or cannot be looked into.
    """
    try:
        if not out.exists() or (out.is_dir() and not any(out.iterdir())):
            return
        there = json.loads((out / _MANIFEST).read_text(encoding="utf-8"))["asked"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise RunError(
            f"--out {out} exists and is not an extraction's folder. Choose another --out, or "
            "empty it."
        ) from None
    wanted = json.loads(json.dumps(asked))
    names = sorted({*there, *wanted}) if isinstance(there, dict) else []
    different = [name for name in names if there.get(name) != wanted.get(name)]
    if different or not names:
        raise RunError(
            f"--out {out} holds another extraction (its {', '.join(different)} differ). Choose "
            "another --out, or delete the folder."
        )


def save(
    out: Path,
    asked: Mapping[str, Any],
    *,
    tables: Mapping[str, pd.DataFrame],
    files: Mapping[str, bytes],
    facts: Mapping[str, Any],
) -> None:
    """Write tables (Parquet and CSV) and files, each whole or not at all, and last the manifest.

    Raises
    ------
    RunError
        If the folder holds something else, or cannot be written.
    """
    refuse_other(out, asked)
    make_own(out)
    for name, frame in tables.items():
        sink = io.BytesIO()
        frame.to_parquet(sink, index=False)
        write_atomically(out / f"{name}.parquet", sink.getvalue())
        text = io.StringIO()
        write_csv(frame, text)
        write_atomically(out / f"{name}.csv", text.getvalue().encode("utf-8"))
    for name, content in files.items():
        write_atomically(out / name, content)
    manifest = {"asked": dict(asked), **facts}
    raw = json.dumps(manifest, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    write_atomically(out / _MANIFEST, raw.encode("utf-8", "backslashreplace"))
