"""Was this set of texts trained on? One test for the whole set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from sklearn.linear_model import LogisticRegression

from attacks.statistics.resampling import label_permutation_p

MIN_A_CLASS = 8
ASSUMPTIONS = (
    "Both sets are independent draws of the same kind of text, so that they differ in nothing but "
    "training; no text is in both; the scores were chosen before looking at these sets."
)


@dataclass(frozen=True)
class SetTest:
    """Whether a set of texts scores above held-out text of its kind; made by `set_test`.

    p_value : float
        One-sided permutation test on the tested halves.
    difference : float
        Mean combined score of the set minus that of held-out text, in held-out standard deviations.
    weights : dict of score to float
        Weight of each score in the combination.
    n_fitted, n_tested : (set, held out), int
    n_undefined : int
        Number of NaN, which count as the fitted median.
    n_permutations : int
    assumptions : str
    """

    p_value: float
    difference: float
    weights: dict[str, float]
    n_fitted: tuple[int, int]
    n_tested: tuple[int, int]
    n_undefined: int
    n_permutations: int
    assumptions: str = ASSUMPTIONS


def set_test(
    suspects: Mapping[str, ArrayLike],
    held_out: Mapping[str, ArrayLike],
    *,
    seed: int = 0,
    n_permutations: int = 4_999,
) -> SetTest:
    """Fit a combination of scores on half of both sets, and test it on the other halves.

    Parameters
    ----------
    suspects, held_out : mapping of a score to a float array (n_suspects,), (n_held_out,)
        The set in question, and text of the same kind that was certainly not trained on.
    seed : int
        Random seed of the halves and the permutations.
    n_permutations : int
        The smallest p-value is 1 / (n_permutations + 1).

    Raises
    ------
    ValueError
        If the scores of the two differ, a set has fewer than 8 texts, or no score has two
        different values in the fitted half.

    Source
    ------
    Maini et al. 2024, "LLM Dataset Inference: Did you train on my dataset?", figure 1, stages 1
    to 3. They fit a linear model to the raw scores and use a t test. Here a logistic regression
    combines normal scores (ranks), which limits the effect of outliers, and the test permutes
    labels.

    >>> rng = np.random.default_rng(0)
    >>> trained_on, other = rng.normal(1, 1, 200), rng.normal(0, 1, 200)
    >>> set_test({"loss": trained_on}, {"loss": other}).p_value
    0.0002
    """
    names, both = _columns(suspects, held_out)
    rng = np.random.default_rng(seed)
    halves = [np.array_split(rng.permutation(len(side)), 2) for side in both]
    fitted, tested = (
        [side[half[part]] for side, half in zip(both, halves, strict=True)] for part in (0, 1)
    )
    pooled = np.concatenate(fitted)
    kept = [at for at in range(len(names)) if _varies(pooled[:, at])]
    if not kept:
        raise ValueError(
            "a score must have two different values in the fitted half; got none in "
            f"{', '.join(names)}. Add a score, or more texts."
        )
    labels = np.repeat([1, 0], [len(side) for side in fitted])
    model = LogisticRegression().fit(_normal_scores(pooled, pooled, kept), labels)
    high, low = (model.decision_function(_normal_scores(side, pooled, kept)) for side in tested)
    difference, spread = float(high.mean() - low.mean()), float(low.std(ddof=1))
    return SetTest(
        label_permutation_p(high, low, greater=True, draws=n_permutations, seed=seed),
        difference / spread if spread > 0 else np.nan,
        {names[at]: float(w) for at, w in zip(kept, model.coef_[0], strict=True)},
        (len(fitted[0]), len(fitted[1])),
        (len(tested[0]), len(tested[1])),
        int(sum(np.isnan(side).sum() for side in both)),
        n_permutations,
    )


def _columns(suspects, held_out):
    """Score names and the two sets as float64 (n_texts, n_scores)."""
    names = list(suspects)
    if not names or set(names) != set(held_out):
        differing = ", ".join(sorted({*names} ^ {*held_out})) or "none at all"
        raise ValueError(
            f"both sets must have the same scores, 1 or more; got differing ones: {differing}. "
            "Compute the same scores for both sets."
        )
    both = [np.stack([np.asarray(s[n], float) for n in names], 1) for s in (suspects, held_out)]
    for what, side in zip(("the set", "held-out text"), both, strict=True):
        if len(side) < MIN_A_CLASS:
            raise ValueError(
                f"{what} must have {MIN_A_CLASS} or more texts, half to fit and half to test; "
                f"got {len(side):,}. Add texts."
            )
    return names, both


def _varies(column: NDArray[np.float64]) -> bool:
    defined = column[~np.isnan(column)]
    return len(defined) > 0 and defined.min() < defined.max()


def _normal_scores(texts: NDArray, fitted: NDArray, kept: list[int]) -> NDArray[np.float64]:
    """Each value's rank among the fitted ones, as a normal quantile; 0 for NaN."""
    columns = []
    for at in kept:
        known = np.sort(fitted[~np.isnan(fitted[:, at]), at])
        below, upto = (np.searchsorted(known, texts[:, at], side=s) for s in ("left", "right"))
        place = (0.5 * (below + upto) + 0.5) / (len(known) + 1)
        columns.append(np.where(np.isnan(texts[:, at]), 0.0, special.ndtri(place)))
    return np.stack(columns, 1)
