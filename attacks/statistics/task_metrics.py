"""Metrics of labelled tasks with 95 % intervals, as GLUE and CodeXGLUE define them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.metrics import f1_score, matthews_corrcoef

from attacks.statistics.intervals import Estimate, normal_quantile, proportion

METRICS = ("accuracy", "f1", "matthews", "pearson", "spearman")
_DRAWS = 9_999


def task_metric(
    name: str,
    predicted: ArrayLike,
    truth: ArrayLike,
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """A metric of predictions, with its confidence interval.

    Parameters
    ----------
    name : one of METRICS
        accuracy; f1 of label 1 of labels 0 and 1; matthews, the correlation of labels 0 and 1;
        pearson or spearman, the correlation of numbers.
    predicted, truth : float arrays (n,)
    confidence : float, between 0 and 1
    seed : int, of the bootstrap

    Returns
    -------
    Estimate. Intervals: Clopper-Pearson (accuracy), percentiles of the bootstrap (f1, matthews),
    Fisher's z (pearson), and with the variance of Bonett and Wright (spearman). A correlation with
    a constant is not defined, except that Matthews' is 0 then, as GLUE counts it.

    Raises
    ------
    ValueError
        If the name is unknown, the lengths differ, or f1 and matthews get other labels.

    Source
    ------
    Wang et al. 2019, "GLUE", section 3. Efron and Tibshirani 1993, section 13.3. Bonett and Wright
    2000, "Sample size requirements for estimating Pearson, Kendall and Spearman correlations".

    >>> print(task_metric("accuracy", [1, 0, 1, 1], [1, 0, 0, 1]))
    75.0 % (19.4–99.4; 3 of 4)
    >>> round(task_metric("f1", [1, 0, 1, 1], [1, 0, 0, 1]).value, 3)
    0.8
    """
    found, real = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    if name not in METRICS or found.shape != real.shape:
        raise ValueError(
            f"a metric must be one of {', '.join(METRICS)}, of two arrays of one length; got "
            f"{name} of {found.shape} and {real.shape}. Pass a prediction for each example."
        )
    if name == "accuracy":
        return proportion(int((found == real).sum()), len(real), confidence=confidence)
    if not len(real):
        return Estimate(why="no examples")
    if name in ("pearson", "spearman"):
        return _correlation(name, found, real, confidence)
    if not np.isin([*found, *real], (0, 1)).all():
        raise ValueError(f"{name} needs labels 0 and 1; got others. Use accuracy.")
    value = (
        f1_score(real, found, zero_division=0) if name == "f1" else matthews_corrcoef(real, found)
    )
    # Resampling examples with replacement is a multinomial draw of the four cells.
    cells = np.bincount((2 * real + found).astype(int), minlength=4)
    drawn = np.random.default_rng(seed).multinomial(len(real), cells / len(real), _DRAWS)
    tail = (1 - confidence) / 2
    low, high = np.quantile(_of_cells(name, drawn), [tail, 1 - tail])
    return Estimate(float(value), float(low), float(high), len(real))


def _of_cells(name: str, cells: NDArray[np.int64]) -> NDArray[np.float64]:
    """F1 or Matthews' correlation; cells (draws, 4): true 0 and 1, of each predicted 0 and 1."""
    tn, fp, fn, tp = cells.T.astype(np.float64)
    if name == "f1":
        top, bottom = 2 * tp, 2 * tp + fp + fn
    else:
        top = tp * tn - fp * fn
        bottom = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)


def _correlation(name: str, found: NDArray, real: NDArray, confidence: float) -> Estimate:
    n = len(real)
    if n < 4 or np.ptp(found) == 0 or np.ptp(real) == 0:
        return Estimate(n=n, why="fewer than 4 examples, or all alike")
    measure = stats.pearsonr if name == "pearson" else stats.spearmanr
    value = float(measure(found, real).statistic)
    if abs(value) >= 1:
        return Estimate(value, math.nan, math.nan, n)
    variance = 1 if name == "pearson" else 1 + value**2 / 2
    reach = normal_quantile(confidence) * math.sqrt(variance / (n - 3))
    z = math.atanh(value)
    return Estimate(value, math.tanh(z - reach), math.tanh(z + reach), n)
