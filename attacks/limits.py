"""Intervals of what an audit counts, and whether a figure is past a limit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from attacks.estimates import clopper_pearson


@dataclass(frozen=True)
class Interval:
    """A figure with the lowest and the highest value that the data leave open.

    Parameters
    ----------
    value, low, high : float, all in the figure's own unit

    >>> Interval(3.0, 1.0, 5.0)
    Interval(value=3.0, low=1.0, high=5.0)
    """

    value: float
    low: float
    high: float


def is_past(figure: Interval, limit: float, *, strict: bool = False) -> bool:
    """Whether a figure is above a limit beyond doubt: its interval's low end is.

    Parameters
    ----------
    figure : Interval
    limit : float, in the figure's unit
    strict : bool
        Decide by the value alone.

    >>> three = Interval(3.0, 1.0, 5.0)
    >>> is_past(three, 2.0), is_past(three, 2.0, strict=True), is_past(three, 0.5)
    (False, True, True)
    """
    return (figure.value if strict else figure.low) > limit


def count_interval(
    successes: int, trials: int, *, confidence: float = 0.95, effective: float | None = None
) -> Interval:
    """A count of trials with the counts that as many trials of the same rate would leave open.

    Parameters
    ----------
    successes, trials : int
    confidence : float, between 0 and 1
    effective : float, optional
        As in `clopper_pearson`.

    Returns
    -------
    Interval, in counts: `trials` times the Clopper-Pearson interval of the rate; with `effective`,
    that of Korn and Graubard.

    Raises
    ------
    ValueError
        As `clopper_pearson`.

    Three of three at confidence 0.75, 1/8 in each tail: the low end has p^3 = 1/8, so 3 times 1/2.

    >>> count_interval(3, 3, confidence=0.75)
    Interval(value=3.0, low=1.5, high=3.0)
    """
    low, high = clopper_pearson(successes, trials, confidence=confidence, effective=effective)
    return Interval(float(successes), trials * float(low), trials * float(high))


def highest_rate(
    successes: ArrayLike,
    trials: ArrayLike,
    *,
    strict: bool = False,
    confidence: float = 0.95,
    effective: ArrayLike | None = None,
) -> tuple[int, Interval]:
    """The highest of several rates, with an interval that holds for having looked at them all.

    Picking the highest of m rates favours luck, so each interval is made at 1 - (1 - confidence)
    / m (Bonferroni): all of them together hold their true rates at that confidence.

    Parameters
    ----------
    successes, trials : int arrays (m,), at least one with trials
    strict : bool
        The highest value; otherwise that of the highest low end, which is surest to be high.
    confidence : float, between 0 and 1
    effective : float array (m,), optional
        As in `clopper_pearson`.

    Returns
    -------
    (index, Interval) : which one, and its rate as a fraction. Rates of no trials are left out.

    Raises
    ------
    ValueError
        If there are no trials at all, or as `clopper_pearson`.

    One of one has the higher rate, 9 of 10 the higher low end:

    >>> highest_rate([1, 9], [1, 10], strict=True)[0], highest_rate([1, 9], [1, 10])[0]
    (0, 1)
    """
    k, n = np.asarray(successes), np.asarray(trials)
    known = n > 0
    if not known.any():
        raise ValueError("trials must hold a number above 0; got none. Leave the question out.")
    each = 1 - (1 - confidence) / int(known.sum())
    low, high = clopper_pearson(k, n, confidence=each, effective=effective)
    rate = np.divide(k, n, out=np.full(n.shape, -1.0), where=known)
    at = int(np.argmax(rate if strict else np.where(known, low, -1.0)))
    return at, Interval(float(rate[at]), float(low[at]), float(high[at]))


def exposure_interval(
    n_as_likely: int, n_controls: int, space_bits: float, *, confidence: float = 0.95
) -> tuple[float, float]:
    """Which exposures a canary may have, given how many random controls are as likely as it.

    It assumes no law: the share of secrets that are as likely is a proportion, of which the
    controls are a random sample.

    Parameters
    ----------
    n_as_likely, n_controls : int
    space_bits : float
        log2 of the number of secrets there might have been: no exposure is above it.
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

    None of 3, at confidence 0.75, 1/8 in each tail: the share is at most 1/2, as (1/2)^3 = 1/8, so
    the exposure at least 1 bit.

    >>> exposure_interval(0, 3, 20.0, confidence=0.75)
    (1.0, 20.0)
    """
    least, most = clopper_pearson(n_as_likely, n_controls, confidence=confidence)
    low, high = (_bits(float(share), space_bits) for share in (most, least))
    return low, high


def _bits(share: float, space_bits: float) -> float:
    return min(space_bits, -math.log2(share)) + 0.0 if share > 0 else space_bits
