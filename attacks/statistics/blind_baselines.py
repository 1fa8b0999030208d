"""Blind baselines: how well two sets of texts can be separated without the model.

If a bag of words separates members from non-members, an equally good attack is no evidence of
training.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression

Values = NDArray[np.float64]

_N_CHARS = 10_000  # characters of a text that are read for words and n-grams
_N_STEPS = 20
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_YEAR = r"((?:1[5-9]|20)\d\d)"
_YEARS = re.compile(rf"(?<!\d){_YEAR}(?!\d)")
_ISO = re.compile(rf"(?<!\d){_YEAR}-(0[1-9]|1[0-2])(?!\d)")
_NAMED = re.compile(
    rf"\b({'|'.join(_MONTHS)})[a-z]*\.?,?\s+(?:\d{{1,2}}(?:st|nd|rd|th)?,?\s+)?{_YEAR}(?!\d)", re.I
)


def blind_scores(
    members: Sequence[str], nonmembers: Sequence[str], *, folds: int = 5, seed: int = 0
) -> dict[str, tuple[Values, Values]]:
    """Scores of every blind baseline, each text scored by a classifier not trained on it.

    Parameters
    ----------
    members, nonmembers : sequences of str
    folds : int
        Parts of the cross-validation; fewer if a side has fewer distinct texts. Equal texts are
        in the same part.
    seed : int
        Random seed of the parts.

    Returns
    -------
    dict of baseline to (members, nonmembers), float64 arrays in (0, 1). A score is the rank within
    its part, since classifiers differ in scale. Higher = more like a member. The parts share
    training texts, so tests that assume independent texts are approximate. With few texts that do
    not differ, the AUC is slightly below 0.5.

    Raises
    ------
    ValueError
        If a side has fewer than 2 distinct texts, or a text is on both sides.

    Source
    ------
    Das et al. 2024, "Blind Baselines Beat Membership Inference Attacks for Foundation Models":
    dates, words and n-grams. We add the length, and use cross-validation instead of one held-out
    part.

    >>> sides = ["seen in 1999", "old news of 1998"], ["fresh in 2024", "new in 2023"]
    >>> list(blind_scores(*sides))
    ['bag of words', 'character n-grams', 'length', 'dates']
    """
    shared = shared_texts(members, nonmembers)
    if len(shared):
        raise ValueError(
            f"no text may be on both sides; got {len(shared):,} of {len(members):,} members among "
            "the non-members, ignoring white space. Remove them."
        )
    texts = [*members, *nonmembers]
    labels = np.repeat([1, 0], [len(members), len(nonmembers)])
    part = _parts(texts, labels, folds, np.random.default_rng(seed))
    scores = {}
    for name, features in _FEATURES.items():
        values = _out_of_fold(features(texts), labels, part)
        scores[name] = (values[: len(members)], values[len(members) :])
    return scores


def shared_texts(members: Sequence[str], nonmembers: Sequence[str]) -> NDArray[np.int64]:
    """Positions of the members that are also non-members, ignoring differences in white space.

    >>> shared_texts(["a b", "c"], ["d", "a\\nb "])
    array([0])
    """
    other = {_bare(text) for text in nonmembers}
    return np.array([i for i, text in enumerate(members) if _bare(text) in other], dtype=np.int64)


def _bare(text: str) -> str:
    return " ".join(text.split())


def _parts(texts: list[str], labels: NDArray, folds: int, rng: np.random.Generator) -> NDArray:
    """The part of every text: equal texts together, both sides spread evenly."""
    bare = [_bare(text) for text in texts]
    part_of: dict[str, int] = {}
    sides = [sorted({b for b, y in zip(bare, labels, strict=True) if y == side}) for side in (1, 0)]
    fewest = min(map(len, sides))
    if fewest < 2 or folds < 2:
        raise ValueError(
            "blind baselines need 2 or more distinct texts per side, and 2 or more folds; "
            f"got {fewest:,} and {folds}. Add texts."
        )
    for side in sides:
        for at, which in enumerate(rng.permutation(len(side))):
            part_of[side[which]] = at % min(folds, fewest)
    return np.array([part_of[b] for b in bare])


def _out_of_fold(features: sparse.csr_matrix, labels: NDArray, part: NDArray) -> Values:
    values = np.empty(len(labels))
    for fold in range(part.max() + 1):
        held = part == fold
        if features.shape[1] == 0:
            raw = np.zeros(held.sum())  # no text has a feature
        else:
            model = LogisticRegression(C=10.0, solver="liblinear", random_state=0)
            raw = model.fit(features[~held], labels[~held]).decision_function(features[held])
        values[held] = (stats.rankdata(raw) - 0.5) / held.sum()
    return values


def _words(texts: Sequence[str]) -> sparse.csr_matrix:
    """tf-idf of words and pairs of words."""
    counter = CountVectorizer(ngram_range=(1, 2), min_df=2, max_features=200_000)
    try:
        counts = counter.fit_transform([text[:_N_CHARS] for text in texts])
    except ValueError:  # no word is in two texts
        return sparse.csr_matrix((len(texts), 0))
    return TfidfTransformer(sublinear_tf=True).fit_transform(counts)


def _characters(texts: Sequence[str]) -> sparse.csr_matrix:
    """tf-idf of 2 to 4 characters within words."""
    counter = HashingVectorizer(
        analyzer="char_wb", ngram_range=(2, 4), n_features=2**18, alternate_sign=False, norm=None
    )
    counts = counter.transform([text[:_N_CHARS] for text in texts])
    return TfidfTransformer(sublinear_tf=True).fit_transform(counts)


def _lengths(texts: Sequence[str]) -> sparse.csr_matrix:
    """Steps of the number of characters, words and lines, and of the mean word length."""
    rows = []
    for text in texts:
        words = text.split()
        letters = sum(map(len, words)) / len(words) if words else 0.0
        rows.append((len(text), len(words), text.count("\n"), letters))
    return _steps(np.array(rows, dtype=np.float64))


def _dates(texts: Sequence[str]) -> sparse.csr_matrix:
    """Steps of the number of dates, and of the first, last and median date in years."""
    rows = []
    for text in texts:
        found = [float(year) for year in _YEARS.findall(text)]
        found += [int(y) + (int(m) - 1) / 12 for y, m in _ISO.findall(text)]
        found += [int(y) + _MONTHS.index(m.lower()) / 12 for m, y in _NAMED.findall(text)]
        # Without a date the year is 0, which is below every step.
        ends = (min(found), max(found), float(np.median(found))) if found else (0.0,) * 3
        rows.append((len(found), *ends))
    return _steps(np.array(rows, dtype=np.float64))


def _steps(columns: Values) -> sparse.csr_matrix:
    """Each column as steps, 1 above a quantile of it, so that a linear model fits any shape."""
    steps = []
    for column in columns.T:
        edges = np.unique(np.quantile(column, np.linspace(0, 1, _N_STEPS + 1)[:-1], method="lower"))
        steps.append(column[:, None] > edges[None, :])
    return sparse.csr_matrix(np.concatenate(steps, axis=1).astype(np.float64))


_FEATURES: dict[str, Callable[[Sequence[str]], sparse.csr_matrix]] = {
    "bag of words": _words,
    "character n-grams": _characters,
    "length": _lengths,
    "dates": _dates,
}
