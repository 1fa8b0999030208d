"""What is said of a whole way of sampling: its precision, what is left to find, what a find costs.

All of it rests on samples that nothing has selected. Candidates would not do: a score chose them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from attacks.statistics.costs import cost_per_passage
from attacks.statistics.discovery_curve import DiscoveryCurve, discovery_curve, distinct_passages
from attacks.statistics.intervals import proportion
from reports.analysis.dtypes import table_of
from reports.analysis.schema import DISCOVERY, STRATEGIES
from reports.number_text import count

INTERVALS = (
    "95 % intervals. Share of verbatim samples and cost per verbatim sample: Clopper–Pearson, "
    "since samples are drawn independently even if they repeat a passage. Ratio to the cheapest: "
    "the ratio of two Poisson rates (Przyborowski–Wilenski). New passages: Good–Turing. Total: "
    "Chao. Curve: rarefaction (Colwell)."
)
RESTS_ON = (
    (
        "A passage is identified by its first place in the training text; overlapping passages "
        "are one passage."
    ),
    (
        "The estimates assume that samples are drawn independently from one distribution. They "
        "miss passages that are much rarer than those seen once: Chao's total is a lower bound, "
        "and the upper end of its interval does not bound the true total."
    ),
    INTERVALS,
    "Only the given training text was searched: text learned elsewhere is not counted.",
)


@dataclass(frozen=True, eq=False)
class Strategies:
    """What `estimate_strategies` found.

    table : DataFrame
        The frame `strategies`.
    discovery : DataFrame
        The frame `discovery`; no row for a strategy whose samples are not independent.
    """

    table: pd.DataFrame
    discovery: pd.DataFrame


def number_passages(matches: pd.DataFrame) -> pd.Series:
    """The number of the passage of each overlap: equal if overlaps meet in the training text.

    matches : doc_id, doc_offset, n_chars.

    Returns Series of int64, indexed as the frame.

    >>> number_passages(pd.DataFrame({"doc_id": ["b", "a", "b"], "doc_offset": [0, 0, 90],
    ...     "n_chars": [100, 100, 100]})).tolist()
    [1, 0, 1]
    """
    # By name, so that numbers do not depend on the order of the rows.
    documents = pd.factorize(matches["doc_id"], sort=True)[0]
    starts = matches["doc_offset"].to_numpy(np.int64)
    ends = starts + matches["n_chars"].to_numpy(np.int64)
    return pd.Series(distinct_passages(documents, starts, ends), matches.index, dtype=np.int64)


def passages_of(candidates: pd.DataFrame) -> pd.Series:
    """The passage of the longest overlap of each verbatim candidate, as in `number_passages`.

    Returns Series of Int64, one per verbatim candidate; NA if positions are unknown.
    """
    verbatim = candidates[candidates["verdict"] == "verbatim"]
    places = verbatim.reindex(columns=["doc_id", "doc_offset", "match_n_chars"])
    if places.isna().any(axis=None):
        return pd.Series(pd.NA, verbatim.index, dtype="Int64")
    return number_passages(places.rename(columns={"match_n_chars": "n_chars"})).astype("Int64")


def clusters_of(candidates: pd.DataFrame) -> pd.Series:
    """The cluster of each candidate: that of its passage, or its own.

    Returns Series of int64, for `attacks.statistics.intervals.effective_trials`.

    >>> clusters_of(pd.DataFrame({"verdict": ["verbatim", "not found", "verbatim"], "doc_id": "d",
    ...     "doc_offset": [0, None, 50], "match_n_chars": [100, None, 100]})).tolist()
    [0, -2, 0]
    """
    clusters = -1 - np.arange(len(candidates))
    is_verbatim = (candidates["verdict"] == "verbatim").to_numpy()
    passages = passages_of(candidates)
    clusters[is_verbatim] = passages.fillna(pd.Series(clusters[is_verbatim], passages.index))
    return pd.Series(clusters, candidates.index, dtype=np.int64)


def count_passages(candidates: pd.DataFrame) -> tuple[int, int] | None:
    """The numbers of distinct verbatim passages and of the documents that they first occur in.

    None if positions are unknown.
    """
    passages = passages_of(candidates)
    if passages.isna().any():
        return None
    if passages.empty:
        return 0, 0
    return int(passages.nunique()), int(candidates.loc[passages.index, "doc_id"].nunique())


KORN_GRAUBARD, CLOPPER_PEARSON = "Korn–Graubard", "Clopper–Pearson"
_TREATMENT = {
    KORN_GRAUBARD: "with candidates of one passage as one cluster",
    CLOPPER_PEARSON: "which treats repeats of a passage as independent",
}


def interval_of(*, knows_passages: bool) -> str:
    """The method of the interval of a share of candidates."""
    return KORN_GRAUBARD if knows_passages else CLOPPER_PEARSON


def interval_words(method: str) -> str:
    """The method, and what it does with candidates of one passage.

    >>> interval_words(KORN_GRAUBARD)
    'Korn–Graubard, with candidates of one passage as one cluster'
    """
    return f"{method}, {_TREATMENT[method]}"


def effective_of(summary: pd.DataFrame) -> pd.Series:
    """How many independent trials each list is worth: all it holds, where that is not known."""
    n = summary["n_chosen"].astype("float64")
    return summary["n_effective"].fillna(n) if "n_effective" in summary else n


def passage_words(counts: tuple[int, int] | None) -> str:
    """Passages and documents after a number of candidates; "" where there are none.

    >>> passage_words((9, 6)), passage_words((1, 1)), passage_words((0, 0)), passage_words(None)
    (': 9 passages from 6 documents', ': 1 passage from 1 document', '', '')
    """
    if counts is None or not counts[0]:
        return ""
    return f": {count(counts[0], 'passage')} from {count(counts[1], 'document')}"


def estimate_strategies(
    samples: pd.DataFrame,
    matches: pd.DataFrame | None,
    looked_up: Mapping[str, int],
    *,
    dependent: Mapping[str, str] | None = None,
) -> Strategies:
    """Precision, passages, what is left and cost of each strategy, from unselected samples.

    samples : sample_id, strategy, n_tokens of every sample, in the order of drawing.
    matches : every overlap of the samples that were looked up, as in the frame `matches`; None = no
        training text was given.
    looked_up : mapping of strategy to int. How many samples of it were looked up: its first ones.
    dependent : mapping of strategy to str, optional. Why the samples of a strategy are not
        independent; its estimates are withheld.

    Source
    ------
    As `attacks.statistics.richness` and `attacks.statistics.discovery_curve`; intervals are 95 %.

    Two samples hold one passage, a third none; of the next sample nothing new is expected:

    >>> samples = pd.DataFrame({"sample_id": ["a", "b", "c"], "strategy": "top-n", "n_tokens": 9})
    >>> matches = pd.DataFrame({"sample_id": ["a", "b"], "doc_id": "d", "doc_offset": [0, 50],
    ...     "n_chars": 100})
    >>> estimate_strategies(samples, matches, {"top-n": 3}).table[["n_passages", "new_rate"]].values
    array([[1., 0.]])
    """
    found = None if matches is None else matches.assign(passage=number_passages(matches))
    rows, curves = [], []
    for strategy, own in samples.groupby("strategy", sort=False, observed=True):
        n = 0 if found is None else looked_up.get(str(strategy), 0)
        rows.append({"strategy": strategy, "n_samples": len(own)})
        if found is None or not n:
            rows[-1] |= _not_checked(own)
            continue
        drawn = own.head(n)
        places = pd.Series(np.arange(n), drawn["sample_id"])
        hits = found[found["sample_id"].isin(places.index)]
        at, what = places.loc[hits["sample_id"]].to_numpy(), hits["passage"].to_numpy()
        curve = discovery_curve(at, what, drawn["n_tokens"].to_numpy())
        why = (dependent or {}).get(str(strategy), "")
        rows[-1] |= _checked(drawn, len(np.unique(at)), curve, why)
        if not why:
            curves.append(_curve(str(strategy), curve))
    discovery = pd.concat(curves, ignore_index=True) if curves else []
    return Strategies(table_of(rows, STRATEGIES), table_of(discovery, DISCOVERY))


_ESTIMATES = ("new_rate", "new_rate_low", "new_rate_high", "total", "total_low", "total_high")


def _not_checked(own: pd.DataFrame) -> dict:
    counts = dict.fromkeys(("n_looked_up", "n_verbatim", "n_passages", "n_once", "n_twice"), 0)
    why = "no training text was given"
    return {**counts, "n_tokens": int(own["n_tokens"].sum()), "withheld": why}


def _checked(drawn: pd.DataFrame, n_verbatim: int, curve: DiscoveryCurve, why: str) -> dict:
    left, n_tokens = curve.left, int(drawn["n_tokens"].sum())
    share = proportion(n_verbatim, len(drawn))
    cost = cost_per_passage(n_verbatim, len(drawn), float(n_tokens))
    row = {
        "n_looked_up": len(drawn),
        "n_tokens": n_tokens,
        "n_verbatim": n_verbatim,
        "precision": share.value,
        "n_passages": left.n_distinct,
        "n_once": left.n_once,
        "n_twice": left.n_twice,
        "tokens_per_verbatim": cost.value,
        "tokens_per_passage": n_tokens / left.n_distinct if left.n_distinct else np.inf,
        "withheld": why or left.withheld,
    }
    if why:  # a count stays a count; an interval or an estimate would be wrong
        return row
    row |= {"precision_low": share.low, "precision_high": share.high}
    row |= {"tokens_per_verbatim_low": cost.low, "tokens_per_verbatim_high": cost.high}
    return row | {name: getattr(left, name) for name in _ESTIMATES}


def _curve(strategy: str, curve: DiscoveryCurve) -> pd.DataFrame:
    names = ("n_samples", "n_tokens", "observed", "expected", "low", "high")
    return pd.DataFrame({"strategy": strategy} | {name: getattr(curve, name) for name in names})
