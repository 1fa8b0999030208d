"""How well a score separates members from non-members: ROC, AUC and TPR at low FPR.

A text is called a member if its score exceeds a threshold. The TPR is the share of members called
members, the FPR the share of non-members called members.
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

Values = NDArray[np.float64]
TARGETS = (0.1, 0.01, 0.001)
MIN_A_CLASS = 2
# Least number of false positives at a threshold. With k of them the FPR is Beta(k + 1, n - k)
# distributed; from k = 10 on, 95 % of that lies within a factor of two of k / n.
_ENOUGH = 10


@dataclass(frozen=True)
class Auc(Estimate):
    """Area under the ROC curve, or a difference of two; made by `auc` and `compare_aucs`.

    value, low, high : float
        The probability that a member scores above a non-member; a tie counts one half.
    p_value : float
        One-sided Mann-Whitney p-value of "members do not score higher"; of a difference, the
        p-value of "the first AUC is not higher".
    n_members, n_nonmembers, n_undefined : int
        Scores used, and NaN left out.
    """

    p_value: float = math.nan
    n_members: int = 0
    n_nonmembers: int = 0
    n_undefined: int = 0


@dataclass(frozen=True)
class TprAtFpr:
    """The TPR at the last threshold whose FPR is within a target; made by `tpr_at_fpr`.

    target : float
        The requested FPR.
    threshold : float
        Texts that score above it are called members; -inf calls all texts, NaN if withheld.
    tpr : Estimate or None
        The interval is for the TPR at the target FPR in the population. It includes the error of
        the threshold, so it is wider than Clopper and Pearson's.
    fpr : Estimate or None
        Of the non-members that chose the threshold.
    withheld : str
        Why there is no result; empty if there is one.
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
    """All points of a ROC curve, from (0, 0) to (1, 1); made by `roc_curve`.

    fpr, tpr, threshold : float64 arrays (n_points,)
        At each point, texts that score at or above the threshold are called members.
    """

    fpr: Values
    tpr: Values
    threshold: Values


def auc(members: ArrayLike, nonmembers: ArrayLike, *, confidence: float = 0.95) -> Auc:
    """Area under the ROC curve, with a confidence interval.

    Each end of the interval is the wider of DeLong's (on the logit scale) and Newcombe's. With 20
    texts on a side, or with an AUC near 1, DeLong's variance is often far too small; Newcombe's
    assumes exponential scores, and other scores may vary more. Both intervals lie within [0, 1]
    and are mirrored if the sides are swapped. If the score separates the sides completely, DeLong's
    variance is 0; then the exact interval of min(n_members, n_nonmembers) disjoint pairs that all
    agree replaces it.

    Parameters
    ----------
    members, nonmembers : float arrays (n_members,), (n_nonmembers,)
        Higher = more likely a member. NaN is left out.
    confidence : float, between 0 and 1

    Raises
    ------
    ValueError
        As `two_classes`; if confidence lies outside (0, 1).

    Source
    ------
    DeLong, DeLong and Clarke-Pearson 1988; computed by midranks as in Sun and Xu 2014, "Fast
    Implementation of DeLong's Algorithm", section II. Newcombe 2006, "Confidence intervals for an
    effect size measure based on the Mann-Whitney statistic. Part 2", method 5.

    Three of the four pairs (2, 1), (2, 3), (4, 1), (4, 3) are in order:

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
    """The difference between the AUCs of two scores of the same texts.

    Parameters
    ----------
    first, second : (members, nonmembers), float arrays (n_members,), (n_nonmembers,)
        The same texts in the same order. Texts with a NaN in either score are left out.
    confidence : float, between 0 and 1

    Raises
    ------
    ValueError
        As `two_classes`; if the scores differ in length.

    Source
    ------
    DeLong, DeLong and Clarke-Pearson 1988, the paired test. If its variance is 0 but the AUCs
    differ (one score separates the sides, the other reverses them), p is its upper bound
    2^-min(n_members, n_nonmembers). Each end of the interval is the wider of theirs and of the one
    from both AUCs' intervals and their correlation (Zou 2007, "Toward using confidence intervals
    to compare correlations").

    >>> score = ([2.0, 4.0], [1.0, 3.0])
    >>> compare_aucs(score, score).value
    0.0
    """
    kept = [_defined_in_both(*side) for side in zip(first, second, strict=True)]
    pairs = [
        two_classes(*(np.asarray(v, np.float64)[k] for v, k in zip(score, kept, strict=True)))
        for score in (first, second)
    ]
    placed = [_placements(pair.members, pair.nonmembers) for pair in pairs]
    m, n = int(kept[0].sum()), int(kept[1].sum())
    (over_a, under_a), (over_b, under_b) = placed
    over, under = over_a - over_b, under_a - under_b
    variances = [_spread(o, o, u, u) for o, u in ((over, under), *placed)]
    areas = [float(over.mean()) for over, _ in placed]
    alone = [
        Estimate(area, *_interval(area, variance, m, n, confidence))
        for area, variance in zip(areas, variances[1:], strict=True)
    ]
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
    tuple of TprAtFpr, one per target. Withheld with fewer than 10 / target non-members, because
    then the FPR at the threshold is not known within a factor of two.

    Raises
    ------
    ValueError
        As `two_classes`; if a target lies outside (0, 1].

    Source
    ------
    Carlini et al. 2022, "Membership Inference Attacks From First Principles", section III: report
    TPR at low FPR. The interval is ours. The threshold of the target FPR lies between two order
    statistics of the non-members (the number above it is binomial). The low end of the interval is
    Clopper and Pearson's at the higher statistic, the high end at the lower one. Each step may err
    by half of 1 - confidence (Bonferroni), so the interval holds for any scores.

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
        if reason := unresolved(target, n):
            results.append(TprAtFpr(target, math.nan, None, None, reason))
            continue
        called = [_n_called(side, falling, spent) for side in (sides.members, sides.nonmembers)]
        low, high = _tpr_interval(sides.members, falling, target, confidence)
        m = len(sides.members)
        tpr = Estimate(called[0] / m, low, high, m)
        fpr = proportion(called[1], n, confidence=confidence)
        threshold = float(falling[spent]) if spent < n else -math.inf
        results.append(TprAtFpr(target, threshold, tpr, fpr))
    return tuple(results)


def unresolved(target: float, n: int, *, halves: bool = False) -> str:
    """Why n non-members do not resolve an FPR, or "": they must allow 10 or more false positives.

    With `halves`, only half of the non-members choose the threshold.

    >>> unresolved(0.01, 100), unresolved(0.01, 1_000)
    ('needs 1,000 non-members, got 100', '')
    """
    if allowed(target, n // 2 if halves else n) >= _ENOUGH:
        return ""
    needed = math.ceil(_ENOUGH / target * (1 - 1e-12))
    if halves:
        return f"needs {2 * needed:,} non-members, half to fit and half to test; got {n:,}"
    return f"needs {needed:,} non-members, got {n:,}"


def _tpr_interval(
    members: Values, falling: Values, target: float, confidence: float
) -> tuple[float, float]:
    """TPR interval at the population's threshold; `falling`: non-members, highest first."""
    n, m = len(falling), len(members)
    inner = (1 + confidence) / 2  # two-sided, for each of the two steps
    tail = (1 - inner) / 2
    # Fewer, or more, non-members exceed the true threshold with probability `tail` at most.
    fewest, most = (int(k) for k in stats.binom.ppf([tail, 1 - tail], n, target))
    low = 0.0
    if fewest > 0:
        k = _n_called(members, falling, fewest - 1)
        low = float(clopper_pearson(k, m, confidence=inner)[0])
    high = clopper_pearson(_n_called(members, falling, most), m, confidence=inner)[1]
    return low, float(high)


def allowed(target: float, n: int) -> int:
    """How many of n non-members may be called members at a target FPR in (0, 1].

    >>> allowed(0.1, 30)
    3
    """
    if not 0 < target <= 1:
        raise ValueError(f"an FPR must be above 0 and at most 1; got {target}. Pass 0.01, say.")
    # 0.1 * 30 is a little more than 3 in floating point, 0.29 * 100 a little less than 29.
    return math.floor(target * n * (1 + 1e-12))


def roc_curve(members: ArrayLike, nonmembers: ArrayLike) -> RocCurve:
    """The ROC curve, with one point per distinct score.

    Parameters and Raises as `two_classes`.

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
    """Share of non-members below each member, and share of members above each non-member."""
    m, n = len(members), len(nonmembers)
    ranks = stats.rankdata(np.concatenate([members, nonmembers]))
    over = (ranks[:m] - stats.rankdata(members)) / n
    under = 1 - (ranks[m:] - stats.rankdata(nonmembers)) / m
    return over, under


def _spread(over_a: Values, over_b: Values, under_a: Values, under_b: Values) -> float:
    """Variance of an AUC, or covariance of two, from the placements."""

    def mean_product(a: Values, b: Values) -> float:
        return float((a - a.mean()) @ (b - b.mean())) / (len(a) - 1) / len(a)

    return mean_product(over_a, over_b) + mean_product(under_a, under_b)


def _interval(value: float, variance: float, m: int, n: int, confidence: float) -> tuple:
    """Each end is the wider of DeLong's and Newcombe's."""
    z = normal_quantile(confidence)
    low, high = _newcombe(value, m, n, z), 1 - _newcombe(1 - value, m, n, z)
    if value in (0.0, 1.0):
        # All disjoint pairs agree, which has probability AUC^pairs at most.
        pairs = min(m, n)
        ends = clopper_pearson(round(value * pairs), pairs, confidence=confidence)
    else:
        reach = z * math.sqrt(variance) / (value * (1 - value))
        ends = special.expit(special.logit(value) + np.array([-reach, reach]))
    return min(low, float(ends[0])), max(high, float(ends[1]))


def _newcombe(value: float, m: int, n: int, z: float) -> float:
    """The low end: the AUC that lies z of its own standard deviations below `value`."""
    if value == 0:
        return 0.0
    side = (m + n) / 2 - 1

    def excess(area: float) -> float:
        spread = 1 + side * (1 - area) / (2 - area) + side * area / (1 + area)
        return value - area - z * math.sqrt(area * (1 - area) * spread / (m * n))

    # At 1 the variance is 0, which is a second root; the lower root is the end.
    return float(optimize.brentq(excess, 0.0, min(value, 1 - 1e-12)))


def _n_called(values: Values, falling: Values, allowed: int) -> int:
    """How many are called members if at most `allowed` non-members may be."""
    if allowed == len(falling):
        return len(values)
    return int(np.count_nonzero(values > falling[allowed]))


@dataclass(frozen=True, eq=False)
class TwoClasses:
    """The defined scores of both sides and the number of NaN left out; made by `two_classes`."""

    members: Values
    nonmembers: Values
    n_undefined: int


def two_classes(members: ArrayLike, nonmembers: ArrayLike) -> TwoClasses:
    """The scores of both sides without NaN.

    Parameters
    ----------
    members, nonmembers : float arrays (n_members,), (n_nonmembers,)
        Higher = more likely a member. Infinite values are ordered like any other.

    Raises
    ------
    ValueError
        If an array is not one-dimensional, a side has fewer than 2 defined scores, or all defined
        scores are equal.

    >>> two_classes([2.0, np.nan, 3.0], [1.0, 1.0]).n_undefined
    1
    """
    kept, n_undefined = [], 0
    for name, values in (("members", members), ("non-members", nonmembers)):
        side = _column(name, values)
        kept.append(side[~np.isnan(side)])
        n_nan = len(side) - len(kept[-1])
        n_undefined += n_nan
        if len(kept[-1]) < MIN_A_CLASS:
            raise ValueError(
                f"{name} must have {MIN_A_CLASS} or more defined scores; got {len(kept[-1]):,} "
                f"({n_nan:,} more are NaN). Score more texts, or leave this score out."
            )
    low = min(side.min() for side in kept)
    if low == max(side.max() for side in kept):
        raise ValueError(
            f"scores must not all be equal; got {low:g} for every text. Leave this score out."
        )
    return TwoClasses(kept[0], kept[1], n_undefined)


def _defined_in_both(first: ArrayLike, second: ArrayLike) -> NDArray[np.bool_]:
    """Which texts have both scores, bool (n,)."""
    a, b = _column("scores", first), _column("scores", second)
    if len(a) != len(b):
        raise ValueError(
            "compared scores must be of the same texts; "
            f"got {len(a):,} and {len(b):,} values. Pass one value per text."
        )
    return ~(np.isnan(a) | np.isnan(b))


def _column(name: str, values: ArrayLike) -> Values:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(
            f"{name} must have one dimension, one score per text; got shape {array.shape}. "
            "Pass one score at a time."
        )
    return array
