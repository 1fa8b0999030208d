"""The folder of an extraction: the settings, tables as Parquet and CSV, figures, a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from auditor.runs.result_folder import read_json, refuse_other, save

_MANIFEST = "extraction.json"


def refuse_other_extraction(out: Path, asked: Mapping[str, Any]) -> None:
    """An error unless the folder is free, or holds an extraction with these settings.

    Raises
    ------
    RunError
    """
    there = (read_json(out / _MANIFEST) or {}).get("asked")
    refuse_other(out, _MANIFEST, "an extraction", there, asked)


def save_extraction(
    out: Path,
    asked: Mapping[str, Any],
    *,
    tables: Mapping[str, pd.DataFrame],
    files: Mapping[str, bytes] | None = None,
    facts: Mapping[str, Any],
    reveal: bool,
) -> None:
    """Write tables and files, and last extraction.json.

    Raises
    ------
    RunError
        If the folder holds something else, or cannot be written.
    """
    refuse_other_extraction(out, asked)
    manifest = {"asked": dict(asked), **facts, "revealed": reveal}
    save(out, _MANIFEST, manifest, tables=tables, files=files, reveal=reveal)
