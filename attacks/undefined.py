"""Counting why values of a score are undefined."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from attacks.token_stats import TokenStats

NO_ROW = "model to compare with has no row for a token of the text"


def without_row(stats: TokenStats) -> NDArray[np.bool_]:
    """Texts that a model was not asked about, as it has no row for one of their tokens: bool (n,).

    None of their tokens has a probability; of others the first alone may have none.

    >>> without_row(TokenStats.from_lists([[5, 9], [5]], [[None, None], [None]], [[-1, -1], [-1]]))
    array([ True, False])
    """
    return (stats.n_tokens() > 1) & (stats.n_scored() == 0)


def count_reasons(
    values: NDArray[np.float64], causes: Mapping[str, NDArray[np.bool_]]
) -> dict[str, int]:
    """How many values are NaN for each cause, the first that holds; "other" for those of none.

    Parameters
    ----------
    values : float64 array (n,)
    causes : mapping of a reason to a bool array (n,), in the order in which they apply

    Returns
    -------
    dict of reason to count, without those of none.

    >>> count_reasons(np.array([np.nan, 1.0, np.nan]), {"empty": np.array([True, True, False])})
    {'empty': 1, 'other': 1}
    """
    counts = {}
    unexplained = np.isnan(values)
    for reason, holds in {**causes, "other": np.ones(len(values), bool)}.items():
        if n := int((unexplained & holds).sum()):
            counts[reason] = n
        unexplained &= ~holds
    return counts
