"""Precision of ranked lists and cost per verified passage, to compare strategies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from attacks.statistics.intervals import Estimate, clopper_pearson, effective_trials, proportion
from attacks.statistics.resampling import paired_proportions


@dataclass(frozen=True)
class ListDifference(Estimate):
    """Precision of one list minus that of another; made by `compare_lists`.

    value, low, high : float
        Difference of the two precisions, with Tango's interval.
    n : int
        Length of each list.
    p_value : float
        Two-sided exact McNemar test of equal precision.
    n_first_only, n_second_only : int
        Verified samples that are on one list only.
    """

    p_value: float = math.nan
    n_first_only: int = 0
    n_second_only: int = 0


@dataclass(frozen=True)
class Cost(Estimate):
    """Cost of one verified passage; made by `cost_per_passage`.

    value, low, high : float
        In the unit of the effort: tokens, seconds, money. Infinite if none was verified.
    n : int
        Number of verified passages.
    effort : float
        Total effort.
    """

    effort: float = 0.0


def precision_at_k(
    is_verified: ArrayLike,
    ks: Sequence[int] = (10, 100),
    *,
    confidence: float = 0.95,
    clusters: ArrayLike | None = None,
) -> dict[int, Estimate]:
    """Precision among the first k of a ranked list, for each k up to its length.

    Parameters
    ----------
    is_verified : bool array (n_listed,)
        In rank order, the most suspicious first.
    ks : sequence of int, 1 or more
        Values above the length of the list are left out of the result.
    confidence : float, between 0 and 1
    clusters : int array (n_listed,), optional
        Equal numbers mark repeats of one passage, as in `effective_trials`; they widen intervals.

    Raises
    ------
    ValueError
        If a k is below 1.

    >>> made = precision_at_k([True, True, False, False], [1, 4, 100])
    >>> [(k, p.value) for k, p in made.items()]
    [(1, 1.0), (4, 0.5)]
    """
    if any(k < 1 for k in ks):
        raise ValueError(f"k must be 1 or more; got {min(ks)}. Pass lengths of lists.")
    found = np.cumsum(np.asarray(is_verified, dtype=bool))
    worth = effective_trials(np.arange(len(found)) if clusters is None else clusters)
    return {
        k: proportion(int(found[k - 1]), k, confidence=confidence, effective=float(worth[k - 1]))
        for k in ks
        if k <= len(found)
    }


def compare_lists(
    is_verified: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    *,
    confidence: float = 0.95,
    clusters: ArrayLike | None = None,
) -> ListDifference:
    """The difference in precision of two lists of equal length, from the same samples.

    Parameters
    ----------
    is_verified : bool array (n_samples,)
        Of all samples; only listed ones are used.
    first, second : int arrays (k,)
        Indices of the samples on each list, without repeats.
    confidence : float, between 0 and 1
    clusters : int array (n_samples,), optional
        Equal numbers mark repeats of one passage. The interval and the p-value then use the
        effective number of differing samples (`effective_trials`).

    Raises
    ------
    ValueError
        If the lists are empty, differ in length, or hold a sample twice.

    Source
    ------
    McNemar 1947, in its exact form: under the null hypothesis, each of the verified samples on only
    one list is equally likely to be on either. The interval is that of
    `resampling.paired_proportions` (Tango 1998) with k trials; partly overlapping lists make it
    too wide rather than too narrow. With `clusters`, the number of differing samples and k shrink
    by the same factor.

    >>> made = compare_lists([True, True, True, False], [0, 1], [2, 3])
    >>> made.value, made.p_value
    (0.5, 1.0)
    """
    verified = np.asarray(is_verified, dtype=bool)
    lists = [np.asarray(places, dtype=np.int64) for places in (first, second)]
    k = len(lists[0])
    if not k or len(lists[1]) != k or any(len(np.unique(places)) < k for places in lists):
        raise ValueError(
            "lists must be of equal length, 1 or more, without repeated samples; "
            f"got {k:,} and {len(lists[1]):,}. Shorten the longer one."
        )
    apart = [np.setdiff1d(a, b) for a, b in (lists, lists[::-1])]
    apart = [places[verified[places]] for places in apart]
    only = [len(places) for places in apart]
    differing = sum(only)
    places = np.concatenate(apart)
    effective = effective_trials(places if clusters is None else np.asarray(clusters)[places])
    worth = float(effective[-1]) if differing else 0.0
    share = worth / differing if differing else 1.0
    found = paired_proportions(only[0] * share, only[1] * share, k * share, confidence=confidence)
    p = _sign_test_p(share * max(only), worth) if differing else 1.0
    value = (only[0] - only[1]) / k
    return ListDifference(value, found.low, found.high, k, "", p, *only)


def _sign_test_p(more: float, trials: float) -> float:
    """Two-sided p-value of a binomial test with probability 1/2; `more` is at least half.

    Exact for integers; between them, the beta function interpolates.
    """
    return min(1.0, 2 * float(special.betainc(more, trials - more + 1, 0.5)))


def cost_per_passage(
    n_passages: int, n_samples: int, effort: float, *, confidence: float = 0.95
) -> Cost:
    """Effort per verified passage: tokens, seconds, or tokens times a price.

    Parameters
    ----------
    n_passages : int
        Number of verified passages.
    n_samples : int
        Number of samples drawn.
    effort : float
        Total effort for all samples.
    confidence : float, between 0 and 1

    Returns
    -------
    Cost; its interval follows from the Clopper-Pearson interval of n_passages in n_samples.

    Raises
    ------
    ValueError
        As `clopper_pearson`; if effort is below 0.

    >>> cost_per_passage(4, 100, 20_000.0).value
    5000.0
    """
    if not effort >= 0:
        raise ValueError(f"effort must be 0 or more; got {effort}. Pass tokens, seconds or money.")
    low, high = (
        float(end) for end in clopper_pearson(n_passages, n_samples, confidence=confidence)
    )
    rates = [n_passages, high * n_samples, low * n_samples]
    value, least, most = (effort / rate if rate else math.inf for rate in rates)
    return Cost(value, least, most, n_passages, "", effort)


def cost_ratio(first: Cost, second: Cost, *, confidence: float = 0.95) -> Estimate:
    """Cost per passage of the first strategy, divided by that of the second.

    Parameters
    ----------
    first, second : Cost, in the same unit
    confidence : float, between 0 and 1

    Returns
    -------
    Estimate, below 1 if the first is cheaper; undefined if neither found a passage, or if an effort
    is 0.

    Source
    ------
    The exact interval of the ratio of two Poisson rates: given the total number of passages, that
    of the first strategy is binomial (Przyborowski and Wilenski 1940).

    >>> many, few = cost_per_passage(40, 100, 1000.0), cost_per_passage(10, 100, 1000.0)
    >>> round(cost_ratio(many, few).value, 9)
    0.25
    """
    found = first.n + second.n
    if not found:
        return Estimate(why="neither strategy found a passage")
    if not (first.effort > 0 and second.effort > 0):
        return Estimate(why="a strategy cost nothing")
    low, high = clopper_pearson(first.n, found, confidence=confidence)
    spent = first.effort / second.effort

    def ratio(share_of_first: float) -> float:
        return spent * (1 - share_of_first) / share_of_first if share_of_first else math.inf

    return Estimate(ratio(first.n / found), ratio(float(high)), ratio(float(low)), found)
