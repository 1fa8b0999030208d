"""Membership scores of labelled examples, from a classifier's log-probabilities of the labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def label_likelihood(logprob: ArrayLike, label: ArrayLike) -> NDArray[np.float64]:
    """Log-probability of the true label, the negative loss; higher = more likely memorized.

    Parameters
    ----------
    logprob : float array (n, labels), nats
    label : int array (n,)

    Source
    ------
    Yeom et al. 2018, "Privacy Risk in Machine Learning", section 3 (attack by loss).

    >>> label_likelihood([[-0.5, -0.9], [-3.0, -0.1]], [0, 0]).tolist()
    [-0.5, -3.0]
    """
    values = np.asarray(logprob, np.float64)
    return values[np.arange(len(values)), np.asarray(label)]


def confidence(logprob: ArrayLike) -> NDArray[np.float64]:
    """Log-probability of the most likely label, true or not; higher = more likely memorized.

    It needs no true label. Parameters as in `label_likelihood`.

    Source
    ------
    Salem et al. 2019, "ML-Leaks", section 5 (attack by the maximum posterior).

    >>> confidence([[-0.5, -0.9], [-3.0, -0.1]]).tolist()
    [-0.5, -0.1]
    """
    return np.asarray(logprob, np.float64).max(axis=1)


def negative_modified_entropy(logprob: ArrayLike, label: ArrayLike) -> NDArray[np.float64]:
    """Negative modified prediction entropy, in nats; higher = more likely memorized.

    (1 - p_y) log p_y + the sum of p_j log(1 - p_j) over the other labels j: 0 if the true label y
    is certain, minus infinity if it is excluded. Parameters as in `label_likelihood`.

    Source
    ------
    Song and Mittal 2021, "Systematic Evaluation of Privacy Risks of Machine Learning Models",
    equation 9, with the opposite sign.

    Two labels with p = 1/2: half of log(1/2), twice.

    >>> half = np.log([[0.5, 0.5]])
    >>> round(float(negative_modified_entropy(half, [1])[0] / np.log(0.5)), 6)
    1.0
    """
    values, own = np.asarray(logprob, np.float64), np.asarray(label)
    is_own = np.arange(values.shape[1]) == own[:, None]
    # The probability of all other labels, exact also where a label is nearly certain.
    rest = np.stack(
        [np.exp(np.delete(values, j, axis=1)).sum(axis=1) for j in range(values.shape[1])], axis=1
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        true = np.where(rest > 0, rest * values, 0.0)
        other = np.where(values > -np.inf, np.exp(values) * np.log(rest), 0.0)
    return np.where(is_own, true, other).sum(axis=1)
