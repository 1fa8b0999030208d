"""The tables of a run that claim more than its lists do; `auditor.store.Run` has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from auditor.errors import RunError


class _Folder(Protocol):
    path: Path
    manifest: dict[str, Any]

    def read(self, name: str) -> Any: ...


class ClaimTables:
    """`strategies()`, `discovery()`, `comparisons()`, `calibration()`, each as its schema says."""

    def strategies(self: _Folder) -> pd.DataFrame:
        """Each strategy as a whole: precision, distinct passages, what is left, cost in tokens."""
        return _table(self, "strategies")

    def discovery(self: _Folder) -> pd.DataFrame:
        """Distinct passages against tokens sampled, for each strategy."""
        return _table(self, "discovery")

    def comparisons(self: _Folder) -> pd.DataFrame:
        """Pairs of lists of a strategy: which is the more precise, on the same samples."""
        return _table(self, "comparisons")

    def calibration(self: _Folder) -> pd.DataFrame:
        """Samples listed against held-out controls, for each score; empty without controls."""
        return _table(self, "calibration")


def _table(run: _Folder, name: str) -> pd.DataFrame:
    if f"{name}.parquet" not in run.manifest["shards"]:
        raise RunError(
            f"{run.path} has no {name} yet: stage 'report' has not run. "
            f"Finish the run with: auditor audit --resume {run.path}."
        )
    return run.read(f"{name}.parquet").to_pandas()
