"""Permutation tests, bootstrap means and differences of rates, for changes between two models.

Each text has one value, its change. The same values and seed give the same result.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from attacks.statistics.intervals import Estimate, check_confidence, normal_quantile

# With fewer values, no interval of a mean is reliable for values as skewed as these often are.
_LEAST = 20
# Up to this many values, all combinations of signs are enumerated; above, they are sampled.
_EXACT_UP_TO = 14
# Maximum number of values drawn at once, to limit memory.
_ELEMENTS = 4_000_000
# Sums of the same values in different order may differ by rounding.
_ROUNDING = 1e-12


def sign_flip_p(
    changes: ArrayLike, *, greater: bool = False, draws: int = 9_999, seed: int = 0
) -> float:
    """p-value of a paired permutation test of a mean change of 0.

    With up to 14 values, all combinations of signs are enumerated and the p-value is exact. With
    more, `draws` combinations are sampled and the observed one is added, so it is never 0.

    Parameters
    ----------
    changes : float array (n,)
        After minus before, one per text.
    greater : bool
        One-sided, for a mean above 0; else two-sided.
    draws : int
    seed : int

    Returns
    -------
    float in (0, 1]; NaN without values.

    Raises
    ------
    ValueError
        If a change is not finite, or draws is below 1.

    Source
    ------
    Fisher's randomization test for pairs; with sampled signs as in Phipson and Smyth 2010,
    "Permutation p-values should never be zero".

    Of eight combinations of signs, only the observed one and its opposite are as extreme:

    >>> sign_flip_p([1.0, 2.0, 3.0]), sign_flip_p([1.0, 2.0, 3.0], greater=True)
    (0.25, 0.125)
    """
    values = _finite("changes", changes)
    _check_draws(draws)
    n = len(values)
    if n == 0:
        return math.nan
    observed = _sided(values.sum(), greater)
    least = observed - _slack(values)
    if n <= _EXACT_UP_TO:
        bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        return float((_sided((1 - 2 * bits) @ values, greater) >= least).mean())
    rng, hits = np.random.default_rng(seed), 0
    for size in _blocks(draws, n):
        signs = 1 - 2 * rng.integers(0, 2, (size, n), dtype=np.int8)
        hits += int((_sided(signs @ values, greater) >= least).sum())
    return (hits + 1) / (draws + 1)


def label_permutation_p(
    members: ArrayLike,
    others: ArrayLike,
    *,
    greater: bool = False,
    draws: int = 9_999,
    seed: int = 0,
) -> float:
    """p-value of a permutation test of equal means of members and others.

    Parameters
    ----------
    members, others : float arrays (n,), (m,)
    greater : bool
        One-sided, for members above others; else two-sided.
    draws : int
        Number of permutations of the labels; the observed labels are added.
    seed : int

    Returns
    -------
    float in (0, 1]; NaN if a group is empty.

    Raises
    ------
    ValueError
        As `sign_flip_p`.

    Source
    ------
    Pitman's two-sample permutation test with sampled permutations, counted as in Phipson and Smyth
    2010.

    >>> label_permutation_p([5.0, 5.0], [5.0])
    1.0
    """
    a, b = _finite("members", members), _finite("others", others)
    _check_draws(draws)
    if len(a) == 0 or len(b) == 0:
        return math.nan
    pooled = np.concatenate([a, b])
    # The pool is fixed, so the members' sum determines the difference of means.
    centred = pooled - pooled.mean()
    least = _sided(centred[: len(a)].sum(), greater) - _slack(centred)
    rng, hits = np.random.default_rng(seed), 0
    for size in _blocks(draws, len(pooled)):
        dealt = rng.permuted(np.broadcast_to(centred, (size, len(pooled))), axis=1)
        hits += int((_sided(dealt[:, : len(a)].sum(axis=1), greater) >= least).sum())
    return (hits + 1) / (draws + 1)


def bootstrap_mean(
    values: ArrayLike, *, confidence: float = 0.95, draws: int = 9_999, seed: int = 0
) -> Estimate:
    """The mean, with an interval that is robust to skewed values; NaN without values.

    Each end of the interval is the wider of Student's t and the studentized bootstrap. It is
    withheld (NaN) for fewer than 20 values, or if so many are equal that resamples often have no
    variance.

    Parameters
    ----------
    values : float array (n,)
    confidence : float, between 0 and 1
    draws : int
    seed : int

    Raises
    ------
    ValueError
        If a value is not finite, draws is below 1, or the confidence outside (0, 1).

    Source
    ------
    Efron and Tibshirani 1993, "An Introduction to the Bootstrap", section 12.5 (bootstrap-t). For
    20 values of an exponential distribution, 95 % percentile intervals contain the mean only 89
    times in 100.

    >>> bootstrap_mean([2.0, 4.0])
    Estimate(value=3.0, low=nan, high=nan, n=2, why='')
    """
    array = _finite("values", values)
    _check_draws(draws)
    check_confidence(confidence)
    n = len(array)
    value = float(array.mean()) if n else math.nan
    if n < _LEAST or array.min() == array.max():
        return Estimate(value, n=n)
    rng, tail = np.random.default_rng(seed), (1 - confidence) / 2
    error = float(array.std(ddof=1)) / math.sqrt(n)
    drawn = np.concatenate([_studentized(array, size, rng) for size in _blocks(draws, n)])
    low, high = np.quantile(drawn, [tail, 1 - tail], method="closest_observation")
    if not np.isfinite([low, high]).all():
        return Estimate(value, n=n)
    student = float(stats.t.ppf(1 - tail, n - 1))
    reach = error * max(student, float(high)), error * max(student, -float(low))
    return Estimate(value, value - reach[0], value + reach[1], n)


def student_mean(values: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """The mean with Student's t interval, for a few values of nearly normal distribution.

    Parameters
    ----------
    values : float array (n,)
    confidence : float, between 0 and 1

    Returns
    -------
    Estimate; NaN without values, no interval for one value.

    Raises
    ------
    ValueError
        If a value is not finite, or the confidence outside (0, 1).

    >>> print(f"{student_mean([1.0, 2.0, 3.0]):.2f}")  # 2 +- 4.3027 / sqrt 3
    2.00 (-0.48–4.48)
    """
    array = _finite("values", values)
    check_confidence(confidence)
    n = len(array)
    value = float(array.mean()) if n else math.nan
    if n < 2:
        return Estimate(value, n=n)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1) * array.std(ddof=1) / math.sqrt(n))
    return Estimate(value, value - half, value + half, n)


def difference_of(first: Estimate, second: Estimate, *, correlation: float = 0.0) -> Estimate:
    """The first estimate minus the second, with an interval derived from theirs.

    Parameters
    ----------
    first, second : Estimate
    correlation : float, from -1 to 1
        Between the errors of the two estimates.

    Source
    ------
    Newcombe 1998, "Interval estimation for the difference between independent proportions",
    method 10; for other estimates, Zou and Donner 2008, "Construction of confidence limits about
    effect measures"; with a correlation, Zou 2007, "Toward using confidence intervals to compare
    correlations".

    The lower end is 4 - sqrt(3² + 4²):

    >>> difference_of(Estimate(5.0, 2.0, 9.0), Estimate(1.0, -3.0, 5.0)).low
    -1.0
    """
    value = first.value - second.value

    def reach(own: float, other: float) -> float:
        square = own**2 + other**2 - 2 * correlation * own * other
        return 0.0 if square < 0 else math.sqrt(square)  # NaN stays NaN

    down = reach(first.value - first.low, second.high - second.value)
    up = reach(first.high - first.value, second.value - second.low)
    return Estimate(value, value - down, value + up, first.n + second.n)


def paired_proportions(
    first_only: float, second_only: float, n: float, *, confidence: float = 0.95
) -> Estimate:
    """Difference of two proportions of the same n trials, first minus second: Tango's interval.

    It is not conditional on the number of discordant trials, so its ends can lie beyond
    (first_only + second_only) / n.

    Parameters
    ----------
    first_only, second_only : int
        Trials where only the first succeeded, or only the second.
    n : int
        All trials. The three may be effective numbers from `intervals.effective_trials`.
    confidence : float, between 0 and 1

    Returns
    -------
    Estimate; without trials the value is NaN and the interval from -1 to 1.

    Raises
    ------
    ValueError
        If a count lies outside [0, n], or the confidence outside (0, 1).

    Source
    ------
    Tango 1998, "Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design": the differences that a score test does not reject.

    Without discordant trials the ends are ±z² / (n + z²), as in Wilson's interval for 0 of n:

    >>> found = paired_proportions(0, 0, 20)
    >>> round(found.low, 4), round(found.high, 4)
    (-0.1611, 0.1611)
    """
    check_confidence(confidence)
    if not (0 <= first_only <= n and 0 <= second_only <= n):
        raise ValueError(
            "trials where only one succeeded must lie between 0 and n; "
            f"got {first_only:,} and {second_only:,} of {n:,}. Check the order."
        )
    if n == 0:
        return Estimate(math.nan, -1.0, 1.0, why="no trials")
    value = (first_only - second_only) / n
    high = _tango(first_only, second_only, n, confidence)
    return Estimate(value, -_tango(second_only, first_only, n, confidence), high)


def newcombe(
    successes: float,
    trials: float,
    other_successes: float,
    other_trials: float,
    *,
    confidence: float = 0.95,
) -> Estimate:
    """Difference of two independent proportions, first minus second, with Newcombe's interval.

    Parameters
    ----------
    successes, trials, other_successes, other_trials : int
        Counts, or effective numbers from `intervals.effective_trials`.
    confidence : float, between 0 and 1

    Returns
    -------
    Estimate; without trials on a side the value is NaN and the interval from -1 to 1.

    Raises
    ------
    ValueError
        If successes lie outside [0, trials], or the confidence outside (0, 1).

    Source
    ------
    Newcombe 1998, "Interval estimation for the difference between independent proportions",
    method 10: combines the Wilson intervals of both proportions.

    The paper's first example, 56 of 70 against 48 of 80:

    >>> found = newcombe(56, 70, 48, 80)
    >>> round(found.low, 4), round(found.high, 4)
    (0.0524, 0.3339)
    """
    check_confidence(confidence)
    for k, n in ((successes, trials), (other_successes, other_trials)):
        if not 0 <= k <= n:
            raise ValueError(
                f"successes must lie between 0 and trials; got {k:,} of {n:,}. Check the order."
            )
    if trials == 0 or other_trials == 0:
        return Estimate(math.nan, -1.0, 1.0, why="no trials")
    return difference_of(
        _wilson(successes, trials, confidence), _wilson(other_successes, other_trials, confidence)
    )


def _tango(b: float, c: float, n: float, confidence: float) -> float:
    """The upper end: the largest difference that the score test does not reject."""
    z = normal_quantile(confidence)
    value = (b - c) / n

    def excess(d: float) -> float:
        # Maximum-likelihood share of trials where only the second succeeds, given the difference.
        linear = (2 * n - b + c) * d - b - c
        root = math.sqrt(max(0.0, linear**2 + 8 * n * c * d * (1 - d)))
        share = (root - linear) / (4 * n)
        return d - value - z * math.sqrt(max(0.0, 2 * share + d * (1 - d)) / n)

    start = value + 1e-12  # at the value itself the variance may be 0
    return float(optimize.brentq(excess, start, 1.0)) if excess(start) < 0 < excess(1.0) else 1.0


def _wilson(k: float, n: float, confidence: float) -> Estimate:
    """Wilson's score interval: all p with |p - k/n| at most z standard errors at p."""
    z = normal_quantile(confidence)
    share = k / n
    middle = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return Estimate(share, max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale))


def _studentized(values: NDArray, size: int, rng: np.random.Generator) -> NDArray:
    """Error of each resampled mean in units of its own standard error, float64 (size,)."""
    n = len(values)
    drawn = values[rng.integers(0, n, (size, n))]
    off, error = drawn.mean(axis=1) - values.mean(), drawn.std(axis=1, ddof=1) / math.sqrt(n)
    # Without variance in a resample, its error is infinite, or 0 if the mean is exact.
    endless = np.where(off > 0, np.inf, np.where(off < 0, -np.inf, 0.0))
    spread = error > _ROUNDING * np.abs(values).max()
    return np.divide(off, error, out=endless, where=spread)


def _sided(sums, greater: bool):
    return sums if greater else np.abs(sums)


def _slack(values: NDArray) -> float:
    return _ROUNDING * float(np.abs(values).sum())


def _blocks(draws: int, n: int) -> list[int]:
    """Split the draws into blocks that fit into memory."""
    size = max(1, _ELEMENTS // max(1, n))
    return [min(size, draws - at) for at in range(0, draws, size)]


def _finite(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(
            f"{name} must be one finite number per text; got shape {array.shape} with "
            f"{int((~np.isfinite(array)).sum())} that are not finite. Leave those out."
        )
    return array


def _check_draws(draws: int) -> None:
    if draws < 1:
        raise ValueError(f"draws must be 1 or more; got {draws}. The default is 9,999.")
