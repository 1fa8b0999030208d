"""ReCaLL: text that a model knows loses more when it stands after text that it does not know."""

from __future__ import annotations

import numpy as np

from attacks.scores.min_k import Values
from attacks.scores.token_stats import TokenStats, reduce_texts


def recall(target: TokenStats, conditioned: TokenStats) -> Values:
    """L(text after a prefix of non-members) / L(text).

    Parameters
    ----------
    target : TokenStats of n texts
    conditioned : TokenStats of the same n texts after the prefix
        The same model's, of the same tokens, or of as many of a text's first tokens as fitted
        into the context after the prefix.

    Returns
    -------
    float64 array (n,), at least 0; NaN where no token has a probability in both.

    Raises
    ------
    ValueError
        If the two are not of the same texts, or the tokens differ.

    Source
    ------
    Xie et al. 2024, "ReCaLL: Membership Inference via Relative Conditional Log-Likelihoods", the
    definition of the score: the ratio of the conditional to the unconditional mean
    log-likelihood. The authors' public code takes the first token into the conditional mean and,
    having no BOS, not into the other; we take the tokens that both have.

    >>> target = TokenStats.from_lists([[5, 6]], [[-1.0, -3.0]], [[0, 4]])
    >>> recall(target, TokenStats.from_lists([[5, 6]], [[-2.0, -4.0]], [[0, 4]]))
    array([1.5])
    """
    if len(conditioned) != len(target):
        raise ValueError(
            f"conditioned must be of the target's {len(target):,} texts; got {len(conditioned):,}. "
            "Score the same texts, in the same order."
        )
    lengths = conditioned.n_tokens()
    starts = np.repeat(target.offsets[:-1] - conditioned.offsets[:-1], lengths)
    # Where the same tokens stand in the target: each text's first ones.
    here = np.arange(len(conditioned.token_ids)) + starts
    longer = (lengths > target.n_tokens()).any()
    if longer or not np.array_equal(target.token_ids[here], conditioned.token_ids):
        raise ValueError(
            "conditioned must hold the target's token_ids, or the first of them, text by text; "
            "got others. Score the same tokens after the prefix."
        )
    both = target.is_scored[here] & conditioned.is_scored
    sums = [
        reduce_texts(np.add, np.where(both, nats, 0.0), conditioned.offsets, empty=np.nan)
        for nats in (conditioned.token_nll(), target.token_nll()[here])
    ]
    n_both = reduce_texts(np.add, both.astype(np.float64), conditioned.offsets, empty=0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(n_both > 0, sums[0] / sums[1], np.nan)
