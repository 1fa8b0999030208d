"""The result folder of an extraction: settings, tables (Parquet and CSV), figures, page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from auditor.runs.result_folder import read_json, refuse_other, save
from reports.privacy.finding import Finder

_MANIFEST = "extraction.json"


def refuse_other_extraction(out: Path, settings: Mapping[str, Any]) -> None:
    """Raise RunError unless the folder is free or has an extraction with these settings."""
    found = (read_json(out / _MANIFEST) or {}).get("asked")
    refuse_other(out, _MANIFEST, "an extraction", found, settings)


def save_extraction(
    out: Path,
    settings: Mapping[str, Any],
    *,
    tables: Mapping[str, pd.DataFrame],
    files: Mapping[str, bytes] | None = None,
    facts: Mapping[str, Any],
    reveal: bool,
    more: Iterable[Finder] = (),
) -> None:
    """Write tables and files, then extraction.json. Raises RunError if the folder is in use."""
    refuse_other_extraction(out, settings)
    manifest = {"asked": dict(settings), **facts, "revealed": reveal}
    save(out, _MANIFEST, manifest, tables=tables, files=files, reveal=reveal, more=more)
