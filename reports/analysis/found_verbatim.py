"""The headline of a run: how many of its candidates were found verbatim. Every surface asks here.

The table `candidates` also holds samples that only the random control lists (`is_control`). They
are not candidates and count nowhere.
"""

from dataclasses import dataclass

import pandas as pd

from attacks.statistics.intervals import Estimate, count_interval, effective_trials
from reports.analysis.strategy_estimates import clusters_of, count_passages, interval_of
from reports.listed import listed


@dataclass(frozen=True)
class Found(Estimate):
    """A figure of a run, in counts, shares or bits; n = number of candidates, lists or canaries.

    of : the list or canary that it belongs to; "" = the whole run
    passages : distinct passages among the verbatim candidates, and their documents; None = unknown
    interval : the method of the interval
    """

    of: str = ""
    passages: tuple[int, int] | None = None
    interval: str = ""


def found_verbatim(candidates: pd.DataFrame) -> Found:
    """The number of candidates found verbatim, of those that were checked.

    candidates : the frame `candidates`

    Returns a Found, in candidates; its interval is that of as many candidates at the same rate, by
    Korn and Graubard, with candidates of one passage as one cluster.

    >>> found_verbatim(pd.DataFrame({"best_rank": [1, 2, None], "verdict": ["verbatim", "not found",
    ...     "verbatim"], "doc_id": ["d", None, "d"], "doc_offset": 0, "match_n_chars": 99})).n
    2
    """
    checked = listed(candidates)
    checked = checked[checked["verdict"] != "not checked"]
    return counted(checked, checked["verdict"] == "verbatim", passages=count_passages(checked))


def counted(
    rows: pd.DataFrame, hits: pd.Series, *, passages: tuple[int, int] | None = None
) -> Found:
    """The number of hits among candidates, with the interval of `found_verbatim`."""
    n, worth = len(rows), effective_trials(clusters_of(rows))
    estimate = count_interval(int(hits.sum()), n, effective=worth[-1] if n else None)
    method = interval_of(knows_passages=count_passages(rows) is not None)
    return Found(**vars(estimate), passages=passages, interval=method)


def headline_counts(candidates: pd.DataFrame) -> dict[str, float | int | None]:
    """`found_verbatim` as plain data: of a run's JSON, its notification and `Runs.overview`.

    Returns dict: n_candidates (checked), n_verbatim, share, low, high, n_passages, n_documents;
    empty if no candidate was checked.
    """
    found = found_verbatim(candidates)
    if not found.n:
        return {}
    share, low, high = (end / found.n for end in (found.value, found.low, found.high))
    n_passages, n_documents = found.passages or (None, None)
    return {
        "n_candidates": found.n,
        "n_verbatim": int(found.value),
        "share": share,
        "low": low,
        "high": high,
        "n_passages": n_passages,
        "n_documents": n_documents,
    }


def verdict_counts(candidates: pd.DataFrame) -> dict[str, int]:
    """How many candidates have each verdict, without verdicts that none has.

    >>> verdict_counts(pd.DataFrame({"best_rank": [1, None], "verdict": ["fuzzy", "verbatim"]}))
    {'fuzzy': 1}
    """
    counts = listed(candidates)["verdict"].value_counts()
    return {str(verdict): int(n) for verdict, n in counts.items() if n}
