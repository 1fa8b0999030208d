"""The figures of a run that gates and trends use, with confidence intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd

from attacks.statistics.intervals import Estimate, exposure_interval, highest_rate
from auditor.errors import RunError
from auditor.runs.run import Run
from reports.analysis.found_verbatim import Found, counted, found_verbatim
from reports.analysis.schema import CONTROL
from reports.analysis.strategy_estimates import CLOPPER_PEARSON, effective_of
from reports.analysis.summary import list_interval
from reports.listed import listed


def verified(run: Run) -> Found:
    """Number of candidates found verbatim among those verified; see `found_verbatim`."""
    return found_verbatim(run.candidates())


def precision(run: Run, *, by_low_end: bool = False) -> Found | None:
    """The highest precision of any list, with an interval that is corrected for the selection.

    Selected by the precision itself, or by the low end of its interval. None if no list has a
    verified candidate.
    """
    rows = run.summary()
    rows = rows[(rows["score"] != CONTROL) & rows["precision"].notna() & (rows["n_chosen"] > 0)]
    if rows.empty:
        return None
    at, interval = highest_rate(
        rows["n_verbatim"], rows["n_chosen"], by_low_end=by_low_end, effective=effective_of(rows)
    )
    row = rows.iloc[at]
    passages = None
    if pd.notna(row.get("n_passages")):
        passages = int(row["n_passages"]), int(row["n_distinct_documents"])
    of = f"{row['score']} on {row['strategy']}"
    method = list_interval(rows)
    return Found(**vars(interval) | {"n": len(rows)}, of=of, passages=passages, interval=method)


def exposure(run: Run, *, by_low_end: bool = False) -> Found | None:
    """The highest exposure of any canary, with an interval that is corrected for the selection.

    If the space was enumerated, the interval is a point. Otherwise it covers the sampling error of
    the number of controls as likely as the canary; it does not cover the distribution assumed for
    an extrapolated exposure. Selected by the exposure itself, or by the low end of its interval.
    None if there is no canary.
    """
    frame = run.exposure()
    rows = frame[frame["role"] == "canary"].reset_index(drop=True)
    if rows.empty:
        return None
    intervals = [_bits(row, len(rows)) for row in rows.to_dict("records")]
    at = int(np.argmax([i.low if by_low_end else i.value for i in intervals]))
    is_exact = rows.loc[at, "method"] == "enumerated"
    return Found(
        **vars(intervals[at]) | {"n": len(rows)},
        of=str(rows.loc[at, "canary_id"]),
        interval="exact" if is_exact else CLOPPER_PEARSON,
    )


def _bits(row: dict, n_canaries: int) -> Estimate:
    value = float(row["exposure"])
    if row["method"] == "enumerated":
        return Estimate(value, value, value)
    n = int(row["n_controls"])
    # interpolated = log2(n + 1) - log2(k + 1), where k controls are as likely.
    k = round((n + 1) / 2 ** float(row["interpolated"])) - 1
    bits = float(row["space_bits"])
    low, high = exposure_interval(k, n, bits, confidence=1 - 0.05 / n_canaries)
    return Estimate(value, low, high)


def personal_data(run: Run) -> Found:
    """Number of candidates that contain personal data by the rules of `reports.privacy`.

    Raises a RunError if the run was not searched for personal data.
    """
    if not has_personal_data(run):
        raise RunError(
            f"gates.max_personal_data needs a search for personal data; {run.path} has none. "
            f"Rebuild its report with: auditor report {run.path}; or remove the gate."
        )
    rows = listed(run.candidates())
    return counted(rows, rows[PERSONAL] > 0)


PERSONAL = "n_personal"


def has_personal_data(run: Run) -> bool:
    """Whether a run was searched for personal data."""
    return PERSONAL in run.candidates()
