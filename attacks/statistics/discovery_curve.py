"""Distinct passages against the number of sampled tokens, observed and expected."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from scipy.cluster.hierarchy import DisjointSet

from attacks.statistics.intervals import normal_quantile
from attacks.statistics.richness import Richness, richness


@dataclass(frozen=True, eq=False)
class DiscoveryCurve:
    """Distinct passages found with growing effort; made by `discovery_curve`.

    n_samples : int array (n_points,)
    n_tokens : float64 array (n_points,)
        Tokens of that many samples: those drawn first, for `observed`.
    observed : int array (n_points,)
        Distinct passages in the samples drawn first.
    expected, low, high : float64 arrays (n_points,)
        Distinct passages in as many samples drawn at random from these, and the interval.
    left : Richness
        What is estimated to be still unseen.
    """

    n_samples: NDArray[np.int64]
    n_tokens: NDArray[np.float64]
    observed: NDArray[np.int64]
    expected: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    left: Richness


def discovery_curve(
    samples: ArrayLike,
    passages: ArrayLike,
    n_tokens: ArrayLike,
    *,
    n_points: int = 50,
    confidence: float = 0.95,
) -> DiscoveryCurve:
    """The discovery curve, as observed and rarefied (averaged over the order of the samples).

    Parameters
    ----------
    samples, passages : int arrays (n_found,)
        One pair a finding: sample `samples[i]`, by order of drawing from 0 on, held the distinct
        passage `passages[i]`. The same pair twice counts once.
    n_tokens : int array (n_samples,)
        Tokens of every sample, those without a passage included.
    n_points : int
        Points of the curve; the last is all samples.
    confidence : float, between 0 and 1

    Raises
    ------
    ValueError
        If there is no sample, or a finding names one that is not there; as `richness`.

    Source
    ------
    Colwell et al. 2012, "Models and estimators linking individual-based and sample-based
    rarefaction, extrapolation and comparison of assemblages", rarefaction of samples under the
    Bernoulli product model; its variance takes the total to be Chao's estimate.

    Passage 7 is in both samples, passage 8 in one: a random sample holds 1.5 of them on average.

    >>> discovery_curve([0, 1, 1], [7, 7, 8], [10, 10]).expected
    array([1.5, 2. ])
    """
    tokens = np.asarray(n_tokens, dtype=np.float64)
    where, what = np.asarray(samples, dtype=np.int64), np.asarray(passages, dtype=np.int64)
    n = len(tokens)
    if n < 1 or (len(where) and not 0 <= where.min() <= where.max() < n):
        raise ValueError(
            f"samples must be places from 0 to {n - 1:,} in n_tokens, which must not be empty. "
            "Pass the tokens of every sample drawn."
        )
    found = np.unique(np.stack([what, where]), axis=1)
    # Sorted by passage, then sample: the first of each passage is where it was discovered.
    _, first, counts = np.unique(found[0], return_index=True, return_counts=True)
    discovered = np.bincount(found[1][first], minlength=n).cumsum()
    points = np.unique(np.linspace(1, n, min(n_points, n)).round().astype(np.int64))
    left = richness(counts, n_draws=n, confidence=confidence)
    expected, deviation = _rarefied(counts, points, n, left.total)
    reach = normal_quantile(confidence) * deviation
    return DiscoveryCurve(
        points,
        tokens.cumsum()[points - 1],
        discovered[points - 1],
        expected,
        np.maximum(0.0, expected - reach),
        expected + reach,
        left,
    )


def linked_groups(n: int, links: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Groups of 0 to n - 1 that are connected by links, each in increasing order.

    >>> linked_groups(4, [(2, 0), (1, 3)])
    [[0, 2], [1, 3]]
    """
    sets = DisjointSet(range(n))
    for i, j in links:
        sets.merge(i, j)
    return sorted(sorted(group) for group in sets.subsets())


def distinct_passages(documents: ArrayLike, starts: ArrayLike, ends: ArrayLike) -> NDArray:
    """Passage ids of spans of training text: overlapping spans are one passage.

    Parameters
    ----------
    documents, starts, ends : int arrays (n,)
        Document of each span, and its position there, the end excluded.

    Returns
    -------
    int64 array (n,): ids from 0 on, by document and position. Adjacent spans stay separate.

    >>> distinct_passages([0, 0, 0, 1], [0, 5, 20, 0], [10, 15, 30, 10])
    array([0, 0, 1, 2])
    """
    doc, start, end = (np.asarray(v, dtype=np.int64) for v in (documents, starts, ends))
    ids = np.empty(len(doc), dtype=np.int64)
    passage, reached, last = -1, -1, None
    for i in np.lexsort((end, start, doc)):
        if doc[i] != last or start[i] >= reached:
            passage, reached, last = passage + 1, end[i], doc[i]
        ids[i], reached = passage, max(reached, end[i])
    return ids


def _rarefied(counts: NDArray, points: NDArray, n: int, total: float):
    """Expected distinct passages in so many of n samples, and the standard deviation."""
    size, how_many = np.unique(counts, return_counts=True)
    k = points[:, None]
    # The chance that a passage in `size` of n samples is in none of k: C(n - size, k) / C(n, k).
    missed = np.where(
        k <= n - size,
        np.exp(
            special.gammaln(np.maximum(n - size + 1, 1))
            - special.gammaln(np.maximum(n - size - k + 1, 1))
            - special.gammaln(n + 1)
            + special.gammaln(n - k + 1)
        ),
        0.0,
    )
    expected = (1 - missed) @ how_many
    variance = (1 - missed) ** 2 @ how_many - expected**2 / total if len(size) else expected
    return expected, np.sqrt(np.maximum(variance, 0.0))
