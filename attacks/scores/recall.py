"""ReCaLL and Con-ReCall: likelihood of a text after a prefix of non-members, or of members."""

from __future__ import annotations

import numpy as np

from attacks.scores.token_stats import TokenStats, Values, offsets_of, reduce_texts


def recall(target: TokenStats, conditioned: TokenStats) -> Values:
    """L(text after a prefix of non-members) / L(text).

    Parameters
    ----------
    target : TokenStats of n texts
    conditioned : TokenStats of the same n texts after the prefix, under the same model
        The same tokens, or only the first tokens of a text if the context is too short.

    Returns
    -------
    float64 array (n,), at least 0; NaN if no token has a probability in both.

    Raises
    ------
    ValueError
        If the texts or their tokens differ.

    Source
    ------
    Xie et al. 2024, "ReCaLL: Membership Inference via Relative Conditional Log-Likelihoods", the
    definition of the score. The authors' code includes the first token in the conditional mean
    but, without BOS, not in the unconditional mean; we use the tokens that both have.

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
    shift = np.repeat(target.offsets[:-1] - conditioned.offsets[:-1], lengths)
    here = np.arange(len(conditioned.token_ids)) + shift  # positions of these tokens in the target
    longer = (lengths > target.n_tokens()).any()
    if longer or not np.array_equal(target.token_ids[here], conditioned.token_ids):
        raise ValueError(
            "conditioned must hold the target's token_ids, or the first of them, for each text; "
            "got others. Score the same tokens after the prefix."
        )
    both = target.is_scored[here] & conditioned.is_scored
    after, alone = (
        reduce_texts(np.add, np.where(both, nats, 0.0), conditioned.offsets, empty=np.nan)
        for nats in (conditioned.token_nll(), target.token_nll()[here])
    )
    n_both = np.diff(offsets_of(both)[conditioned.offsets])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(n_both > 0, after / alone, np.nan)


def con_recall(
    target: TokenStats, after_nonmembers: TokenStats, after_members: TokenStats, gamma: float = 0.5
) -> Values:
    """(L(text after non-members) - gamma L(text after members)) / L(text).

    Parameters
    ----------
    target : TokenStats of n texts
    after_nonmembers, after_members : TokenStats of the same n texts after each prefix
        As in `recall`, and for the same tokens of each text.
    gamma : weight of the members' prefix

    Returns
    -------
    float64 array (n,); NaN if no token has a probability in all three.

    Raises
    ------
    ValueError
        As `recall`.

    Source
    ------
    Wang et al. 2024, "Con-ReCall: Detecting Pre-training Data in LLMs via Contrastive Decoding"
    (arXiv 2409.03363). The authors choose gamma by the labels that they evaluate with, and take the
    prefixes from the evaluated texts; here gamma is fixed, and the prefixes are other texts.

    >>> target = TokenStats.from_lists([[5, 6]], [[-1.0, -3.0]], [[0, 4]])
    >>> unlike = TokenStats.from_lists([[5, 6]], [[-2.0, -4.0]], [[0, 4]])
    >>> con_recall(target, unlike, target)
    array([1.])
    """
    with np.errstate(invalid="ignore"):  # inf - inf: the target is certain of the text
        return recall(target, after_nonmembers) - gamma * recall(target, after_members)
