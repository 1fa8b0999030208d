"""A threshold chosen on half of the non-members and tested on the other half."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from attacks.statistics.intervals import proportion
from attacks.statistics.roc import TprAtFpr, allowed, two_classes, unresolved


@dataclass(frozen=True)
class HeldOutThreshold(TprAtFpr):
    """TPR and FPR of a threshold on texts that did not choose it; made by `held_out_threshold`.

    target, threshold, withheld
        As in `TprAtFpr`.
    fpr, tpr : Estimate or None
        On the other half of the non-members, and on all members.
    n_fitted : int
        Non-members that chose the threshold.
    """

    n_fitted: int = 0


def held_out_threshold(
    members: ArrayLike,
    nonmembers: ArrayLike,
    *,
    target: float = 0.01,
    seed: int = 0,
    confidence: float = 0.95,
) -> HeldOutThreshold:
    """Choose a threshold on half of the non-members, and test it on all other texts.

    Parameters
    ----------
    members, nonmembers : float arrays (n_members,), (n_nonmembers,)
        NaN is left out.
    target : float, in (0, 1]
        The threshold is the last one whose FPR on the first half does not exceed the target.
    seed : int
        Random seed of the halves.
    confidence : float, between 0 and 1

    Returns
    -------
    HeldOutThreshold; withheld if half of the non-members are fewer than 10 / target, as in
    `roc.tpr_at_fpr`. The intervals hold for this threshold and its realised FPR.

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
    n = len(order) // 2
    if reason := unresolved(target, len(order), halves=True):
        return HeldOutThreshold(target, math.nan, None, None, reason, n)
    fitted, tested = sides.nonmembers[order[:n]], sides.nonmembers[order[n:]]
    spent = allowed(target, n)
    threshold = float(np.sort(fitted)[::-1][spent]) if spent < n else -math.inf
    fpr, tpr = (
        proportion(int(np.count_nonzero(side > threshold)), len(side), confidence=confidence)
        for side in (tested, sides.members)
    )
    return HeldOutThreshold(target, threshold, tpr, fpr, "", n)
