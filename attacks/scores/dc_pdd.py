"""DC-PDD: likely tokens count more if they are rare in other text."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from attacks.scores.min_k import scored
from attacks.scores.token_stats import TokenStats, Values, mean_of_texts


def dc_pdd(target: TokenStats, counts: ArrayLike, *, cap: float = 0.01) -> Values:
    """Cross-entropy of the model's probabilities and the token frequencies in a corpus.

    The mean of min(p(token) * -log f(token), cap) over the first scored occurrence of each
    distinct token of the text. f is the token's frequency in the corpus, with add-one (Laplace)
    smoothing over the vocabulary.

    Parameters
    ----------
    target : TokenStats of n texts
    counts : int array (n_vocab,)
        Occurrences of each token of the target's vocabulary in a reference corpus.
    cap : float, nats, above 0

    Returns
    -------
    float64 array (n,), nats, 0 to `cap`; NaN without a scored token.

    Raises
    ------
    ValueError
        If a count is negative or not an integer, a token is outside the vocabulary, or the cap is
        not above 0.

    Source
    ------
    Zhang et al. 2024, "Pretraining Data Detection for Large Language Models: A Divergence-based
    Calibration Method", the four steps of the method; a = 0.01 as in its public code. That code
    never scores a text's first token; we score it after BOS if the model has one. Some public
    versions print the negative, which is lower for members.

    >>> stats = TokenStats.from_lists([[0, 1, 0]], [[-1.0, -9.0, -0.1]], [[0, 4, 0]])
    >>> dc_pdd(stats, [8, 0], cap=1).round(4)  # f = 9/10 and 1/10; the repeated 0 is left out
    array([0.0195])
    """
    frequency = laplace(counts)
    if not cap > 0:
        raise ValueError(f"cap must be above 0 nats; got {cap}. The public code uses 0.01.")
    ids, offsets = scored(target, target.token_ids)
    if ids.size and (ids.min() < 0 or ids.max() >= len(frequency)):
        raise ValueError(
            f"counts must cover every token, here up to {ids.max():,}; got {len(frequency):,} "
            "counts. Count over the target's own vocabulary."
        )
    nats, _ = scored(target, target.token_nll())
    divergence = np.minimum(np.exp(-nats) * -np.log(frequency)[ids], cap)
    texts = np.repeat(np.arange(len(target)), np.diff(offsets))
    # Repeated tokens are left out, unless broken: their text must become NaN.
    kept = np.isnan(nats)
    kept[np.unique(texts * len(frequency) + ids, return_index=True)[1]] = True
    return mean_of_texts(divergence, kept, offsets)


def laplace(counts: ArrayLike) -> Values:
    """Token frequencies with add-one smoothing: (count + 1) / (total + n_vocab).

    Returns
    -------
    float64 array (n_vocab,), above 0, sums to 1.

    Raises
    ------
    ValueError
        If there are no counts, or one is negative or not an integer.

    >>> laplace([3, 0])
    array([0.8, 0.2])
    """
    given = np.ravel(counts)
    if not given.size or given.dtype.kind not in "iu" or given.min() < 0:
        raise ValueError(
            "counts must be whole numbers of 0 or more, one per token of the vocabulary; "
            f"got {given.size:,} of {given.dtype}. Count tokens with np.bincount."
        )
    return (given + 1.0) / (given.sum(dtype=np.float64) + given.size)
