"""Estimates with confidence intervals, and the intervals of proportions and counts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats


@dataclass(frozen=True)
class Estimate:
    """A figure with its confidence interval, or the reason why there is none.

    Parameters
    ----------
    value, low, high : float, all in the unit of the figure
        NaN without a value; only the ends are NaN without an interval.
    n : int
        Number of trials, texts, passages or points behind it.
    why : str
        Why there is no value; empty if there is one.

    `str` shows a share of n; a format specification shows any other figure.

    >>> print(Estimate(0.5, 0.2, 0.8, 2))
    50.0 % (20.0–80.0; 1 of 2)
    >>> f"{Estimate(0.75, 0.6, 0.86):.3f}"
    '0.750 (0.600–0.860)'
    """

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    why: str = ""

    def __str__(self) -> str:
        """The share in percent: "35.7 % (31.8–39.6; 214 of 600)"."""
        if self.why:
            return self.why
        low, high = _percent(self.low), _percent(self.high)
        return f"{_percent(self.value)} % ({low}–{high}; {self.successes:,} of {self.n:,})"

    def in_words(self, method: str = "Clopper–Pearson") -> str:
        """The share and its interval in a sentence, with the method of the interval.

        >>> Estimate(0.5, 0.2, 0.8, 2).in_words()
        '1 of 2 (50.0 %, 95 % Clopper–Pearson interval 20.0–80.0)'
        """
        if self.why:
            return self.why
        ends = f"{_percent(self.low)}–{_percent(self.high)}"
        share = f"{_percent(self.value)} %, 95 % {method} interval {ends}"
        return f"{self.successes:,} of {self.n:,} ({share})"

    def __format__(self, spec: str) -> str:
        """The value and both ends in the given format."""
        if not spec:
            return str(self)
        return f"{self.value:{spec}} ({self.low:{spec}}–{self.high:{spec}})"

    @property
    def successes(self) -> int:
        """The number of successes, if the value is a share of n."""
        return round(self.value * self.n) if self.n else 0

    def columns(self, name: str) -> dict[str, float]:
        """Table cells: NAME, NAME_low and NAME_high."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


def proportion(
    successes: int, trials: int, *, confidence: float = 0.95, effective: float | None = None
) -> Estimate:
    """The success rate with its Clopper-Pearson interval.

    Parameters, Raises and Source as `clopper_pearson`, for one count.

    Returns
    -------
    Estimate, a fraction; without trials NaN, with the interval from 0 to 1.

    One success in two trials at confidence 0.28, 0.36 in each tail: the low end p has
    P(X >= 1) = 1 - (1 - p)^2 = 0.36, so p = 0.2; the high end has P(X <= 1) = 1 - p^2 = 0.36,
    so p = 0.8.

    >>> print(proportion(1, 2, confidence=0.28))
    50.0 % (20.0–80.0; 1 of 2)
    >>> print(proportion(0, 0))
    no trials
    """
    low, high = clopper_pearson(successes, trials, confidence=confidence, effective=effective)
    if not trials:
        return Estimate(math.nan, float(low), float(high), why="no trials")
    return Estimate(successes / trials, float(low), float(high), int(trials))


def clopper_pearson(
    successes: ArrayLike,
    trials: ArrayLike,
    *,
    confidence: float = 0.95,
    effective: ArrayLike | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Exact confidence intervals of binomial rates.

    Parameters
    ----------
    successes, trials : int arrays, broadcast against each other
    confidence : float, between 0 and 1
        Each tail has the probability (1 - confidence) / 2.
    effective : float array, optional
        Effective number of trials, from `effective_trials`, if some trials repeat others. All
        trials by default.

    Returns
    -------
    (low, high) : float64 arrays, fractions. 0 and 1 without trials; low is exactly 0 without a
    success, and high exactly 1 without a failure.

    Raises
    ------
    ValueError
        If a count is not a whole number, successes lie outside [0, trials], or the confidence
        lies outside (0, 1).

    Source
    ------
    Clopper and Pearson 1934, "The use of confidence or fiducial limits illustrated in the case
    of the binomial", in its beta-quantile form. With `effective`: Korn and Graubard 1998,
    "Confidence intervals for proportions with small expected number of positive counts estimated
    from survey data", the same rate in the effective number of trials.

    Three of three at confidence 0.75, 1/8 in each tail: the low end has p^3 = 1/8.

    >>> clopper_pearson([3, 0], [3, 0], confidence=0.75)
    (array([0.5, 0. ]), array([1., 1.]))

    With three effective trials, 300 of 300 have the interval of three of three:

    >>> float(clopper_pearson(300, 300, confidence=0.75, effective=3.0)[0])
    0.5
    """
    check_confidence(confidence)
    k, n = np.broadcast_arrays(_counts("successes", successes), _counts("trials", trials))
    wrong = np.flatnonzero((k < 0) | (k > n))
    if len(wrong):
        raise ValueError(
            f"successes must lie between 0 and trials; "
            f"got {k.flat[wrong[0]]:,} of {n.flat[wrong[0]]:,}. Check the order of the two."
        )
    none, every = k == 0, k == n
    if effective is not None:
        worth = np.asarray(effective, dtype=np.float64)
        k, n = np.where(every, worth, k * worth / np.maximum(n, 1)), np.where(n > 0, worth, 0.0)
    tail = (1 - confidence) / 2
    # A beta distribution has no parameter 0; there the ends are exactly 0 and 1.
    low = np.where(none, 0.0, special.betaincinv(np.where(none, 1, k), n - k + 1, tail))
    high = np.where(every, 1.0, special.betainccinv(k + 1, np.where(every, 1, n - k), tail))
    return low, high


def effective_trials(clusters: ArrayLike) -> NDArray[np.float64]:
    """The effective number of trials among the first 1, 2, ... n, if some repeat others.

    Parameters
    ----------
    clusters : int array (n,)
        Equal numbers mark trials that are alike.

    Returns
    -------
    float64 array (n,), from 1 to n; the last entry is for all trials.

    Source
    ------
    Kish 1965, "Survey Sampling", section 5.4: n / (1 + (b - 1) rho), where b is the mean size of
    a trial's cluster. With rho = 1, trials of a cluster being identical, this is n^2 / sum of
    squared sizes: the number of clusters if all have one size, fewer otherwise.

    >>> effective_trials([7, 8, 9]).tolist(), effective_trials([7, 7, 8, 8]).tolist()
    ([1.0, 2.0, 3.0], [1.0, 1.0, 1.8, 2.0])
    """
    ids = np.unique(np.asarray(clusters), return_inverse=True)[1]
    order = np.argsort(ids, kind="stable")
    first = np.searchsorted(ids[order], ids[order])
    before = np.empty(len(ids), dtype=np.int64)  # earlier trials of the same cluster
    before[order] = np.arange(len(ids)) - first
    # One more trial in a cluster of c adds (c + 1)^2 - c^2 to the squares.
    return np.arange(1, len(ids) + 1) ** 2 / np.cumsum(2 * before + 1)


def check_confidence(confidence: float) -> None:
    """Raise ValueError unless 0 < confidence < 1."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1; got {confidence}. Pass 0.95, say.")


def normal_quantile(confidence: float) -> float:
    """Half the width of a two-sided normal interval, in standard deviations.

    >>> round(normal_quantile(0.95), 2)
    1.96
    """
    check_confidence(confidence)
    return float(stats.norm.ppf((1 + confidence) / 2))


def _counts(name: str, counts: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(counts)
    if array.size and array.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be whole numbers; got {array.dtype}. Pass counts, not rates."
        )
    return array.astype(np.int64)


def _percent(fraction: float) -> str:
    """A percentage with 1 decimal, or with 2 significant digits next to 0 and 100."""
    percent = 100 * fraction
    from_edge = min(percent, 100 - percent)
    if not 0 < from_edge < 0.1:
        return f"{percent:.1f}"
    # Beyond 12 decimals there is only rounding error next to 100.
    return f"{percent:.{min(12, 1 - math.floor(math.log10(from_edge)))}f}"


def count_interval(
    successes: int, trials: int, *, confidence: float = 0.95, effective: float | None = None
) -> Estimate:
    """A count of successes, with `trials` times the interval of `proportion`.

    Three of three at confidence 0.75, 1/8 in each tail: the low end has p^3 = 1/8, so 3 times 1/2.

    >>> count_interval(3, 3, confidence=0.75)
    Estimate(value=3.0, low=1.5, high=3.0, n=3, why='')
    """
    rate = proportion(successes, trials, confidence=confidence, effective=effective)
    return Estimate(float(successes), trials * rate.low, trials * rate.high, int(trials))


def highest_rate(
    successes: ArrayLike,
    trials: ArrayLike,
    *,
    by_low_end: bool = False,
    confidence: float = 0.95,
    effective: ArrayLike | None = None,
) -> tuple[int, Estimate]:
    """The highest of several rates, with an interval corrected for choosing among them.

    Each of the m intervals has confidence 1 - (1 - confidence) / m (Bonferroni), so that together
    they hold all true rates at the given confidence.

    Parameters
    ----------
    successes, trials : int arrays (m,), at least one with trials
    by_low_end : bool
        Choose the highest low end; by default, the highest value.
    confidence : float, between 0 and 1
    effective : float array (m,), optional
        As in `clopper_pearson`.

    Returns
    -------
    (index, Estimate) : the chosen rate, a fraction. Rates without trials are skipped.

    Raises
    ------
    ValueError
        If there are no trials at all, or as `clopper_pearson`.

    One of one has the higher rate, 9 of 10 the higher low end:

    >>> highest_rate([1, 9], [1, 10])[0], highest_rate([1, 9], [1, 10], by_low_end=True)[0]
    (0, 1)
    """
    k, n = np.asarray(successes), np.asarray(trials)
    known = n > 0
    if not known.any():
        raise ValueError("trials must hold a number above 0; got none. Skip this rate.")
    each = 1 - (1 - confidence) / int(known.sum())
    low, high = clopper_pearson(k, n, confidence=each, effective=effective)
    rate = np.divide(k, n, out=np.full(n.shape, -1.0), where=known)
    at = int(np.argmax(np.where(known, low, -1.0) if by_low_end else rate))
    return at, Estimate(float(rate[at]), float(low[at]), float(high[at]), int(n[at]))


def exposure_interval(
    n_as_likely: int, n_controls: int, space_bits: float, *, confidence: float = 0.95
) -> tuple[float, float]:
    """The interval of a canary's exposure, given how many random controls are as likely.

    No distribution is assumed: the controls are a random sample of all secrets, so the share of
    secrets that are as likely is a binomial rate.

    Parameters
    ----------
    n_as_likely, n_controls : int
    space_bits : float
        log2 of the number of possible secrets, the highest possible exposure.
    confidence : float, between 0 and 1

    Returns
    -------
    (low, high) : float, bits

    Raises
    ------
    ValueError
        As `clopper_pearson`.

    Source
    ------
    Carlini et al. 2019, "The Secret Sharer", section 4.3 (exposure is -log2 of that share); the
    interval of the share is Clopper and Pearson's.

    None of 3 at confidence 0.75, 1/8 in each tail: the share is at most 1/2, as (1/2)^3 = 1/8, so
    the exposure is at least 1 bit.

    >>> exposure_interval(0, 3, 20.0, confidence=0.75)
    (1.0, 20.0)
    """
    shares = clopper_pearson(n_as_likely, n_controls, confidence=confidence)
    high, low = (
        min(space_bits, -math.log2(share)) + 0.0 if share > 0 else space_bits for share in shares
    )
    return low, high
