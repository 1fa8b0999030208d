"""What a count says about a rate, and how surely: no proportion without its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special


@dataclass(frozen=True)
class Proportion:
    """A rate with its Clopper-Pearson interval and the counts behind it; made by `proportion`.

    Parameters
    ----------
    successes, trials : int
    value : float
        successes / trials, a fraction; NaN if there were no trials.
    low, high : float
        The interval, fractions.
    confidence : float
        How often at the least such an interval holds the true rate.

    >>> print(Proportion(1, 2, 0.5, 0.2, 0.8, 0.28))
    50.0 % (20.0–80.0; 1 of 2)
    """

    successes: int
    trials: int
    value: float
    low: float
    high: float
    confidence: float

    def __str__(self) -> str:
        """Percentages as a reader wants them: "35.7 % (31.8–39.6; 214 of 600)"."""
        if self.trials == 0:
            return "no trials"
        low, high = _percent(self.low), _percent(self.high)
        counts = f"{self.successes:,} of {self.trials:,}"
        return f"{_percent(self.value)} % ({low}–{high}; {counts})"


def proportion(successes: int, trials: int, *, confidence: float = 0.95) -> Proportion:
    """The rate of successes in trials, with its Clopper-Pearson interval.

    Parameters
    ----------
    successes, trials : int
    confidence : float, between 0 and 1

    Returns
    -------
    Proportion; of no trials: NaN, with the interval from 0 to 1.

    Raises
    ------
    ValueError
        As `clopper_pearson`.

    Source
    ------
    As `clopper_pearson`.

    One success in two trials, at confidence 0.28, so 0.36 in each tail: the low end p has
    P(X >= 1) = 1 - (1 - p)^2 = 0.36, so p = 0.2; the high end has P(X <= 1) = 1 - p^2 = 0.36,
    so p = 0.8.

    >>> print(proportion(1, 2, confidence=0.28))
    50.0 % (20.0–80.0; 1 of 2)
    >>> print(proportion(0, 0))
    no trials
    """
    low, high = clopper_pearson(successes, trials, confidence=confidence)
    value = successes / trials if trials else math.nan
    return Proportion(int(successes), int(trials), value, float(low), float(high), confidence)


def clopper_pearson(
    successes: ArrayLike, trials: ArrayLike, *, confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Exact intervals for binomial rates: the lowest and highest rate that each count leaves open.

    Parameters
    ----------
    successes, trials : int arrays, broadcast against each other
    confidence : float, between 0 and 1
        (1 - confidence) / 2 is left to either tail.

    Returns
    -------
    (low, high) : float64 arrays, fractions. No trials: 0 and 1. No success: low is exactly 0.
    All successes: high is exactly 1.

    Raises
    ------
    ValueError
        If a count is not a whole number, successes lie outside [0, trials], or the confidence
        outside (0, 1).

    Source
    ------
    Clopper and Pearson 1934, "The use of confidence or fiducial limits illustrated in the case
    of the binomial", in its beta-quantile form.

    Three of three, at confidence 0.75, so 1/8 in each tail: the low end has p^3 = 1/8.

    >>> clopper_pearson([3, 0], [3, 0], confidence=0.75)
    (array([0.5, 0. ]), array([1., 1.]))
    """
    if not 0 < confidence < 1:
        raise ValueError(
            f"confidence must lie between 0 and 1, both excluded; got {confidence}. "
            "Pass a fraction such as 0.95."
        )
    k, n = np.broadcast_arrays(_counts("successes", successes), _counts("trials", trials))
    wrong = np.flatnonzero((k < 0) | (k > n))
    if len(wrong):
        raise ValueError(
            f"successes must lie between 0 and trials; "
            f"got {k.flat[wrong[0]]:,} of {n.flat[wrong[0]]:,}. Check the order of the two."
        )
    tail = (1 - confidence) / 2
    # A beta distribution has no parameter 0, which is just where the ends are 0 and 1 exactly.
    low = np.where(k == 0, 0.0, special.betaincinv(np.maximum(k, 1), n - k + 1, tail))
    high = np.where(k == n, 1.0, special.betainccinv(k + 1, np.maximum(n - k, 1), tail))
    return low, high


def _counts(name: str, counts: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(counts)
    if array.size and array.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be whole numbers; got {array.dtype}. Pass counts, not rates."
        )
    return array.astype(np.int64)


def _percent(fraction: float) -> str:
    """A percentage with 1 decimal; with 2 digits that count where that would show 0 or 100."""
    percent = 100 * fraction
    from_edge = min(percent, 100 - percent)
    if not 0 < from_edge < 0.1:
        return f"{percent:.1f}"
    # Past 12 decimals there is nothing but rounding next to 100.
    return f"{percent:.{min(12, 1 - math.floor(math.log10(from_edge)))}f}"
