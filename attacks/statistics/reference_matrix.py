"""Membership and memorization from a matrix of models that were trained on halves of one pool.

The matrix has a row per text and a column per model: a statistic of the text under the model (for
example the mean log-likelihood; higher = more likely memorized), and whether the model was trained
on the text (IN) or not (OUT). Scores are float64 (n,); higher = more likely memorized, NaN =
undefined.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

Values = NDArray[np.float64]
# Below this many models per side, a text's own variance is too uncertain to be used.
OWN_VARIANCE_FROM = 64
_CHUNK = 4_000_000  # numbers in memory at once


@dataclass(frozen=True, eq=False)
class ReferenceMatrix:
    """Statistics of n texts under N models.

    statistics : float64 array (n, N), NaN where unknown
    is_in : bool array (n, N), whether the model was trained on the text

    Raises
    ------
    ValueError
        If the arrays are not of one two-dimensional shape.

    >>> ReferenceMatrix([[0.1, 0.4]], [[False, True]]).side(True)
    (array([0.4]), array([nan]), array([1]))
    """

    statistics: Values
    is_in: NDArray[np.bool_]

    def __post_init__(self) -> None:
        values = np.asarray(self.statistics, dtype=np.float64)
        is_in = np.asarray(self.is_in, dtype=bool)
        if values.ndim != 2 or values.shape != is_in.shape:
            raise ValueError(
                "statistics and is_in must have one shape (texts, models); got "
                f"{values.shape} and {is_in.shape}. Pass one column per model in both."
            )
        object.__setattr__(self, "statistics", values)
        object.__setattr__(self, "is_in", is_in)

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.statistics)

    @property
    def n_models(self) -> int:
        """Number of models."""
        return self.statistics.shape[1]

    def side(self, wanted: bool) -> tuple[Values, Values, NDArray[np.int64]]:
        """Mean, variance (NaN below two models) and number of models IN or OUT, of each text."""
        kept = (self.is_in == wanted) & ~np.isnan(self.statistics)
        n = kept.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(kept, self.statistics, 0.0).sum(axis=1) / n
            off = np.where(kept, self.statistics - mean[:, None], 0.0)
            variance = (off**2).sum(axis=1) / np.where(n > 1, n - 1, np.nan)
        return mean, variance, n

    def without(self, model: int) -> ReferenceMatrix:
        """The matrix without one model's column."""
        kept = np.arange(self.n_models) != model
        return ReferenceMatrix(self.statistics[:, kept], self.is_in[:, kept])


def lira(target: ArrayLike, matrix: ReferenceMatrix, *, online: bool = False) -> Values:
    """The likelihood ratio attack, with normal distributions of the statistic.

    Offline: -log P(a model that was not trained on the text has a statistic this high), one-sided.
    Online: log N(target; IN) - log N(target; OUT). Below 64 models per side, all texts share one
    variance: the pooled variance around each text's mean.

    Parameters
    ----------
    target : float array (n,), the statistic under the model that is attacked
    matrix : ReferenceMatrix of the same texts
    online : use the models trained on the text as well

    Returns
    -------
    float64 array (n,); NaN for a text without a model on a side that is needed.

    Source
    ------
    Carlini et al. 2022, "Membership Inference Attacks From First Principles", §5 (online) and §6.A
    (offline). Public versions use the two-sided density offline, which ranks texts far below the
    OUT mean first, or the IN variance for both sides.

    >>> matrix = ReferenceMatrix([[0.0, 2.0, 0.0, 2.0]], [[False] * 4])
    >>> float(lira([1.0], matrix)[0].round(6))  # at the mean: -log(1/2)
    0.693147
    """
    own = _targets(target, matrix)
    out = _normal(matrix, False)
    if not online:
        return -stats.norm.logsf(own, *out)
    return stats.norm.logpdf(own, *_normal(matrix, True)) - stats.norm.logpdf(own, *out)


def _normal(matrix: ReferenceMatrix, wanted: bool) -> tuple[Values, Values]:
    """Mean and standard deviation of each text's statistic on a side."""
    mean, variance, n = matrix.side(wanted)
    spare = np.maximum(n - 1, 0)
    if spare.sum() == 0:
        return mean, np.full(len(mean), np.nan)
    pooled = float(np.nansum(variance * spare) / spare.sum())
    chosen = np.where(n >= OWN_VARIANCE_FROM, variance, pooled)
    return mean, np.sqrt(np.where(n > 0, chosen, np.nan))


def rmia(
    target: ArrayLike,
    matrix: ReferenceMatrix,
    population_target: ArrayLike,
    population: ReferenceMatrix,
    *,
    gamma: float = 1.0,
    a: float = 1.0,
) -> Values:
    """Share of population texts z with (p(x|target)/p(x)) / (p(z|target)/p(z)) of gamma or more.

    The statistic is the mean log-likelihood of a text, whose exponential is p(x|model). p(x) is
    estimated from the models that were not trained on x: ((1 + a) p_out + (1 - a)) / 2. For
    language models p is far below 1, so a below 1 would let the constant dominate and reduce the
    attack to the loss: the default is 1.

    Parameters
    ----------
    target, population_target : float arrays (n,) and (m,), statistics under the attacked model
    matrix, population : ReferenceMatrix of the n texts and of the m population texts
    gamma, a : see above

    Returns
    -------
    float64 array (n,), 0 to 1.

    Source
    ------
    Zarifzadeh et al. 2024, "Low-Cost High-Power Membership Inference Attacks", offline version.
    Public code sets IN statistics to zero and then takes the largest of all: here only OUT
    statistics are used.

    >>> out = ReferenceMatrix([[-2.0, -2.0]], [[False, False]])
    >>> zs = ReferenceMatrix([[-2.0, -2.0]] * 4, [[False, False]] * 4)
    >>> rmia([-1.0], out, [-2.0, -1.5, -0.5, -3.0], zs)  # log ratios: 1 against 0, .5, 1.5, -1
    array([0.75])
    """
    ratios = _targets(target, matrix) - _log_mean_out(matrix, a)
    others = _targets(population_target, population) - _log_mean_out(population, a)
    others = np.sort(others[~np.isnan(others)])
    if not len(others):
        return np.full(len(ratios), np.nan)
    share = np.searchsorted(others, ratios - np.log(gamma), side="right") / len(others)
    return np.where(np.isnan(ratios), np.nan, share)


def _log_mean_out(matrix: ReferenceMatrix, a: float) -> Values:
    kept = ~matrix.is_in & ~np.isnan(matrix.statistics)
    n = kept.sum(axis=1)
    # The sum of exponentials on a log scale, without underflow.
    total = special.logsumexp(
        np.where(kept, matrix.statistics, -np.inf), axis=1, b=kept.astype(float)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        log_mean = np.where(n > 0, total - np.log(n), np.nan)
    if a == 1:
        return log_mean
    return np.log(((1 + a) * np.exp(log_mean) + (1 - a)) / 2)


def attack_r(target: ArrayLike, matrix: ReferenceMatrix) -> Values:
    """Share of the models not trained on a text with a lower statistic; a tie counts one half.

    Source
    ------
    Ye et al. 2022, "Enhanced Membership Inference Attacks against Machine Learning Models",
    Attack R.

    >>> attack_r([1.0], ReferenceMatrix([[0.0, 2.0, 0.5, 9.0]], [[False, False, False, True]]))
    array([0.66666667])
    """
    own = _targets(target, matrix)[:, None]
    kept = ~matrix.is_in & ~np.isnan(matrix.statistics)
    below = np.where(matrix.statistics < own, 1.0, np.where(matrix.statistics == own, 0.5, 0.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(kept, below, 0.0).sum(axis=1) / kept.sum(axis=1)
    return np.where(np.isnan(own[:, 0]), np.nan, share)


def counterfactual_memorization(matrix: ReferenceMatrix) -> tuple[Values, Values]:
    """Mean statistic of the models IN minus that of the models OUT, and its standard error.

    With the per-token accuracy as statistic, this is the definition of the source. A standard error
    needs two models on each side, else it is NaN.

    Source
    ------
    Zhang et al. 2021, "Counterfactual Memorization in Neural Language Models" (arXiv 2112.12938),
    §3.

    >>> matrix = ReferenceMatrix([[1.0, 0.8, 0.3, 0.1]], [[True, True, False, False]])
    >>> [round(float(x[0]), 6) for x in counterfactual_memorization(matrix)]
    [0.7, 0.141421]
    """
    (mean_in, var_in, n_in), (mean_out, var_out, n_out) = (matrix.side(s) for s in (True, False))
    with np.errstate(invalid="ignore", divide="ignore"):
        return mean_in - mean_out, np.sqrt(var_in / n_in + var_out / n_out)


def influence(matrix: ReferenceMatrix, of: ArrayLike, on: ArrayLike) -> Values:
    """Effect of training on each text `of` on the statistic of each text `on`: (len(of), len(on)).

    The mean statistic of text `on` under the models trained on text `of`, minus that under the
    others; NaN if a side has no model.

    Source
    ------
    Zhang et al. 2021 (arXiv 2112.12938), §5.

    >>> matrix = ReferenceMatrix([[1.0, 0.0], [0.5, 0.1]], [[True, False], [True, False]])
    >>> influence(matrix, [0], [1])
    array([[0.4]])
    """
    rows, columns = (np.asarray(index, dtype=np.int64).ravel() for index in (of, on))
    found = np.empty((len(rows), len(columns)))
    values = matrix.statistics[columns]
    known = ~np.isnan(values)
    values = np.where(known, values, 0.0)
    step = max(1, _CHUNK // max(1, matrix.n_models))
    for at in range(0, len(rows), step):
        inside = matrix.is_in[rows[at : at + step]].astype(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = [side @ values.T / (side @ known.T) for side in (inside, 1.0 - inside)]
        found[at : at + step] = means[0] - means[1]
    return found


def flip_rate(verdicts: ArrayLike) -> Values:
    """Probability that two models trained with different seeds disagree on a text: float64 (n,).

    Parameters
    ----------
    verdicts : float or bool array (n, N); 1 = called a member when that model is the target, NaN =
        not judged

    Returns
    -------
    float64 array (n,), 0 (the seed decides nothing) to about 1/2; NaN for fewer than two verdicts.

    Source
    ------
    Hayes et al. 2025, "Strong Membership Inference Attacks on Massive Datasets and (Moderately)
    Large Language Models" (arXiv 2505.18773), on the stability of individual decisions.

    >>> flip_rate([[1, 1, 0, 0], [1, 1, 1, 1]]).round(4)
    array([0.6667, 0.    ])
    """
    given = np.asarray(verdicts, dtype=np.float64)
    n = (~np.isnan(given)).sum(axis=1)
    k = np.nansum(given, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(n > 1, 2 * k * (n - k) / (n * (n - 1)), np.nan)


def _targets(target: ArrayLike, matrix: ReferenceMatrix) -> Values:
    own = np.asarray(target, dtype=np.float64).ravel()
    if len(own) != len(matrix):
        raise ValueError(
            f"the target must have a statistic for each of the {len(matrix):,} texts; got "
            f"{len(own):,}. Pass the same texts in the same order."
        )
    return own
