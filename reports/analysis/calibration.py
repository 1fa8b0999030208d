"""Lists whose share of false entries is held: samples of a run against held-out controls."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from attacks.statistics.false_discovery import calibrated_list
from attacks.statistics.intervals import clopper_pearson
from attacks.statistics.multiplicity import benjamini_hochberg
from attacks.statistics.roc import auc
from reports.analysis.dtypes import table_of
from reports.analysis.schema import CALIBRATION, HELD_OUT, score_names

LOW_ESTIMATE = (
    "The estimated number of false entries is too low, more so for short lists, because a list "
    "ends where few entries seem false. The guarantee is on the rate, averaged over lists."
)
ASSUMES = (
    (
        "A sample that is not memorized scores like a control. Controls are held-out text of the "
        "same kind and length, after a prefix of the same length."
    ),
    "The score was chosen in advance: the rate holds for each list, not for all lists together.",
    "All samples of a strategy are tested, so selection of candidates does not bias the lists.",
    LOW_ESTIMATE,
)
# A list is withheld only if samples and controls differ at this confidence.
_CONFIDENCE = 0.99
_LEAST = 5  # of samples that were not found, for that comparison


@dataclass(frozen=True, eq=False)
class Calibration:
    """What `calibrate` found.

    table : DataFrame
        The frame `calibration`.
    samples : DataFrame
        sample_id, and for each score p_value:NAME and q_value:NAME; q is the least false
        discovery rate at which the sample is listed, NaN where the list is withheld.
    """

    table: pd.DataFrame
    samples: pd.DataFrame


def calibrate(
    scores: pd.DataFrame,
    controls: Mapping[str, pd.DataFrame],
    *,
    fdr: float,
    verbatim: set[str] | None = None,
    looked_up: set[str] | None = None,
    reasons: Mapping[str, str] | None = None,
) -> Calibration:
    """Conformal p-values of all samples against controls, and the list of each score at this rate.

    scores : the frame `scores`.
    controls : mapping of strategy to DataFrame. The same scores of known non-members, a row each.
    verbatim, looked_up : sets of sample_id, optional. Samples found verbatim, and those that were
        looked up at all. With them the assumption is checked: a list is withheld where samples that
        were not found score above the controls, or where more of the list was not found than the
        rate allows. (They may be memorized from text that was not given; the list claims
        nothing either way.)
    reasons : mapping of strategy to str, optional. Why a strategy has no controls.

    Source
    ------
    As `attacks.statistics.false_discovery.calibrated_list`.

    >>> scores = pd.DataFrame({"sample_id": ["a", "b"], "strategy": "s", "zlib": [9.0, 0.5]})
    >>> made = calibrate(scores, {"s": pd.DataFrame({"zlib": np.arange(0, 4, 0.1)})}, fdr=0.05)
    >>> made.table[["n_listed", "n_controls"]].values.tolist()
    [[1, 40]]
    """
    rows, parts = [], []
    for name, own in scores.groupby("strategy", sort=False, observed=True):
        strategy = str(name)
        part = own[["sample_id"]].copy()
        for score in score_names(scores):
            row = {"strategy": strategy, "score": score, "fdr": fdr, "controls": HELD_OUT}
            beside = controls.get(strategy)
            if beside is None or not (own[score].notna().any() and beside[score].notna().any()):
                why = "the score is undefined"
                if beside is None:
                    why = (reasons or {}).get(strategy, "there are no controls")
                rows.append(row | _withheld(own[score], beside, score, why))
                part[f"p_value:{score}"] = part[f"q_value:{score}"] = np.nan
                continue
            made = calibrated_list(
                own[score].to_numpy(float), beside[score].to_numpy(float), fdr=fdr
            )
            row |= {"n_samples": made.n_candidates, "n_controls": made.n_controls}
            row |= {"n_undefined": made.n_undefined}
            listed = set(own["sample_id"].iloc[made.chosen])
            told, why = _checked(own, beside[score], score, verbatim, looked_up)
            why = made.withheld or why or _too_many(listed, verbatim, looked_up, fdr)
            row |= told | {"withheld": why}
            part[f"p_value:{score}"] = made.p_values
            q_values = benjamini_hochberg(made.p_values)
            part[f"q_value:{score}"] = np.nan if why else q_values
            if not why:
                row |= {"n_listed": len(listed), "estimated_false": made.estimated_false}
                row["least_fdr"] = float(np.nanmin(q_values))
                if verbatim is not None and looked_up is not None:
                    row["n_listed_looked_up"] = len(listed & looked_up)
                    row["n_listed_verbatim"] = len(listed & looked_up & verbatim)
            rows.append(row)
        parts.append(part)
    return Calibration(table_of(rows, CALIBRATION), pd.concat(parts, ignore_index=True))


def no_calibration() -> pd.DataFrame:
    """The frame `calibration` of a run without controls: no rows."""
    return table_of([], CALIBRATION)


def _withheld(values: pd.Series, beside: pd.DataFrame | None, score: str, why: str) -> dict:
    n_controls = 0 if beside is None else int(beside[score].notna().sum())
    n_undefined = int(values.isna().sum()) + (0 if beside is None else len(beside) - n_controls)
    counts = {"n_samples": int(values.notna().sum()), "n_controls": n_controls}
    return {**counts, "n_undefined": n_undefined, "withheld": why}


def _checked(
    own: pd.DataFrame,
    controls: pd.Series,
    score: str,
    verbatim: set[str] | None,
    looked_up: set[str] | None,
) -> tuple[dict, str]:
    """How samples that were not found score beside the controls, and whether that is a reason."""
    if verbatim is None or looked_up is None:
        return {}, ""
    ids = own["sample_id"]
    rest = own.loc[ids.isin(looked_up) & ~ids.isin(verbatim), score].dropna()
    if len(rest) < _LEAST or controls.notna().sum() < _LEAST:
        return {}, ""
    made = auc(rest.to_numpy(float), controls.to_numpy(float), confidence=_CONFIDENCE)
    told = {"auc_not_found": made.value, "auc_low": made.low, "auc_high": made.high}
    if made.low <= 0.5:
        return told, ""
    return told, (
        f"samples that were not found score above the controls (AUC {made.value:.2f}, 99 % "
        f"interval {made.low:.2f}–{made.high:.2f})"
    )


def _too_many(
    listed: set[str], verbatim: set[str] | None, looked_up: set[str] | None, fdr: float
) -> str:
    """A reason where more of the list was not found than the rate leaves room for."""
    if verbatim is None or looked_up is None:
        return ""
    n, n_lost = len(listed & looked_up), len((listed & looked_up) - verbatim)
    # Of a two-sided interval each side has half of what is left out.
    low, _ = clopper_pearson(n_lost, n, confidence=2 * _CONFIDENCE - 1)
    if low <= fdr:
        return ""
    return f"{n_lost:,} of {n:,} listed were not found, more than a rate of {100 * fdr:g} % allows"
