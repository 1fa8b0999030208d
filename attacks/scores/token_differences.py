"""Scores of the token-wise difference between a target and a reference with the same tokenizer.

d is log p_target - log p_reference of a token, in nats.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attacks.scores.paper import check_same_tokens
from attacks.scores.token_stats import TokenStats, Values, offsets_of, reduce_texts

# Ten lengths spaced geometrically from 2 to 40, rounded.
WBC_LENGTHS = (2, 3, 4, 5, 8, 11, 15, 21, 29, 40)
# Differences are summed as integers of this many nats: exact, so that a text's score does not
# depend on the other texts. Larger differences count as the largest.
_STEP, _LARGEST = 2.0**-30, 2.0**20


def ez_mia(target: TokenStats, reference: TokenStats) -> Values:
    """Where the target's first choice is wrong: sum of positive d / |sum of negative d|.

    A text of which the target predicts every token, or whose differences there are all above 0, is
    +inf, the most likely memorized.

    Returns
    -------
    float64 array (n,), at least 0; NaN for a text without a scored token, with unknown ranks, or
    if all differences at the wrong tokens are 0.

    Raises
    ------
    ValueError
        If the tokens differ.

    Source
    ------
    Ilić et al. 2026, "Powerful Training-Free Membership Inference Against Autoregressive Language
    Models" (arXiv 2601.12104), the Error Zone score. The authors' code returns 0 for a text without
    negative differences or with fewer than two wrong tokens, and so ranks the best memorized texts
    last; the paper ranks them first.

    >>> target = TokenStats.from_lists([[5, 6, 7]], [[-1.0, -3.0, -0.5]], [[2, 4, 0]])
    >>> ez_mia(target, TokenStats.from_lists([[5, 6, 7]], [[-4.0, -2.0, -9.0]], [[9, 2, 5]]))
    array([3.])
    """
    check_same_tokens(target, reference)
    d, kept = _differences(target, reference)
    wrong = kept & (target.rank > 0)
    above, below = (
        reduce_texts(np.add, np.where(wrong, part, 0.0), target.offsets, empty=0.0)
        for part in (np.maximum(d, 0.0), np.maximum(-d, 0.0))
    )
    n_wrong = np.diff(offsets_of(wrong)[target.offsets])
    with np.errstate(divide="ignore", invalid="ignore"):
        score = np.where(n_wrong > 0, above / below, np.inf)
    unknown = (target.rank < -1) | (target.is_scored & np.isnan(d))
    is_undefined = np.diff(offsets_of(unknown)[target.offsets]) > 0
    is_undefined |= np.diff(offsets_of(kept)[target.offsets]) == 0
    return np.where(is_undefined, np.nan, score)


def wbc(target: TokenStats, reference: TokenStats, lengths: Sequence[int] = WBC_LENGTHS) -> Values:
    """Share of windows of tokens that are likelier for the target, averaged over window lengths.

    Parameters
    ----------
    target, reference : TokenStats of the same n texts
    lengths : window lengths in tokens; those longer than a text are left out for that text

    Returns
    -------
    float64 array (n,), 0 to 1; NaN for a text with fewer scored tokens than the shortest window.

    Raises
    ------
    ValueError
        If the tokens differ.

    Source
    ------
    "Window-based comparison" (arXiv 2601.02751), eq. 12 for the lengths; the authors' configuration
    has other ones.

    >>> target = TokenStats.from_lists([[5, 6, 7]], [[-1.0, -3.0, -1.0]], [[2, 4, 1]])
    >>> other = TokenStats.from_lists([[5, 6, 7]], [[-4.0, -2.0, -1.0]], [[9, 2, 1]])
    >>> wbc(target, other)  # d = 3, -1, 0: one of two windows of 2, the window of 3
    array([0.75])
    """
    check_same_tokens(target, reference)
    d, kept = _differences(target, reference)
    finite = np.nan_to_num(np.clip(d[kept], -_LARGEST, _LARGEST))
    steps = np.round(finite / _STEP).astype(np.int64)
    sums = np.append(np.int64(0), np.cumsum(steps))  # wraps around, as differences of it do
    bounds = offsets_of(kept)[target.offsets]
    n_kept = np.diff(bounds)
    total, n_lengths = np.zeros(len(target)), np.zeros(len(target))
    for length in lengths:
        n_windows = np.maximum(n_kept - length + 1, 0)
        above = _windows_above(sums, bounds, n_windows, length)
        fits = n_windows > 0
        total[fits] += above[fits] / n_windows[fits]
        n_lengths += fits
    broken = np.diff(offsets_of(target.is_scored & np.isnan(d))[target.offsets]) > 0
    score = np.divide(total, n_lengths, out=np.full(len(total), np.nan), where=n_lengths > 0)
    return np.where(broken, np.nan, score)


def _windows_above(
    sums: NDArray[np.int64], bounds: NDArray[np.int64], n_windows: NDArray[np.int64], length: int
) -> NDArray[np.int64]:
    """How many windows of each text have a sum above 0."""
    if len(sums) <= length:
        return np.zeros(len(n_windows), np.int64)
    above = offsets_of((sums[length:] - sums[:-length]) > 0)
    first = np.minimum(bounds[:-1], len(above) - 1)
    return np.where(
        n_windows > 0, above[np.minimum(first + n_windows, len(above) - 1)] - above[first], 0
    )


def _differences(target: TokenStats, reference: TokenStats) -> tuple[Values, NDArray[np.bool_]]:
    """d of every token, float64 (n_tokens,), and whether both models score it."""
    kept = target.is_scored & reference.is_scored
    with np.errstate(invalid="ignore"):  # inf - inf (both impossible) is undefined
        d = reference.token_nll() - target.token_nll()
    return np.where(kept, d, 0.0), kept
