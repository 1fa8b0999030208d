"""How well one score tells members from non-members: ROC, AUC, TPR at low FPR, each with interval.

A text is called a member if its score exceeds a threshold. TPR is the share of members, FPR the
share of non-members, that are called so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from attacks.statistics.intervals import (
    Estimate,
    clopper_pearson,
    normal_quantile,
    proportion,
)
from attacks.statistics.resampling import difference_of

TARGETS = (0.1, 0.01, 0.001)
# False positives that a threshold must rest on: with k of them its FPR is Beta(k + 1, n - k)
# distributed, and from 10 on, 95 % of that lies within a factor of two of k / n.
_ENOUGH = 10


@dataclass(frozen=True)
class Auc(Estimate):
    """Area under the ROC curve, or a difference of two; made by `auc` and `compare_aucs`.

    value, low, high : float
        The chance that a member scores above a non-member, ties counted half.
    p_value : float
        One-sided, of "both sides are scored alike" against "members higher" (Mann-Whitney); of a
        difference, of "the first is not above the second".
    n_members, n_nonmembers, n_undefined : int
        Scores used, and NaN left out.
    """

    p_value: float = math.nan
    n_members: int = 0
    n_nonmembers: int = 0
    n_undefined: int = 0


@dataclass(frozen=True)
class TprAtFpr:
    """The TPR where no more than a given FPR is spent; made by `tpr_at_fpr`.

    target : float
        The FPR asked for.
    threshold : float
        Members are what scores above it; -inf where all may be. NaN if withheld.
    tpr : Estimate or None
        Members called. Its interval is of the TPR at the FPR asked for, in the population: it
        holds the error of the threshold, so it is wider than Clopper and Pearson's.
    fpr : Estimate or None
        Non-members called, as realised on the texts that chose the threshold.
    withheld : str
        Why there is none; empty if there is one.
    """

    target: float
    threshold: float
    tpr: Estimate | None
    fpr: Estimate | None
    withheld: str = ""

    def __str__(self) -> str:
        """The TPR in percent and the FPR that was reached, or why it is withheld."""
        if self.tpr is None:
            return f"withheld: {self.withheld}"
        return f"{self.tpr} at an FPR of {self.fpr}"


@dataclass(frozen=True, eq=False)
class RocCurve:
    """Every point of a ROC curve, from (0, 0) to (1, 1); made by `roc_curve`.

    fpr, tpr, threshold : float64 arrays (n_points,)
        At each point, members are what scores at or above the threshold.
    """

    fpr: Values
    tpr: Values
    threshold: Values


def auc(members: ArrayLike, nonmembers: ArrayLike, *, confidence: float = 0.95) -> Auc:
    """Area under the ROC curve, with an interval.

    The interval is the wider, at either end, of DeLong's on the logit scale and Newcombe's. With
    20 texts on a side, or near an AUC of 1, DeLong's variance is often far too small; Newcombe's
    is that of a model (exponential scores), which other scores may exceed. Both lie within [0, 1]
    and mirror when the sides are swapped. Where the score separates the sides completely, DeLong's
    variance is 0; there the exact interval of min(n_members, n_nonmembers) disjoint pairs that all
    agree takes its place.

    Parameters
    ----------
    members, nonmembers : float arrays (n_members,), (n_nonmembers,)
        Higher = more likely a member; NaN is left out and counted.
    confidence : float, between 0 and 1

    Returns
    -------
    Auc

    Raises
    ------
    ValueError
        As `two_classes`; if confidence lies outside (0, 1).

    Source
    ------
    DeLong, DeLong and Clarke-Pearson 1988; computed by midranks as in Sun and Xu 2014, "Fast
    Implementation of DeLong's Algorithm", section II. Newcombe 2006, "Confidence intervals for an
    effect size measure based on the Mann-Whitney statistic. Part 2", method 5.

    Of the four pairs (2, 1), (2, 3), (4, 1), (4, 3) three are in order:

    >>> auc([2.0, 4.0], [1.0, 3.0]).value
    0.75
    """
    sides = two_classes(members, nonmembers)
    m, n = len(sides.members), len(sides.nonmembers)
    over, under = _placements(sides.members, sides.nonmembers)
    value = float(over.mean())
    low, high = _interval(value, _spread(over, over, under, under), m, n, confidence)
    p = stats.mannwhitneyu(sides.members, sides.nonmembers, alternative="greater").pvalue
    return Auc(value, low, high, m + n, "", float(p), m, n, sides.n_undefined)


def compare_aucs(
    first: tuple[ArrayLike, ArrayLike],
    second: tuple[ArrayLike, ArrayLike],
    *,
    confidence: float = 0.95,
) -> Auc:
    """How far one score's AUC is above another's, where both scored the same texts.

    Parameters
    ----------
    first, second : (members, nonmembers), float arrays (n_members,), (n_nonmembers,)
        The same texts in the same order; texts that either score leaves undefined are left out.
    confidence : float, between 0 and 1

    Returns
    -------
    Auc

    Raises
    ------
    ValueError
        As `two_classes` and `defined_in_all`.

    Source
    ------
    DeLong, DeLong and Clarke-Pearson 1988, the paired test. Where its variance is 0 and the two
    differ (one separates the sides, the other reverses them), p is 2^-min(n_members,
    n_nonmembers), which bounds it. The interval is the wider, at either end, of theirs and of the
    one made of both AUCs' own intervals and their correlation (Zou 2007, "Toward using confidence
    intervals to compare correlations").

    >>> score = ([2.0, 4.0], [1.0, 3.0])
    >>> compare_aucs(score, score).value
    0.0
    """
    kept = [defined_in_all(side) for side in zip(first, second, strict=True)]
    pairs = [
        two_classes(*(np.asarray(v, np.float64)[k] for v, k in zip(score, kept, strict=True)))
        for score in (first, second)
    ]
    placed = [_placements(s.members, s.nonmembers) for s in pairs]
    m, n = int(kept[0].sum()), int(kept[1].sum())
    alone = []
    for over, under in placed:
        own = float(over.mean())
        ends = _interval(own, _spread(over, over, under, under), m, n, confidence)
        alone.append(Estimate(own, *ends))
    (over_a, under_a), (over_b, under_b) = placed
    over, under = over_a - over_b, under_a - under_b
    variances = [_spread(o, o, u, u) for o, u in ((over, under), *placed)]
    together = math.sqrt(variances[1] * variances[2])
    alike = _spread(over_a, over_b, under_a, under_b) / together if together > 0 else 0.0
    apart = difference_of(alone[0], alone[1], correlation=min(1.0, max(-1.0, alike)))
    value = apart.value
    deviation = math.sqrt(variances[0])
    reach = normal_quantile(confidence) * deviation
    low = max(-1.0, min(apart.low, value - reach))
    high = min(1.0, max(apart.high, value + reach))
    if deviation > 0:
        p = float(special.ndtr(-value / deviation))
    else:
        p = 0.5 ** min(m, n) if value > 0 else 1.0
    return Auc(value, low, high, m + n, "", p, m, n)


def tpr_at_fpr(
    members: ArrayLike,
    nonmembers: ArrayLike,
    *,
    targets: Sequence[float] = TARGETS,
    confidence: float = 0.95,
) -> tuple[TprAtFpr, ...]:
    """TPR at each target FPR, at the last threshold whose FPR does not exceed the target.

    Parameters
    ----------
    members, nonmembers : float arrays (n_members,), (n_nonmembers,)
        NaN is left out.
    targets : sequence of float, in (0, 1]
    confidence : float, between 0 and 1

    Returns
    -------
    tuple of TprAtFpr, one a target. Withheld where there are fewer than 10 / target non-members:
    then the FPR at the threshold is not known within a factor of two.

    Raises
    ------
    ValueError
        As `two_classes`; if a target lies outside (0, 1].

    Source
    ------
    Carlini et al. 2022, "Membership Inference Attacks From First Principles", section III: report
    TPR at low FPR. The interval is ours: the threshold of the target FPR lies between two order
    statistics of the non-members, by the binomial law of how many exceed it; Clopper and Pearson's
    interval of the TPR is taken at either, its low end at the higher one, its high end at the lower
    one. Half of what may be missed goes to each step (Bonferroni), so it holds for any scores.

    Ten false positives in a hundred are allowed, so the threshold is the 11th highest, 89:

    >>> made = tpr_at_fpr([95.0, 85.0, 89.5], np.arange(100.0), targets=[0.1])[0]
    >>> made.threshold, made.tpr.successes, made.fpr.successes
    (89.0, 2, 10)
    """
    sides = two_classes(members, nonmembers)
    n = len(sides.nonmembers)
    falling = np.sort(sides.nonmembers)[::-1]
    results = []
    for target in targets:
        spent = allowed(target, n)
        if not resolves(target, n):
            results.append(TprAtFpr(target, math.nan, None, None, too_few(target, n)))
            continue
        called = [_n_called(side, falling, spent) for side in (sides.members, sides.nonmembers)]
        low, high = _tpr_interval(sides.members, falling, target, confidence)
        m = len(sides.members)
        tpr = Estimate(called[0] / m, low, high, m)
        fpr = proportion(called[1], n, confidence=confidence)
        threshold = float(falling[spent]) if spent < n else -math.inf
        results.append(TprAtFpr(target, threshold, tpr, fpr))
    return tuple(results)


def too_few(target: float, n: int, *, halves: bool = False) -> str:
    """Why so few non-members resolve no FPR of this size: they give less than 10 false positives.

    >>> too_few(0.01, 100)
    'needs 1,000 non-members, got 100'
    """
    needed = math.ceil(_ENOUGH / target * (1 - 1e-12))
    if halves:
        return f"needs {2 * needed:,} non-members, half to fit and half to try; got {n:,}"
    return f"needs {needed:,} non-members, got {n:,}"


def resolves(target: float, n: int) -> bool:
    """Whether n non-members bound the FPR at a threshold within a factor of two of the target.

    >>> resolves(0.01, 1_000), resolves(0.01, 999)
    (True, False)
    """
    return allowed(target, n) >= _ENOUGH


def _tpr_interval(
    members: Values, falling: Values, target: float, confidence: float
) -> tuple[float, float]:
    """Of the TPR at the population's threshold; falling: non-members, the highest first."""
    n, m = len(falling), len(members)
    inner = (1 + confidence) / 2  # each of both steps, two-sided
    tail = (1 - inner) / 2
    # So few, or so many, non-members exceed the true threshold with a chance of `tail` at most.
    fewest, most = (int(k) for k in stats.binom.ppf([tail, 1 - tail], n, target))
    low = 0.0
    if fewest > 0:
        k = _n_called(members, falling, fewest - 1)
        low = float(clopper_pearson(k, m, confidence=inner)[0])
    high = clopper_pearson(_n_called(members, falling, most), m, confidence=inner)[1]
    return low, float(high)


def allowed(target: float, n: int) -> int:
    """How many of n non-members may be called members at a target FPR.

    Raises
    ------
    ValueError
        If the target lies outside (0, 1].

    >>> allowed(0.1, 30)
    3
    """
    if not 0 < target <= 1:
        raise ValueError(f"an FPR must lie above 0 and at most at 1; got {target}. Pass 0.01, say.")
    # 0.1 * 30 is a little more than 3 in floating point, 0.29 * 100 a little less than 29.
    return math.floor(target * n * (1 + 1e-12))


def roc_curve(members: ArrayLike, nonmembers: ArrayLike) -> RocCurve:
    """Every point of the ROC curve, one a distinct score, for drawing.

    Parameters
    ----------
    members, nonmembers : float arrays (n_members,), (n_nonmembers,)

    Returns
    -------
    RocCurve

    Raises
    ------
    ValueError
        As `two_classes`.

    >>> roc_curve([2.0, 4.0], [1.0, 3.0]).tpr
    array([0. , 0.5, 0.5, 1. , 1. ])
    """
    sides = two_classes(members, nonmembers)
    threshold = np.unique(np.concatenate([sides.members, sides.nonmembers]))[::-1]
    shares = [
        (len(side) - np.searchsorted(np.sort(side), threshold, side="left")) / len(side)
        for side in (sides.members, sides.nonmembers)
    ]
    tpr, fpr = (np.concatenate([[0.0], share]) for share in shares)
    return RocCurve(fpr, tpr, np.concatenate([[np.inf], threshold]))


def _placements(members: Values, nonmembers: Values) -> tuple[Values, Values]:
    """Each member's share of non-members below it, and each non-member's of members above it."""
    m, n = len(members), len(nonmembers)
    ranks = stats.rankdata(np.concatenate([members, nonmembers]))
    over = (ranks[:m] - stats.rankdata(members)) / n
    under = 1 - (ranks[m:] - stats.rankdata(nonmembers)) / m
    return over, under


def _spread(over_a: Values, over_b: Values, under_a: Values, under_b: Values) -> float:
    """Variance (or, of two scores, covariance) of the AUC from its placements."""

    def mean_product(a: Values, b: Values) -> float:
        return float((a - a.mean()) @ (b - b.mean())) / (len(a) - 1) / len(a)

    return mean_product(over_a, over_b) + mean_product(under_a, under_b)


def _interval(value: float, variance: float, m: int, n: int, confidence: float) -> tuple:
    """The wider, at either end, of DeLong's and Newcombe's."""
    z = normal_quantile(confidence)
    low, high = _newcombe(value, m, n, z), 1 - _newcombe(1 - value, m, n, z)
    if value in (0.0, 1.0):
        # All disjoint pairs agree, which has at most the chance AUC^pairs.
        pairs = min(m, n)
        ends = clopper_pearson(round(value * pairs), pairs, confidence=confidence)
    else:
        reach = z * math.sqrt(variance) / (value * (1 - value))
        ends = special.expit(special.logit(value) + np.array([-reach, reach]))
    return min(low, float(ends[0])), max(high, float(ends[1]))


def _newcombe(value: float, m: int, n: int, z: float) -> float:
    """The low end: the AUC of which `value` is z standard deviations above, by its own variance."""
    if value == 0:
        return 0.0
    side = (m + n) / 2 - 1

    def excess(area: float) -> float:
        spread = 1 + side * (1 - area) / (2 - area) + side * area / (1 + area)
        return value - area - z * math.sqrt(area * (1 - area) * spread / (m * n))

    # At 1 itself the variance is 0; the root wanted is the one below.
    return float(optimize.brentq(excess, 0.0, min(value, 1 - 1e-12)))


def _n_called(values: Values, falling: Values, allowed: int) -> int:
    """How many are called members where at most so many non-members may be; all where all may."""
    if allowed == len(falling):
        return len(values)
    return int(np.count_nonzero(values > falling[allowed]))


Values = NDArray[np.float64]
MIN_A_CLASS = 2


@dataclass(frozen=True, eq=False)
class TwoClasses:
    """The defined scores of both sides; made by `two_classes`.

    members, nonmembers : float64 arrays (n_members,), (n_nonmembers,), without NaN
    n_undefined_members, n_undefined_nonmembers : int
        How many were NaN and are left out.
    """

    members: Values
    nonmembers: Values
    n_undefined_members: int
    n_undefined_nonmembers: int

    @property
    def n_undefined(self) -> int:
        """NaN on both sides together."""
        return self.n_undefined_members + self.n_undefined_nonmembers


def two_classes(members: ArrayLike, nonmembers: ArrayLike) -> TwoClasses:
    """Both sides' scores without their NaN, counted.

    Parameters
    ----------
    members, nonmembers : float arrays (n_members,), (n_nonmembers,)
        Higher = more likely a member. Infinite values are ordered like any other; NaN is left out.

    Returns
    -------
    TwoClasses

    Raises
    ------
    ValueError
        If an array is not one-dimensional, a side has fewer than 2 defined scores, or all defined
        scores are equal.

    >>> two_classes([2.0, np.nan, 3.0], [1.0, 1.0]).n_undefined_members
    1
    """
    sides = [_column(name, v) for name, v in (("members", members), ("nonmembers", nonmembers))]
    kept = [side[~np.isnan(side)] for side in sides]
    lost = [len(side) - len(side_kept) for side, side_kept in zip(sides, kept, strict=True)]
    for name, side, n_lost in zip(("members", "non-members"), kept, lost, strict=True):
        if len(side) < MIN_A_CLASS:
            raise ValueError(
                f"{name} must have {MIN_A_CLASS} or more defined scores; got {len(side):,} "
                f"({n_lost:,} more are NaN). Score more texts, or leave this score out."
            )
    low = min(side.min() for side in kept)
    if low == max(side.max() for side in kept):
        raise ValueError(
            f"scores must not all be equal; got {low:g} for every text. "
            "Nothing can be told from this score: leave it out."
        )
    return TwoClasses(kept[0], kept[1], lost[0], lost[1])


def defined_in_all(columns: Sequence[ArrayLike]) -> NDArray[np.bool_]:
    """Which texts have a value in every column, for comparisons on the same texts.

    Parameters
    ----------
    columns : sequence of float arrays (n,)

    Returns
    -------
    bool array (n,)

    Raises
    ------
    ValueError
        If lengths differ.

    >>> defined_in_all([[1.0, np.nan], [2.0, 3.0]])
    array([ True, False])
    """
    arrays = [_column("scores", column) for column in columns]
    lengths = sorted({len(array) for array in arrays})
    if len(lengths) > 1:
        raise ValueError(
            "scores compared with each other must be of the same texts; "
            f"got {lengths[0]:,} and {lengths[-1]:,} values. Pass one value a text."
        )
    return np.logical_not(np.isnan(np.stack(arrays)).any(axis=0))


def _column(name: str, values: ArrayLike) -> Values:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(
            f"{name} must be one score a text, in one dimension; got shape {array.shape}. "
            "Pass one score at a time."
        )
    return array
