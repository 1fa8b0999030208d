"""p-values corrected for multiple tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm-corrected p-values: with probability 95 %, no true null has one at or below 0.05.

    Parameters
    ----------
    p_values : float array (n,), in [0, 1]
        NaN stays NaN and does not count as a test.

    Raises
    ------
    ValueError
        If a p-value lies outside [0, 1].

    Source
    ------
    Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".

    By hand: 3 × 0.01, then 2 × 0.02, then 1 × 0.5.

    >>> holm([0.5, 0.01, 0.02])
    array([0.5 , 0.03, 0.04])
    """
    p, tested = _checked(p_values)
    order = tested[np.argsort(p[tested], kind="stable")]
    raised = p[order] * np.arange(len(order), 0, -1)
    p[order] = np.minimum(1, np.maximum.accumulate(raised))
    return p


def benjamini_hochberg(p_values: ArrayLike) -> NDArray[np.float64]:
    """Benjamini-Hochberg p-values: of those at or below q, an expected share of q is false.

    Parameters and Raises as `holm`.

    Source
    ------
    Benjamini and Hochberg 1995, "Controlling the False Discovery Rate", section 3.1.

    By hand: 3/1 × 0.01, 3/2 × 0.02, 3/3 × 0.5, each at most the next.

    >>> benjamini_hochberg([0.5, 0.01, 0.02])
    array([0.5 , 0.03, 0.03])
    """
    p, tested = _checked(p_values)
    p[tested] = stats.false_discovery_control(p[tested])
    return p


def _checked(p_values: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """A copy of the p-values, and the positions without NaN."""
    p = np.array(p_values, dtype=np.float64)
    tested = np.flatnonzero(~np.isnan(p))
    if np.any((p[tested] < 0) | (p[tested] > 1)):
        raise ValueError(
            f"p-values must lie between 0 and 1; got {p[tested].min():g} to {p[tested].max():g}. "
            "Pass probabilities, not scores."
        )
    return p, tested
