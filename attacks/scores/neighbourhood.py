"""The neighbourhood attack: a member is likelier than texts that are almost the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from attacks.scores.min_k import Values
from attacks.scores.token_stats import TokenStats, reduce_texts


def neighbourhood(target: TokenStats, neighbours: TokenStats, n_neighbours: ArrayLike) -> Values:
    """How much more nats the text's neighbours cost than the text: mean L(neighbour) - L(text).

    Parameters
    ----------
    target : TokenStats of n texts
    neighbours : TokenStats of all neighbours, those of the first text first
        Under the same model. One with no scored token is left out.
    n_neighbours : int array (n,)
        How many of the neighbours are each text's.

    Returns
    -------
    float64 array (n,), nats a token; NaN where a text has no neighbour.

    Raises
    ------
    ValueError
        If the counts are not one a text, or do not add up to the neighbours.

    Source
    ------
    Mattern et al. 2023, "Membership Inference Attacks against Language Models via Neighbourhood
    Comparison", §2: member if L(text) - mean L(neighbour) is below a threshold.
    Ours is its negative. What a neighbour is, the caller decides.

    >>> target = TokenStats.from_lists([[5, 6]], [[-1.0, -3.0]], [[0, 4]])
    >>> around = TokenStats.from_lists([[5, 7], [8, 6]], [[-1.0, -4.0], [-5.0, -2.0]], [[0, 4]] * 2)
    >>> neighbourhood(target, around, [2])
    array([1.])
    """
    counts = np.ravel(n_neighbours).astype(np.int64)
    if counts.size != len(target) or (counts < 0).any() or counts.sum() != len(neighbours):
        raise ValueError(
            f"n_neighbours must be {len(target):,} counts that add up to the {len(neighbours):,} "
            f"neighbours; got {counts.size:,} that add up to {counts.sum():,}. "
            "Pass how many neighbours each text has."
        )
    offsets = np.concatenate([[0], np.cumsum(counts)])
    some = neighbours.n_scored() > 0
    total = reduce_texts(np.add, np.where(some, neighbours.nll(), 0.0), offsets, empty=0.0)
    n_some = reduce_texts(np.add, some.astype(np.float64), offsets, empty=0.0)
    mean = np.full(len(target), np.nan)
    np.divide(total, n_some, out=mean, where=n_some > 0)
    with np.errstate(invalid="ignore"):  # inf - inf: both impossible, undefined
        return mean - target.nll()
