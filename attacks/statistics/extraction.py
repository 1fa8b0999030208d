"""Discoverable extraction: does a model continue a prefix with the true suffix?

The functions take arrays (n, m) for n suffixes of m tokens: whether each token is the model's first
choice, or its log-probability under the decoding in use. One teacher-forced pass gives both; no
text is generated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Tolerance for rounding in a quotient of logarithms, so that p_z = 0.5 at p = 0.75 gives 2.
_ROUNDING = 16 * np.finfo(np.float64).eps
# Below this, log(1 - p) and -p are the same number in float64.
_TINY = -40.0


def greedy(first: ArrayLike) -> NDArray[np.bool_]:
    """Whether greedy decoding reproduces each suffix: all tokens are the model's first choice.

    Parameters
    ----------
    first : bool array (n, m)

    Raises
    ------
    ValueError
        If `first` is not such an array, or m is 0.

    Source
    ------
    Carlini et al. 2022, "Quantifying Memorization Across Neural Language Models", definition 3.1.

    >>> greedy([[True, True], [True, False]])
    array([ True, False])
    """
    return np.asarray(_table("first", first).astype(bool).all(axis=1))


def exact_memorization(first: ArrayLike) -> NDArray[np.float64]:
    """Share of each suffix's tokens that are the model's first choice, float64 (n,).

    Parameters
    ----------
    first : bool array (n, m)

    Raises
    ------
    ValueError
        As `greedy`.

    Source
    ------
    Tirumala et al. 2022, "Memorization Without Overfitting", section 3.

    >>> exact_memorization([[True, True], [True, False]])
    array([1. , 0.5])
    """
    return _table("first", first).astype(bool).mean(axis=1)


def extraction_strength(first: ArrayLike) -> NDArray[np.float64]:
    """Share of each suffix that greedy decoding completes, float64 (n,).

    1 - k / m, where k is the smallest number of leading tokens after which all others are first
    choices: 1 if k = 0, and 0 if the last token is not a first choice.

    Parameters
    ----------
    first : bool array (n, m)

    Raises
    ------
    ValueError
        As `greedy`.

    Source
    ------
    Carlini et al. 2021, "Extracting Training Data from Large Language Models", as defined by
    Wang et al. 2025, "Towards Effective Evaluations and Comparisons for LLM Unlearning
    Methods".

    >>> extraction_strength([[True, False, True, True], [True, True, True, False]])
    array([0.5, 0. ])
    """
    right = _table("first", first).astype(bool)
    # Number of consecutive first choices at the end.
    n_right = np.minimum.accumulate(right[:, ::-1], axis=1).sum(axis=1)
    return n_right / right.shape[1]


def log_p_z(logprob: ArrayLike) -> NDArray[np.float64]:
    """Log-probability that one sample is the suffix, nats, float64 (n,); -inf if impossible.

    Parameters
    ----------
    logprob : float array (n, m), nats
        Of each token under the decoding in use; -inf for tokens that it never samples.

    Raises
    ------
    ValueError
        If `logprob` is not such an array, or m is 0.

    Source
    ------
    Hayes et al. 2024, "Measuring memorization through probabilistic discoverable extraction",
    section 3: p_z is the product of the tokens' probabilities.

    >>> log_p_z([[-1.0, -2.0], [0.0, -np.inf]])
    array([ -3., -inf])
    """
    nats = _table("logprob", logprob).astype(np.float64)
    # Rounding may make the log-probability of a certain token slightly positive.
    return np.minimum(nats, 0.0).sum(axis=1)


def chance(log_p: ArrayLike, n: ArrayLike) -> NDArray[np.float64]:
    """Probability that at least one of n samples is the suffix: 1 - (1 - p_z)^n, float64.

    Parameters
    ----------
    log_p : float array, nats
    n : array, numbers of samples; broadcast against `log_p`

    Raises
    ------
    ValueError
        If a log_p is above 0 or NaN, or n is below 0.

    Source
    ------
    Hayes et al. 2024, section 3.

    >>> chance(np.log(0.5), [1, 2])
    array([0.5 , 0.75])
    """
    log_p, n = _log_probability(log_p), np.asarray(n, dtype=np.float64)
    if np.any(n < 0):
        raise ValueError(f"n must be 0 or more; got {n.min():g}. Pass numbers of samples.")
    with np.errstate(over="ignore"):
        # Multiply the rate by n in log space: p_z = 1e-400 and n = 1e400 must not underflow.
        exponent = np.exp(_log_rate(log_p) + np.log(np.maximum(n, np.finfo(float).tiny)))
    return np.where(n == 0, 0.0, -np.expm1(-exponent))


def n_samples(log_p: ArrayLike, p: float) -> NDArray[np.float64]:
    """Smallest number of samples that contain the suffix with probability p or more, float64.

    The smallest n with 1 - (1 - p_z)^n >= p; exact up to about 10^12, correct to 12 digits above;
    inf if p_z is 0 or n exceeds float64 (use `log10_n_samples` there).

    Parameters
    ----------
    log_p : float array, nats
    p : float, between 0 and 1

    Raises
    ------
    ValueError
        If p is not between 0 and 1 (both excluded), or a log_p is above 0 or NaN.

    Source
    ------
    Hayes et al. 2024, section 3, (n, p)-discoverable extraction solved for n.

    >>> n_samples([0.0, np.log(0.5), np.log(0.001), -np.inf], 0.75)
    array([1.000e+00, 2.000e+00, 1.386e+03,       inf])
    """
    log_p = _log_probability(log_p)
    wanted = np.log(-np.log1p(-_share(p)))
    with np.errstate(over="ignore", invalid="ignore"):
        n = np.exp(wanted - _log_rate(log_p))
        # The direct quotient is more accurate where it does not underflow.
        near = log_p > _TINY
        rate = _rate(np.where(near, log_p, -1.0))
        n = np.where(near, -np.log1p(-p) / rate, n)
    return np.maximum(1.0, np.ceil(n * (1 - _ROUNDING)))


def log10_n_samples(log_p: ArrayLike, p: float) -> NDArray[np.float64]:
    """Decimal logarithm of `n_samples`, also beyond the range of float64; inf if p_z is 0.

    Parameters, Raises and Source as `n_samples`.

    >>> log10_n_samples([-1000 * np.log(10.0)], 1 - np.exp(-1))
    array([1000.])
    """
    log_p = _log_probability(log_p)
    far = (np.log(-np.log1p(-_share(p))) - _log_rate(log_p)) / np.log(10.0)
    n = n_samples(log_p, p)
    # Above 2^53, rounding up to an integer is negligible.
    held = n < 2.0**53
    return np.where(held, np.log10(np.where(held, n, 1.0)), far)


def recall_at_errors(
    correct: ArrayLike, example_ids: ArrayLike, n_examples: int, *, max_errors: int = 100
) -> float:
    """Share of all examples guessed correctly before error number `max_errors`.

    Parameters
    ----------
    correct : bool array (n_guesses,), the most confident guess first
    example_ids : int array (n_guesses,)
        An example that is guessed correctly twice counts once.
    n_examples : int
    max_errors : int

    Raises
    ------
    ValueError
        If the two differ in length, or n_examples or max_errors is below 1.

    Source
    ------
    google-research/lm-extraction-benchmark, README, "Evaluation Metric". Without a correct
    guess this is 0, where its script returns None.

    >>> recall_at_errors([True, False, True], [7, 3, 5], 4, max_errors=1)
    0.25
    """
    right, ids = np.asarray(correct, dtype=bool), np.asarray(example_ids)
    if right.ndim != 1 or right.shape != ids.shape:
        raise ValueError(
            f"correct and example_ids must be of one length; got {right.shape} and {ids.shape}. "
            "Pass one of each a guess."
        )
    if n_examples < 1 or max_errors < 1:
        raise ValueError(
            "n_examples and max_errors must be 1 or more; "
            f"got {n_examples} and {max_errors}. Usual are 1000 and 100."
        )
    counted = np.cumsum(~right) < max_errors
    return len(np.unique(ids[right & counted])) / n_examples


def _log_rate(log_p: NDArray[np.float64]) -> NDArray[np.float64]:
    """log(-log(1 - p_z)), the log of the rate that is multiplied by n; inf if p_z = 1."""
    near = log_p > _TINY
    rate = _rate(np.where(near, log_p, -1.0))
    with np.errstate(divide="ignore"):
        return np.where(near, np.log(rate), log_p)


def _rate(log_p: NDArray[np.float64]) -> NDArray[np.float64]:
    """-log(1 - p_z), by the more accurate of two formulas."""
    with np.errstate(divide="ignore"):
        small = -np.log1p(-np.exp(np.minimum(log_p, -0.5)))
        large = -np.log(-np.expm1(np.maximum(log_p, -1.0)))
    return np.where(log_p < -np.log(2.0), small, large)


def _log_probability(log_p: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(log_p, dtype=np.float64)
    if not np.all(array <= 0):
        wrong = array[~(array <= 0)].flat[0]
        raise ValueError(
            f"log_p must be at most 0 (nats); got {wrong:g}. Pass logarithms of probabilities."
        )
    return array


def _share(p: float) -> float:
    if not 0 < p < 1:
        raise ValueError(
            f"p must lie between 0 and 1, both excluded; got {p}. Pass a probability such as 0.5."
        )
    return p


def _table(name: str, values: ArrayLike) -> NDArray:
    array = np.asarray(values)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(
            f"{name} must be a table (n suffixes, m tokens) with m of 1 or more; got shape "
            f"{array.shape}. Pass suffixes of equal length."
        )
    return array
