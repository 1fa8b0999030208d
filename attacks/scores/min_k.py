"""Min-K% and Min-K%++: a member has few tokens that the model finds very unlikely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attacks.scores.token_stats import TokenStats, reduce_texts

# A deviation below this, in nats, is the rounding of float32 and no number to divide by.
LEAST_STD = 1e-4


def min_k(target: TokenStats, *, percent: float = 20) -> Values:
    """Mean log-probability of the text's least likely tokens: Min-K% Prob.

    Parameters
    ----------
    target : TokenStats of n texts
    percent : float, above 0 and at most 100
        Share of a text's tokens that is looked at; 100 is the mean of all of them.

    Returns
    -------
    float64 array (n,), nats, at most 0; NaN where nothing was scored.

    Raises
    ------
    ValueError
        If the percentage is out of range.

    Source
    ------
    Shi et al. 2024, "Detecting Pretraining Data from Large Language Models", §3. The authors'
    public code takes floor(m * K / 100) of m tokens, which is none of a text of fewer than 100 / K
    tokens and gives NaN there; we take at least one token. Their code leaves out a text's first
    token, which had no BOS before it; we score it after BOS where the model has one.

    >>> min_k(TokenStats.from_lists([[5, 6]], [[-1.0, -3.0]], [[0, 4]]))
    array([-3.])
    """
    # The nats, not the column: what rounding lifted above 0 counts as 0 in every score.
    logprob, offsets = scored(target, -target.token_nll())
    return lowest(logprob, offsets, percent=percent).mean


def min_k_plus_plus(
    target: TokenStats, *, percent: float = 20, least_std: float = LEAST_STD
) -> Values:
    """Min-K% of standardised log-probabilities: Min-K%++.

    A token's log-probability is compared with what a token drawn from the model at that place
    would have: less its mean, by its standard deviation.

    Parameters
    ----------
    target : TokenStats of n texts, with vocab_mean and vocab_std
    percent : float, above 0 and at most 100
    least_std : float, nats, at least 0
        Smaller deviations count as this one. Where the model is sure of the next token the
        deviation vanishes; the score of a right token there is 0 and of a wrong one far below 0.

    Returns
    -------
    float64 array (n,), in standard deviations; NaN where nothing was scored.

    Raises
    ------
    ValueError
        If the moments are missing, or an option is out of range.

    Source
    ------
    Zhang et al. 2024, "Min-K%++: Improved Baseline for Detecting Pre-Training Data from Large
    Language Models", the definition of the score. The authors' public code divides by the root of
    E[x^2] - E[x]^2 as it comes, which rounding can make 0 or negative: infinite or NaN there. We
    clamp the variance at 0 and the deviation at `least_std`, and take at least one token.

    >>> stats = TokenStats([0, 2], [5, 6], [-1.0, -3.0], [0, 4], [-2.0, -2.0], [0.5, 0.5])
    >>> min_k_plus_plus(stats)
    array([-2.])
    """
    mean, std = moments_of(target, "Min-K%++")
    if not least_std >= 0:
        raise ValueError(f"least_std must be 0 nats or more; got {least_std}. Use {LEAST_STD}.")
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = (-target.token_nll() - mean) / np.maximum(std, least_std)
    standardised, offsets = scored(target, apart)
    return lowest(standardised, offsets, percent=percent).mean


def moments_of(target: TokenStats, score: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """vocab_mean and vocab_std in float64.

    Raises
    ------
    ValueError
        If the statistics have none.

    >>> stats = TokenStats([0, 1], [5], [-1.0], [0], [-2.0], [0.5])
    >>> moments_of(stats, "Min-K%++")
    (array([-2.]), array([0.5]))
    """
    if target.vocab_mean is None or target.vocab_std is None:
        raise ValueError(
            f"{score} needs vocab_mean and vocab_std; got TokenStats without them. "
            "Make them with token_stats(..., moments=True)."
        )
    return target.vocab_mean.astype(np.float64), target.vocab_std.astype(np.float64)


Values = NDArray[np.float64]

# Values sorted at once: 8 MB in float64, and the copy of a sort beside it.
_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Lowest:
    """Of each text: `mean` of its lowest values, and `edge`, the highest of these.

    float64 (n,); NaN for a text with no value, or with one that is NaN.
    """

    mean: Values
    edge: Values


def lowest(values: NDArray[Any], offsets: NDArray[np.int64], *, percent: float) -> Lowest:
    """The lowest `percent` of each text's values, at least one.

    Parameters
    ----------
    values : float array (n_tokens,)
    offsets : int64 array (n + 1,)
        Text i owns `values[offsets[i]:offsets[i + 1]]`.
    percent : float, above 0 and at most 100
        Of m values, floor(m * percent / 100) are taken, at least 1.

    Returns
    -------
    Lowest

    Raises
    ------
    ValueError
        If the percentage is out of range.

    >>> lowest(np.array([-3.0, -1.0, -2.0, -5.0]), np.array([0, 3, 3, 4]), percent=67).mean
    array([-2.5,  nan, -5. ])
    """
    if not 0 < percent <= 100:
        raise ValueError(
            f"percent must be above 0 and at most 100; got {percent}. The paper's default is 20."
        )
    lengths = np.diff(offsets)
    mean, edge = np.full((2, len(lengths)), np.nan)
    # Texts of one length are the rows of a matrix, which sorts many times faster than one by one.
    order = np.argsort(lengths, kind="stable")
    for same in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        length = int(lengths[same[0]]) if same.size else 0
        if not length:
            continue
        take = max(1, int(length * percent / 100))
        step = max(1, _AT_ONCE // length)
        for at in range(0, len(same), step):
            texts = same[at : at + step]
            rows = values[offsets[texts][:, None] + np.arange(length)].astype(np.float64)
            rows.sort(axis=1)
            broken = np.isnan(rows[:, -1])  # a sort puts NaN last
            mean[texts] = np.where(broken, np.nan, rows[:, :take].mean(axis=1))
            edge[texts] = np.where(broken, np.nan, rows[:, take - 1])
    return Lowest(mean, edge)


def scored(stats: TokenStats, column: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """A column of the tokens that have a probability alone, and the offsets that go with it.

    >>> stats = TokenStats.from_lists([[3, 4]], [[None, -0.5]], [[-1, 0]])
    >>> scored(stats, stats.logprob)
    (array([-0.5], dtype=float32), array([0, 1]))
    """
    return column[stats.is_scored], np.concatenate([[0], np.cumsum(stats.n_scored())])


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
