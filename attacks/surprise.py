"""SURP: a member holds few tokens at which the model is certain and wrong."""

from __future__ import annotations

import numpy as np

from attacks.lowest import Values, lowest, scored
from attacks.min_k import moments_of
from attacks.token_stats import TokenStats, reduce_texts


def surp(target: TokenStats, *, percent: float = 20, max_entropy: float = 2.0) -> Values:
    """Mean log-probability of the text's surprising tokens.

    A token is surprising if it is among the `percent` least likely of its text (with those as
    likely as the last of them) although the model's entropy there is below `max_entropy`.

    Parameters
    ----------
    target : TokenStats of n texts, with vocab_mean and vocab_std
        The entropy is -vocab_mean.
    percent : float, above 0 and at most 100
    max_entropy : float, nats

    Returns
    -------
    float64 array (n,), nats, at most 0; NaN where no token is surprising.

    Raises
    ------
    ValueError
        If the moments are missing, or an option is out of range.

    Source
    ------
    Zhang and Wu 2024, "Adaptive Pre-training Data Detection for Large Language Models via
    Surprising Tokens", the definition of surprising tokens. The paper tunes both thresholds
    for each model; 20 % and 2 nats are those of public code that compares it with others. The
    percentile is read by counting, as in Min-K% (see docs/conformance.md). That
    code gives a text with no surprising token -100, the mark of a sure non-member; we say NaN.

    >>> logprob, entropy = [-1.0, -5.0, -4.0], [3.0, 3.0, 1.0]
    >>> stats = TokenStats([0, 3], [5, 6, 7], logprob, [0, 4, 2], np.negative(entropy), [1.0] * 3)
    >>> surp(stats, percent=67)
    array([-4.])
    """
    if not max_entropy > 0:
        raise ValueError(f"max_entropy must be above 0 nats; got {max_entropy}. Use 2.")
    mean, _ = moments_of(target, "SURP")
    logprob, offsets = scored(target, -target.token_nll())
    entropy, _ = scored(target, -mean)
    edge = lowest(logprob, offsets, percent=percent).edge
    # Comparisons with NaN are False: a broken entropy would vanish in silence.
    broken = np.isnan(reduce_texts(np.add, entropy, offsets, empty=0.0))
    surprising = (logprob <= np.repeat(edge, np.diff(offsets))) & (entropy < max_entropy)
    count = reduce_texts(np.add, surprising.astype(np.float64), offsets, empty=0.0)
    # Not a product: an impossible token that is not surprising would make NaN of 0 * inf.
    total = reduce_texts(np.add, np.where(surprising, logprob, 0.0), offsets, empty=0.0)
    out = np.full(len(target), np.nan)
    np.divide(total, count, out=out, where=(count > 0) & ~broken)
    return out
