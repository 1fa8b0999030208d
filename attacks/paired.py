"""Before and after: is a mean change more than chance, how large is it, and is one group's larger?

Everything here is about n texts of which each has one value: its change. Drawing is by a seed; the
same values and seed give the same answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Signs of so many values are tried in every combination; beyond, they are drawn.
_EXACT_UP_TO = 14
# Values drawn at once, so that memory stays flat.
_ELEMENTS = 4_000_000
# Two sums of the same values in another order may differ by rounding alone.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Interval:
    """A figure with its interval: value, low, high, and the confidence of the two ends."""

    value: float
    low: float
    high: float
    confidence: float


def sign_flip_p(
    changes: ArrayLike, *, greater: bool = False, draws: int = 9_999, seed: int = 0
) -> float:
    """p-value of a paired permutation test: could the mean change be 0, either sign as likely?

    Up to 14 values every combination of signs is tried and the value is exact; with more, `draws`
    are drawn and the observed one is counted among them, so it is never 0.

    Parameters
    ----------
    changes : float array (n,)
        After minus before, one a text.
    greater : bool
        One-sided, for a mean above 0; else two-sided.
    draws : int
    seed : int

    Returns
    -------
    float in (0, 1]; NaN of no values.

    Raises
    ------
    ValueError
        If a change is not finite, or draws is below 1.

    Source
    ------
    Fisher's randomization test for pairs; with drawn signs as Phipson and Smyth 2010,
    "Permutation p-values should never be zero".

    All three signs as observed are one of eight, and all three the other way round another:

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
    """p-value of a permutation test: could members and others have the same mean?

    Parameters
    ----------
    members, others : float arrays (n,), (m,)
    greater : bool
        One-sided, for members above others; else two-sided.
    draws : int
        Ways of dealing out the labels anew; the observed one is counted among them.
    seed : int

    Returns
    -------
    float in (0, 1]; NaN where a group is empty.

    Raises
    ------
    ValueError
        As `sign_flip_p`.

    Source
    ------
    Pitman's two-sample permutation test, drawn; counting as Phipson and Smyth 2010.

    >>> label_permutation_p([5.0, 5.0], [5.0])
    1.0
    """
    a, b = _finite("members", members), _finite("others", others)
    _check_draws(draws)
    if len(a) == 0 or len(b) == 0:
        return math.nan
    pooled = np.concatenate([a, b])
    # Of a pool that stays the same, the members' sum says all about the difference of means.
    centred = pooled - pooled.mean()
    least = _sided(centred[: len(a)].sum(), greater) - _slack(centred)
    rng, hits = np.random.default_rng(seed), 0
    for size in _blocks(draws, len(pooled)):
        dealt = rng.permuted(np.broadcast_to(centred, (size, len(pooled))), axis=1)
        hits += int((_sided(dealt[:, : len(a)].sum(axis=1), greater) >= least).sum())
    return (hits + 1) / (draws + 1)


def bootstrap_mean(
    values: ArrayLike, *, confidence: float = 0.95, draws: int = 9_999, seed: int = 0
) -> Interval:
    """The mean with its percentile bootstrap interval; NaN throughout of no values.

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
    Efron 1979, percentile intervals as in Efron and Tibshirani 1993, section 13.3.

    >>> bootstrap_mean([2.0, 2.0])
    Interval(value=2.0, low=2.0, high=2.0, confidence=0.95)
    """
    array = _finite("values", values)
    if len(array) == 0:
        return _nothing(confidence)
    means = _drawn_means(array, draws, np.random.default_rng(seed))
    return _percentiles(float(array.mean()), means, confidence)


def bootstrap_difference(
    members: ArrayLike,
    others: ArrayLike,
    *,
    confidence: float = 0.95,
    draws: int = 9_999,
    seed: int = 0,
) -> Interval:
    """Members' mean minus others', with its percentile bootstrap interval, each group drawn alone.

    Parameters, Raises and Source as `bootstrap_mean`; NaN throughout where a group is empty.

    >>> bootstrap_difference([3.0, 3.0], [1.0]).value
    2.0
    """
    a, b = _finite("members", members), _finite("others", others)
    if len(a) == 0 or len(b) == 0:
        return _nothing(confidence)
    rng = np.random.default_rng(seed)
    apart = _drawn_means(a, draws, rng) - _drawn_means(b, draws, rng)
    return _percentiles(float(a.mean() - b.mean()), apart, confidence)


def newcombe(
    successes: float,
    trials: float,
    other_successes: float,
    other_trials: float,
    *,
    confidence: float = 0.95,
) -> Interval:
    """Difference of two independent proportions, first minus second, with Newcombe's interval.

    Parameters
    ----------
    successes, trials, other_successes, other_trials : int
        Or effective numbers, as `attacks.estimates.effective_trials` has them.
    confidence : float, between 0 and 1

    Returns
    -------
    Interval; without trials on a side the value is NaN and the interval from -1 to 1.

    Raises
    ------
    ValueError
        If successes lie outside [0, trials], or the confidence outside (0, 1).

    Source
    ------
    Newcombe 1998, "Interval estimation for the difference between independent proportions",
    method 10: Wilson's intervals, squared and added.

    The paper's first example, 56 of 70 against 48 of 80, is 0.0524 to 0.3339:

    >>> found = newcombe(56, 70, 48, 80)
    >>> round(found.low, 4), round(found.high, 4)
    (0.0524, 0.3339)
    """
    _check_confidence(confidence)
    for k, n in ((successes, trials), (other_successes, other_trials)):
        if not 0 <= k <= n:
            raise ValueError(
                f"successes must lie between 0 and trials; got {k:,} of {n:,}. Check the order."
            )
    if trials == 0 or other_trials == 0:
        return Interval(math.nan, -1.0, 1.0, confidence)
    p, q = successes / trials, other_successes / other_trials
    low_p, high_p = _wilson(successes, trials, confidence)
    low_q, high_q = _wilson(other_successes, other_trials, confidence)
    return Interval(
        p - q,
        p - q - math.hypot(p - low_p, high_q - q),
        p - q + math.hypot(high_p - p, q - low_q),
        confidence,
    )


def _wilson(k: float, n: float, confidence: float) -> tuple[float, float]:
    """Wilson's score interval: where |p - k/n| is z standard errors of p itself."""
    from statistics import NormalDist

    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = k / n
    middle = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def _drawn_means(values: NDArray, draws: int, rng: np.random.Generator) -> NDArray:
    """Means of `draws` samples with replacement, float64 (draws,)."""
    _check_draws(draws)
    n = len(values)
    parts = [values[rng.integers(0, n, (size, n))].mean(axis=1) for size in _blocks(draws, n)]
    return np.concatenate(parts)


def _percentiles(value: float, drawn: NDArray, confidence: float) -> Interval:
    _check_confidence(confidence)
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(value, float(low), float(high), confidence)


def _nothing(confidence: float) -> Interval:
    _check_confidence(confidence)
    return Interval(math.nan, math.nan, math.nan, confidence)


def _sided(sums, greater: bool):
    return sums if greater else np.abs(sums)


def _slack(values: NDArray) -> float:
    return _ROUNDING * float(np.abs(values).sum())


def _blocks(draws: int, n: int) -> list[int]:
    """Draws in blocks that fit the memory meant for them."""
    size = max(1, _ELEMENTS // max(1, n))
    return [min(size, draws - at) for at in range(0, draws, size)]


def _finite(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(
            f"{name} must be one finite number a text; got shape {array.shape} with "
            f"{int((~np.isfinite(array)).sum())} that are not finite. Leave those out and say so."
        )
    return array


def _check_draws(draws: int) -> None:
    if draws < 1:
        raise ValueError(f"draws must be 1 or more; got {draws}. Usual is 9,999.")


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(
            f"confidence must lie between 0 and 1, both excluded; got {confidence}. Usual is 0.95."
        )
