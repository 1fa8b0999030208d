"""Log-linear fits of the extractable share against repeats, prefix length or model size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from attacks.statistics.intervals import check_confidence, normal_quantile


@dataclass(frozen=True)
class LogLinearFit:
    """The fit share = intercept + slope * log10(x), or the reason why it is withheld.

    Parameters
    ----------
    slope : float
        Change of the share per tenfold x (0.1 = ten percentage points); NaN if withheld.
    low, high : float
        Student-t interval of the slope.
    intercept : float
        The fitted share at x = 1, which may lie outside [0, 1].
    r_squared : float
        Share of the (weighted) variance that the line explains; NaN if the shares do not vary.
    r_squared_low, r_squared_high : float
        Interval of r_squared, from that of the correlation; NaN for fewer than 4 distinct x.
    n_points, n_examples : int
        Numbers of distinct x and of examples.
    confidence : float
    withheld : str
        Why there is no fit; empty if there is one.
    """

    slope: float
    low: float
    high: float
    intercept: float
    r_squared: float
    r_squared_low: float
    r_squared_high: float
    n_points: int
    n_examples: int
    confidence: float
    withheld: str = ""


def fit_log_linear(
    x: ArrayLike, successes: ArrayLike, trials: ArrayLike, *, confidence: float = 0.95
) -> LogLinearFit:
    """Weighted least squares of the share of successes on log10(x); weights are the trials.

    Parameters
    ----------
    x : float array (n,), above 0
        Equal x are pooled; those without trials are left out.
    successes, trials : int arrays (n,)
    confidence : float, between 0 and 1

    Returns
    -------
    LogLinearFit; withheld, with a reason, if fewer than 3 distinct x have trials, or if all or no
    trials succeeded: the interval of such a line would have zero width.

    Raises
    ------
    ValueError
        If lengths differ, an x is not above 0, successes lie outside [0, trials], or confidence
        outside (0, 1).

    Source
    ------
    Carlini et al. 2022, "Quantifying Memorization Across Neural Language Models", section 4. The
    slope's interval is Student's, with n - 2 degrees of freedom; that of R² is Fisher's for the
    correlation of n points (Fisher 1921), squared.

    Shares of 0, 1/2 and 1 at x = 1, 10 and 100 lie on a line of slope 1/2:

    >>> fit = fit_log_linear([1, 10, 100], [0, 2, 4], [4, 4, 4])
    >>> round(fit.slope, 9), round(fit.r_squared, 9), fit.n_points
    (0.5, 1.0, 3)
    >>> fit_log_linear([1, 10], [0, 2], [4, 4]).withheld
    'needs 3 different values, got 2'
    """
    values, right, n = _checked(x, successes, trials, confidence)
    points = np.unique(values[n > 0])
    weight = np.array([n[values == v].sum() for v in points], dtype=np.float64)
    share = np.array([right[values == v].sum() for v in points]) / weight
    reason = ""
    if len(points) < 3:
        reason = f"needs 3 different values, got {len(points)}"
    elif share.max() == 0 or share.min() == 1:
        reason = f"{'none' if share.max() == 0 else 'all'} extracted at every value"
    if reason:
        nothing = (math.nan,) * 7
        return LogLinearFit(*nothing, len(points), int(weight.sum()), confidence, reason)
    a = np.log10(points)
    mean_a, mean_y = np.average(a, weights=weight), np.average(share, weights=weight)
    s_aa = float(weight @ (a - mean_a) ** 2)
    s_yy = float(weight @ (share - mean_y) ** 2)
    slope = float(weight @ ((a - mean_a) * (share - mean_y))) / s_aa
    left = float(weight @ (share - mean_y - slope * (a - mean_a)) ** 2)
    freedom = len(points) - 2
    reach = stats.t.ppf((1 + confidence) / 2, freedom) * math.sqrt(left / freedom / s_aa)
    r_squared = max(0.0, 1 - left / s_yy) if s_yy > 0 else math.nan
    low, high = _interval_of_r_squared(r_squared, len(points), confidence)
    return LogLinearFit(
        slope, slope - reach, slope + reach, float(mean_y - slope * mean_a), r_squared, low, high,
        len(points), int(weight.sum()), confidence,
    )  # fmt: skip


def _interval_of_r_squared(r_squared: float, n: int, confidence: float) -> tuple[float, float]:
    if math.isnan(r_squared) or n < 4:
        return math.nan, math.nan
    r = math.sqrt(r_squared)
    if r >= 1:
        return 1.0, 1.0
    reach = normal_quantile(confidence) / math.sqrt(n - 3)
    low, high = math.tanh(math.atanh(r) - reach), math.tanh(math.atanh(r) + reach)
    return (0.0 if low < 0 else low**2), max(high**2, low**2)


def _checked(x, successes, trials, confidence):
    values, right, n = np.asarray(x, float), np.asarray(successes), np.asarray(trials)
    if values.ndim != 1 or not values.shape == right.shape == n.shape:
        raise ValueError(
            "x, successes and trials must have the same length; "
            f"got {values.shape}, {right.shape} and {n.shape}. Pass one of each per point."
        )
    if not np.all((values > 0) & np.isfinite(values)):
        raise ValueError("x must be above 0 and finite, for its logarithm. Leave other points out.")
    if np.any((right < 0) | (right > n)):
        raise ValueError("successes must lie between 0 and trials. Check the order of the two.")
    check_confidence(confidence)
    return values, right, n
