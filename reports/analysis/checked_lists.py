"""Shortlists at a false discovery rate, calibrated by verifying a random half of each."""

from typing import Any

import numpy as np
import pandas as pd

from attacks.statistics.false_discovery import half_checked_list, random_half
from attacks.statistics.intervals import effective_trials
from reports.analysis.calibration import LOW_ESTIMATE, Calibration
from reports.analysis.dtypes import table_of
from reports.analysis.schema import CALIBRATION, CHECKED, score_names
from reports.analysis.strategy_estimates import clusters_of, count_passages

ASSUMES = (
    (
        "A random half of each shortlist is verified, chosen after duplicates were removed. Down "
        "to any rank, the unverified half has on average as many false entries as the verified "
        "half. This assumes nothing about the scores and needs no held-out text."
    ),
    (
        "False means not found verbatim in the given training text. Text memorized from other "
        "sources counts as false, so lists tend to be too short rather than too long."
    ),
    (
        "The rate holds on average over random halves: a single list, above all a short one, can "
        "exceed it. It holds for each list separately: choose the score in advance."
    ),
    "The number of listed samples that were not found was counted after the list was made.",
    LOW_ESTIMATE,
)
_FOUND = "verbatim"
_UNCHECKED = "not checked"


def calibrate_by_checks(candidates: pd.DataFrame, *, fdr: float, seed: int = 0) -> Calibration:
    """The unverified entries of each shortlist that can be listed at this rate.

    candidates : the frame `candidates`, with verdicts; a list is the rows that have its rank.
    seed : random seed of the halves.

    Returns:
    Calibration; its samples have q_value:NAME alone, NaN for what was checked or is not on the
    list.

    Source
    ------
    As `attacks.statistics.false_discovery.half_checked_list`.

    >>> frame = pd.DataFrame({"sample_id": [str(i) for i in range(40)], "strategy": "s",
    ...     "zlib": 1.0, "rank:zlib": range(1, 41), "verdict": "verbatim"})
    >>> made = calibrate_by_checks(frame, fdr=0.1).table.iloc[0]
    >>> bool(made["n_listed"] == made["n_samples"] > 10), made["withheld"]
    (True, '')
    """
    candidates = candidates.reset_index(drop=True)
    scores = [name for name in score_names(candidates) if f"rank:{name}" in candidates]
    q_values = pd.DataFrame(index=candidates.index)
    rows = []
    for score in scores:
        column = np.full(len(candidates), np.nan)
        for strategy, own in candidates.groupby("strategy", sort=False, observed=True):
            ranked = own[own[f"rank:{score}"].notna()].sort_values(f"rank:{score}")
            row = {"strategy": str(strategy), "score": score, "fdr": fdr, "controls": CHECKED}
            told, values = _one(ranked, fdr, seed)
            rows.append(row | told)
            column[ranked.index] = values
        q_values[f"q_value:{score}"] = column
    table = table_of(rows, CALIBRATION)
    order = {str(name): at for at, name in enumerate(candidates["strategy"].unique())}
    table = table.sort_values("strategy", key=lambda s: s.astype(str).map(order), kind="stable")
    samples = pd.concat([candidates[["sample_id"]], q_values], axis=1)
    return Calibration(table.reset_index(drop=True), samples)


def _one(ranked: pd.DataFrame, fdr: float, seed: int) -> tuple[dict, np.ndarray]:
    """One list's row and the q-values of its entries."""
    nothing = np.full(len(ranked), np.nan)
    if (ranked["verdict"] == _UNCHECKED).any():
        why = "the training text was not searched"
        return {"n_samples": 0, "n_controls": 0, "n_undefined": 0, "withheld": why}, nothing
    found = (ranked["verdict"] == _FOUND).to_numpy()
    made = half_checked_list(random_half(ranked["sample_id"], seed=seed), found, fdr=fdr)
    row: dict[str, Any] = {"n_samples": made.n_unchecked, "n_controls": made.n_checked}
    row |= {"n_undefined": 0, "withheld": made.withheld}
    if made.withheld:
        return row, nothing
    n = len(made.chosen)
    row |= {"n_listed": n, "estimated_false": made.estimated_false, "n_listed_looked_up": n}
    row["least_fdr"] = float(np.nanmin(made.q_values))
    row["n_listed_verbatim"] = int(found[made.chosen].sum())
    listed = ranked.iloc[made.chosen]
    if n and count_passages(listed) is not None:
        row["n_listed_effective"] = effective_trials(clusters_of(listed))[-1]
    return row, made.q_values
