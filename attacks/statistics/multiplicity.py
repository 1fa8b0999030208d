"""Many claims at once: p-values corrected for how many there are."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm-corrected p-values: claims at or below 0.05 are all true in 95 % of such families.

    Parameters
    ----------
    p_values : float array (n,), in [0, 1]
        NaN is a claim that was not tested: it stays NaN and does not count.

    Returns
    -------
    float64 array (n,)

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
    p, tested, order = _in_order(p_values)
    factors = np.arange(len(order), 0, -1)
    p[tested[order]] = np.minimum(1, np.maximum.accumulate(p[tested[order]] * factors))
    return p


def benjamini_hochberg(p_values: ArrayLike) -> NDArray[np.float64]:
    """Benjamini-Hochberg p-values: of claims at or below q, a share of q is false on average.

    Parameters
    ----------
    p_values : float array (n,), in [0, 1]
        NaN stays NaN and does not count.

    Returns
    -------
    float64 array (n,)

    Raises
    ------
    ValueError
        If a p-value lies outside [0, 1].

    Source
    ------
    Benjamini and Hochberg 1995, "Controlling the False Discovery Rate", section 3.1.

    By hand: 3/1 × 0.01, 3/2 × 0.02, 3/3 × 0.5, each at most the next.

    >>> benjamini_hochberg([0.5, 0.01, 0.02])
    array([0.5 , 0.03, 0.03])
    """
    p, tested, order = _in_order(p_values)
    n = len(order)
    raised = p[tested[order]] * n / np.arange(1, n + 1)
    p[tested[order]] = np.minimum(1, np.minimum.accumulate(raised[::-1])[::-1])
    return p


def _in_order(p_values: ArrayLike):
    """A copy, the places that were tested, and their order from the smallest on."""
    p = np.array(p_values, dtype=np.float64)
    tested = np.flatnonzero(~np.isnan(p))
    if np.any((p[tested] < 0) | (p[tested] > 1)):
        raise ValueError(
            f"p-values must lie between 0 and 1; got {p[tested].min():g} to {p[tested].max():g}. "
            "Pass probabilities, not scores."
        )
    return p, tested, np.argsort(p[tested], kind="stable")
