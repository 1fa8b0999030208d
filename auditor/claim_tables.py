"""The tables of a run that claim more than its lists do; `auditor.store.Run` has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import pandas as pd

from auditor.frames import read_frame
from reports import schema

if TYPE_CHECKING:
    from auditor.store import Run


class ClaimTables:
    """`strategies()`, `discovery()`, `comparisons()`, `calibration()`, `known_truth()`: each as its
    schema says."""

    def strategies(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Each strategy as a whole: precision, distinct passages, what is left, cost in tokens."""
        return read_frame(cast("Run", self), schema.STRATEGIES, columns)

    def discovery(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Distinct passages against tokens sampled, for each strategy."""
        return read_frame(cast("Run", self), schema.DISCOVERY, columns)

    def comparisons(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Pairs of lists of a strategy: which is the more precise, on the same samples."""
        return read_frame(cast("Run", self), schema.COMPARISONS, columns)

    def calibration(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Samples listed against held-out controls, for each score; empty without controls."""
        return read_frame(cast("Run", self), schema.CALIBRATION, columns)

    def known_truth(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """How many documents came out, by repeats; only of a run that was given a truth."""
        return read_frame(cast("Run", self), schema.KNOWN_TRUTH, columns)
