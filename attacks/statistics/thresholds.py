"""A threshold chosen on some controls and tried on the others, which it has not seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from attacks.statistics.intervals import Estimate, proportion
from attacks.statistics.roc import allowed, resolves, too_few, two_classes


@dataclass(frozen=True)
class HeldOutThreshold:
    """What a threshold does to texts that it was not fitted on; made by `held_out_threshold`.

    target : float
        The FPR that it was fitted for.
    threshold : float
        Members are what scores above it; NaN if withheld.
    fpr : Estimate or None
        Realised on the other part of the non-members.
    tpr : Estimate or None
        Realised on all members.
    n_fitted : int
        Non-members that it was fitted on.
    withheld : str
        Why there is none; empty if there is one.
    """

    target: float
    threshold: float
    fpr: Estimate | None
    tpr: Estimate | None
    n_fitted: int
    withheld: str = ""


def held_out_threshold(
    members: ArrayLike,
    nonmembers: ArrayLike,
    *,
    target: float = 0.01,
    seed: int = 0,
    confidence: float = 0.95,
) -> HeldOutThreshold:
    """Fit a threshold on half of the non-members; realised FPR on the other half, TPR on members.

    Members have no part in the fit, so all of them test it.

    Parameters
    ----------
    members, nonmembers : float arrays (n_members,), (n_nonmembers,)
        NaN is left out.
    target : float, in (0, 1]
        The threshold is the last one whose FPR on the fitted half does not exceed it.
    seed : int
        Decides which half.
    confidence : float, between 0 and 1

    Returns
    -------
    HeldOutThreshold; withheld where the fitted half has fewer than 10 / target non-members, as in
    `roc.tpr_at_fpr`. The intervals are of this threshold, whose FPR is the one realised.

    Raises
    ------
    ValueError
        As `two_classes`; if the target lies outside (0, 1].

    >>> made = held_out_threshold(np.arange(250, 260), np.arange(200), target=0.1)
    >>> made.tpr.value, made.n_fitted
    (1.0, 100)
    """
    sides = two_classes(members, nonmembers)
    order = np.random.default_rng(seed).permutation(len(sides.nonmembers))
    n_fitted = len(order) // 2
    fitted, tried = sides.nonmembers[order[:n_fitted]], sides.nonmembers[order[n_fitted:]]
    spent = allowed(target, n_fitted)
    if not resolves(target, n_fitted):
        reason = too_few(target, len(order), halves=True)
        return HeldOutThreshold(target, math.nan, None, None, n_fitted, reason)
    threshold = float(np.sort(fitted)[::-1][spent]) if spent < n_fitted else -math.inf
    above = [int(np.count_nonzero(side > threshold)) for side in (tried, sides.members)]
    return HeldOutThreshold(
        target,
        threshold,
        proportion(above[0], len(tried), confidence=confidence),
        proportion(above[1], len(sides.members), confidence=confidence),
        n_fitted,
    )
