"""Min-K%, Min-K%++ and SURP: a member has few tokens that are very unlikely under the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attacks.scores.token_stats import TokenStats, Values, mean_of_texts, offsets_of, reduce_texts

# A standard deviation below this, in nats, is float32 rounding.
LEAST_STD = 1e-4
# Values sorted at once: 8 MB in float64, plus the copy that a sort makes.
_AT_ONCE = 1 << 20


def min_k(target: TokenStats, *, percent: float = 20) -> Values:
    """Mean log-probability of the text's least likely tokens: Min-K% Prob.

    Parameters
    ----------
    target : TokenStats of n texts
    percent : float, above 0 and at most 100
        Share of a text's tokens to average; 100 = all of them.

    Returns
    -------
    float64 array (n,), nats, at most 0; NaN without a scored token.

    Raises
    ------
    ValueError
        If the percentage is out of range.

    Source
    ------
    Shi et al. 2024, "Detecting Pretraining Data from Large Language Models", §3. The authors' code
    takes floor(m * K / 100) of m tokens, which gives NaN for texts of fewer than 100 / K tokens;
    we take at least one token. Their code omits a text's first token, which has no BOS before it;
    we score it after BOS if the model has one.

    >>> min_k(TokenStats.from_lists([[5, 6]], [[-1.0, -3.0]], [[0, 4]]))
    array([-3.])
    """
    # Not the `logprob` column, which rounding can make positive.
    logprob, offsets = scored(target, -target.token_nll())
    return lowest(logprob, offsets, percent=percent).mean


def min_k_plus_plus(
    target: TokenStats, *, percent: float = 20, least_std: float = LEAST_STD
) -> Values:
    """Min-K% of standardized log-probabilities: Min-K%++.

    Each token's log-probability is standardized by the mean and standard deviation over tokens
    drawn from the model at that position.

    Parameters
    ----------
    target : TokenStats of n texts, with vocab_mean and vocab_std
    percent : float, above 0 and at most 100
    least_std : float, nats, at least 0
        Smaller standard deviations are raised to this. Where the model is certain of the next
        token, the right token then scores 0 and a wrong one far below 0.

    Returns
    -------
    float64 array (n,), in standard deviations; NaN without a scored token.

    Raises
    ------
    ValueError
        If the moments are missing, or an option is out of range.

    Source
    ------
    Zhang et al. 2024, "Min-K%++: Improved Baseline for Detecting Pre-Training Data from Large
    Language Models", the definition of the score. The authors' code divides by the root of
    E[x^2] - E[x]^2, which rounding can make 0 or negative (infinite or NaN). We clamp the variance
    at 0 and the standard deviation at `least_std`, and take at least one token.

    >>> stats = TokenStats([0, 2], [5, 6], [-1.0, -3.0], [0, 4], [-2.0, -2.0], [0.5, 0.5])
    >>> min_k_plus_plus(stats)
    array([-2.])
    """
    mean, std = moments_of(target, "Min-K%++")
    if not least_std >= 0:
        raise ValueError(f"least_std must be 0 nats or more; got {least_std}. Use {LEAST_STD}.")
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (-target.token_nll() - mean) / np.maximum(std, least_std)
    standardized, offsets = scored(target, z)
    return lowest(standardized, offsets, percent=percent).mean


def surp(target: TokenStats, *, percent: float = 20, max_entropy: float = 2.0) -> Values:
    """Mean log-probability of the text's surprising tokens.

    A token is surprising if it is among the `percent` least likely of its text (ties included)
    although the model's entropy at that position is below `max_entropy`.

    Parameters
    ----------
    target : TokenStats of n texts, with vocab_mean and vocab_std
        The entropy is -vocab_mean.
    percent : float, above 0 and at most 100
    max_entropy : float, nats

    Returns
    -------
    float64 array (n,), nats, at most 0; NaN without a surprising token.

    Raises
    ------
    ValueError
        If the moments are missing, or an option is out of range.

    Source
    ------
    Zhang and Wu 2024, "Adaptive Pre-training Data Detection for Large Language Models via
    Surprising Tokens", the definition of surprising tokens. The paper tunes both thresholds per
    model; 20 % and 2 nats are the values of public code that compares it with other attacks. The
    percentile is a count of tokens, as in Min-K% (see docs/conformance.md). That code gives a text
    without a surprising token -100, a certain non-member; we return NaN.

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
    surprising = (logprob <= np.repeat(edge, np.diff(offsets))) & (entropy < max_entropy)
    # Comparisons with NaN are False, so a text with a broken entropy needs its own check.
    broken = np.isnan(reduce_texts(np.add, entropy, offsets, empty=0.0))
    return np.where(broken, np.nan, mean_of_texts(logprob, surprising, offsets))


def moments_of(target: TokenStats, score: str) -> tuple[Values, Values]:
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
            "Compute them with token_stats(..., moments=True)."
        )
    return target.vocab_mean.astype(np.float64), target.vocab_std.astype(np.float64)


@dataclass(frozen=True)
class Lowest:
    """`mean` of each text's lowest values, and `edge`, the highest of these.

    float64 (n,); NaN for a text without values or with a NaN.
    """

    mean: Values
    edge: Values


def lowest(values: NDArray[Any], offsets: NDArray[np.int64], *, percent: float) -> Lowest:
    """The lowest `percent` of each text's values: floor(m * percent / 100) of m, at least one.

    Parameters
    ----------
    values : float array (n_tokens,)
    offsets : int64 array (n + 1,)
        Text i owns `values[offsets[i]:offsets[i + 1]]`.
    percent : float, above 0 and at most 100

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
    # Texts of equal length form a matrix, which sorts much faster than text by text.
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
            broken = np.isnan(rows[:, -1])  # NaN sorts last
            mean[texts] = np.where(broken, np.nan, rows[:, :take].mean(axis=1))
            edge[texts] = np.where(broken, np.nan, rows[:, take - 1])
    return Lowest(mean, edge)


def scored(stats: TokenStats, column: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The values of a column at scored tokens, and their offsets.

    >>> stats = TokenStats.from_lists([[3, 4]], [[None, -0.5]], [[-1, 0]])
    >>> scored(stats, stats.logprob)
    (array([-0.5], dtype=float32), array([0, 1]))
    """
    return column[stats.is_scored], offsets_of(stats.n_scored())
