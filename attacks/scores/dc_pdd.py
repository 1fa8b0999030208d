"""DC-PDD: likely tokens count for more, the rarer they are in other text."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from attacks.scores.min_k import Values, scored
from attacks.scores.token_stats import TokenStats, reduce_texts


def dc_pdd(target: TokenStats, counts: ArrayLike, *, cap: float = 0.01) -> Values:
    """Cross-entropy of the model's probabilities to the tokens' frequency in a corpus.

    Of each distinct token of the text its first scored place counts, with
    min(p(token) * -log f(token), cap); the score is their mean. f is the token's frequency in
    the corpus with one more of every token of the vocabulary (Laplace).

    Parameters
    ----------
    target : TokenStats of n texts
    counts : int array (n_vocab,)
        How often each token of the target's vocabulary stands in a reference corpus.
    cap : float, nats, above 0

    Returns
    -------
    float64 array (n,), nats, 0 to `cap`; NaN where nothing was scored.

    Raises
    ------
    ValueError
        If a count is negative or no whole number, a token lies outside the vocabulary, or the cap
        is not above 0.

    Source
    ------
    Zhang et al. 2024, "Pretraining Data Detection for Large Language Models: A Divergence-based
    Calibration Method", the method's four steps; a = 0.01 as in its public code. That code
    never sees a text's first token; we score it after BOS where the model has one. Some public
    versions print the negative, lower for members.

    >>> stats = TokenStats.from_lists([[0, 1, 0]], [[-1.0, -9.0, -0.1]], [[0, 4, 0]])
    >>> dc_pdd(stats, [8, 0], cap=1).round(4)  # f = 9/10 and 1/10; the second 0 does not count
    array([0.0195])
    """
    frequency = laplace(counts)
    if not cap > 0:
        raise ValueError(f"cap must be above 0 nats; got {cap}. The public code has 0.01.")
    ids, offsets = scored(target, target.token_ids)
    if ids.size and (ids.min() < 0 or ids.max() >= len(frequency)):
        raise ValueError(
            f"counts must cover every token, here up to {ids.max():,}; got {len(frequency):,} "
            "counts. Count over the target's own vocabulary."
        )
    nats, _ = scored(target, target.token_nll())
    divergence = np.minimum(np.exp(-nats) * -np.log(frequency)[ids], cap)
    texts = np.repeat(np.arange(len(target)), np.diff(offsets))
    # The first place of each (text, token) pair, of all texts at once.
    first = np.zeros(len(ids), dtype=bool)
    first[np.unique(texts * len(frequency) + ids, return_index=True)[1]] = True
    # A broken token counts even where it repeats one: its text must not look whole.
    first |= np.isnan(nats)
    total = reduce_texts(np.add, np.where(first, divergence, 0.0), offsets, empty=0.0)
    n_first = reduce_texts(np.add, first.astype(np.float64), offsets, empty=0.0)
    out = np.full(len(target), np.nan)
    np.divide(total, n_first, out=out, where=n_first > 0)
    return out


def laplace(counts: ArrayLike) -> Values:
    """Frequencies of counted tokens, each counted once more: (count + 1) / (total + n_vocab).

    Returns
    -------
    float64 array (n_vocab,), above 0, sums to 1.

    Raises
    ------
    ValueError
        If a count is negative or no whole number, or there is none.

    >>> laplace([3, 0])
    array([0.8, 0.2])
    """
    given = np.ravel(counts)
    if not given.size or given.dtype.kind not in "iu" or given.min() < 0:
        raise ValueError(
            "counts must be whole numbers of 0 or more, one a token of the vocabulary; "
            f"got {given.size:,} of {given.dtype}. Count tokens with np.bincount."
        )
    return (given + 1.0) / (given.sum(dtype=np.float64) + given.size)
