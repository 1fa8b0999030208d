"""Neighbourhood attack: a member is more likely than texts that are almost the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from attacks.scores.token_stats import TokenStats, Values, mean_of_texts, offsets_of


def neighbourhood(target: TokenStats, neighbours: TokenStats, n_neighbours: ArrayLike) -> Values:
    """Mean L(neighbour) - L(text).

    Parameters
    ----------
    target : TokenStats of n texts
    neighbours : TokenStats of all neighbours, in the order of the texts, under the same model
        Neighbours without a scored token are left out.
    n_neighbours : int array (n,)
        Number of neighbours of each text.

    Returns
    -------
    float64 array (n,), nats per token; NaN for a text without neighbours.

    Raises
    ------
    ValueError
        If n_neighbours does not have one entry per text, or does not add up to the neighbours.

    Source
    ------
    Mattern et al. 2023, "Membership Inference Attacks against Language Models via Neighbourhood
    Comparison", §2: a member if L(text) - mean L(neighbour) is below a threshold. This score is
    the negative of that difference. The caller chooses the neighbours.

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
            "Pass the number of neighbours of each text."
        )
    mean = mean_of_texts(neighbours.nll(), neighbours.n_scored() > 0, offsets_of(counts))
    with np.errstate(invalid="ignore"):  # inf - inf (both impossible) is undefined
        return mean - target.nll()
