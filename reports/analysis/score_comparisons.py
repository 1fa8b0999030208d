"""Which of two scores makes the more precise list: compared on the same samples."""

from itertools import combinations

import numpy as np
import pandas as pd

from attacks.statistics.costs import compare_lists
from attacks.statistics.multiplicity import holm
from reports.analysis.dtypes import table_of
from reports.analysis.schema import COMPARISONS, CONTROL
from reports.analysis.strategy_estimates import clusters_of


def compare_scores(
    candidates: pd.DataFrame, counts: pd.DataFrame, *, longest: int | None = None
) -> pd.DataFrame:
    """Every pair of lists of a strategy, with the random control: the frame `comparisons`.

    Lists that are empty or were not verified have no row. The control is second in its pairs.

    candidates : the frame `candidates`
    counts : strategy and score of every list, as in `Shortlist.counts` or the frame `summary`
    longest : cut longer lists to this length; None = compare whole lists

    Source
    ------
    As `attacks.statistics.costs.compare_lists` (Tango's intervals), candidates that show one
    passage as one cluster; p-values are corrected by Holm for all rows, intervals are of each row
    alone.

    Three samples are listed by each; the verbatim "a" stands on both, "b" on one list alone:

    >>> candidates = pd.DataFrame({"sample_id": list("abcd"), "strategy": "top-n",
    ...     "rank:zlib": [1, 2, 3, None], "rank:random": [1, None, 2, 3],
    ...     "verdict": ["verbatim", "verbatim", "not found", "not found"]})
    >>> counts = pd.DataFrame({"strategy": "top-n", "score": ["zlib", "random"]})
    >>> compare_scores(candidates, counts)[["first", "second", "n_first_only", "p_value"]].values
    array([['zlib', 'random', 1, 1.0]], dtype=object)
    """
    rows = []
    candidates = candidates.assign(cluster=clusters_of(candidates).to_numpy())
    for strategy, lists in counts.groupby("strategy", sort=False, observed=True):
        own = candidates[candidates["strategy"] == strategy]
        if (own["verdict"] == "not checked").any():
            continue
        names = sorted(lists["score"], key=lambda score: score == CONTROL)
        ranked = {name: _in_order(own, name) for name in names}
        verified = (own["verdict"] == "verbatim").to_numpy()
        for first, second in combinations([n for n in names if len(ranked[n])], 2):
            lengths = len(ranked[first]), len(ranked[second])
            k = min(*lengths, longest or max(lengths))
            lists_of_k = ranked[first][:k], ranked[second][:k]
            made = compare_lists(verified, *lists_of_k, clusters=own["cluster"])
            rows.append(
                {"strategy": strategy, "first": first, "second": second, "k": k}
                | {"n_first_only": made.n_first_only, "n_second_only": made.n_second_only}
                | {"difference": made.value, "low": made.low, "high": made.high}
                | {"p_value": made.p_value}
            )
    frame = table_of(rows, COMPARISONS)
    return frame.assign(p_corrected=holm(frame["p_value"].to_numpy(float)))


def above_random(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Each list against a random list of the same length, corrected for all lists of the run.

    Returns DataFrame: strategy, score, above_random, above_random_low, above_random_high,
    p_above_random

    >>> above_random(pd.DataFrame({"strategy": "top-n", "first": ["zlib"], "second": ["random"],
    ...     "difference": [0.5], "low": [0.2], "high": [0.6], "p_value": [0.01]})).iloc[0, 2].item()
    0.5
    """
    beside = comparisons[comparisons["second"] == CONTROL]
    return pd.DataFrame(
        {
            "strategy": beside["strategy"],
            "score": beside["first"],
            "above_random": beside["difference"],
            "above_random_low": beside["low"],
            "above_random_high": beside["high"],
            "p_above_random": holm(beside["p_value"].to_numpy(float)),
        }
    )


def _in_order(own: pd.DataFrame, name: str) -> np.ndarray:
    """Places in the frame of a list's candidates, the top one first."""
    column = f"rank:{name}"
    if column not in own:
        return np.array([], dtype=np.int64)
    ranks = own[column].to_numpy(dtype=float, na_value=np.nan)
    return np.argsort(ranks, kind="stable")[: np.count_nonzero(~np.isnan(ranks))]
