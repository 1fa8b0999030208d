"""Blind baselines: how well two sets of texts can be told apart without asking the model.

Where a bag of words separates members from non-members, an attack that does as well has shown
nothing about training.
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

BASELINES: dict[str, str] = {
    "bag of words": "logistic regression on tf-idf of words and pairs of words",
    "character n-grams": "logistic regression on tf-idf of 2 to 4 characters within words",
    "length": "logistic regression on steps of characters, words, lines and mean length of a word",
    "dates": "logistic regression on steps of the first, last and middle date, and their number",
}
_N_CHARS = 10_000  # of a text that are read for words and n-grams; its length is always all of it
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
    """Scores by every blind baseline, each text judged by a classifier that never saw it.

    Parameters
    ----------
    members, nonmembers : sequences of str
    folds : int
        Parts of the cross-validation; fewer where a side has fewer different texts. Equal texts
        stay in one part.
    seed : int
        Decides the parts.

    Returns
    -------
    dict of baseline (see BASELINES) to (members, nonmembers), float64 arrays in (0, 1): the rank
    within its part, since classifiers of two parts have two scales. Higher = more like a member.
    Tests that take the texts as independent are approximate for them, as the parts share texts;
    and of few texts that do not differ, the AUC leans a little below 0.5, since what one part
    has more of, the others have less of.

    Raises
    ------
    ValueError
        If a side has fewer than 2 different texts, or a text is on both sides.

    Source
    ------
    Das et al. 2024, "Blind Baselines Beat Membership Inference Attacks for Foundation Models":
    dates, words and n-grams. Length is added here, and every text is scored out of
    fold where they hold out a part.

    >>> sides = ["seen in 1999", "old news of 1998"], ["fresh in 2024", "new in 2023"]
    >>> list(blind_scores(*sides))
    ['bag of words', 'character n-grams', 'length', 'dates']
    """
    shared = shared_texts(members, nonmembers)
    if len(shared):
        raise ValueError(
            f"no text may be on both sides; got {len(shared):,} of {len(members):,} members among "
            "the non-members, spaces aside. Take them out."
        )
    texts = [*members, *nonmembers]
    labels = np.repeat([1, 0], [len(members), len(nonmembers)])
    part = _parts(texts, labels, folds, np.random.default_rng(seed))
    kinds: dict[str, Callable] = {
        "bag of words": _words,
        "character n-grams": _characters,
        "length": _lengths,
        "dates": _dates,
    }
    scores = {}
    for name, features in kinds.items():
        values = _out_of_fold(features(texts), labels, part)
        scores[name] = (values[: len(members)], values[len(members) :])
    return scores


def shared_texts(members: Sequence[str], nonmembers: Sequence[str]) -> NDArray[np.int64]:
    """Places of the members whose text is among the non-members, runs of white space taken as one.

    >>> shared_texts(["a b", "c"], ["d", "a\\nb "])
    array([0])
    """
    other = {_bare(text) for text in nonmembers}
    return np.array([i for i, text in enumerate(members) if _bare(text) in other], dtype=np.int64)


def _bare(text: str) -> str:
    return " ".join(text.split())


def _parts(texts: list[str], labels: NDArray, folds: int, rng: np.random.Generator) -> NDArray:
    """The part of every text: equal texts together, both sides dealt evenly."""
    bare = [_bare(text) for text in texts]
    dealt: dict[str, int] = {}
    sides = [sorted({b for b, y in zip(bare, labels, strict=True) if y == side}) for side in (1, 0)]
    fewest = min(map(len, sides))
    if fewest < 2 or folds < 2:
        raise ValueError(
            "blind baselines need 2 or more different texts a side, and 2 or more folds; "
            f"got {fewest:,} and {folds}. Add texts."
        )
    for side in sides:
        for at, which in enumerate(rng.permutation(len(side))):
            dealt[side[which]] = at % min(folds, fewest)
    return np.array([dealt[b] for b in bare])


def _out_of_fold(features: sparse.csr_matrix, labels: NDArray, part: NDArray) -> Values:
    values = np.empty(len(labels))
    for fold in range(part.max() + 1):
        held = part == fold
        if features.shape[1] == 0:
            raw = np.zeros(held.sum())  # no text has any: nobody can be told
        else:
            model = LogisticRegression(C=10.0, solver="liblinear", random_state=0)
            raw = model.fit(features[~held], labels[~held]).decision_function(features[held])
        values[held] = (stats.rankdata(raw) - 0.5) / held.sum()
    return values


def _words(texts: Sequence[str]) -> sparse.csr_matrix:
    counter = CountVectorizer(ngram_range=(1, 2), min_df=2, max_features=200_000)
    try:
        counts = counter.fit_transform([text[:_N_CHARS] for text in texts])
    except ValueError:  # no word is in two texts
        return sparse.csr_matrix((len(texts), 0))
    return TfidfTransformer(sublinear_tf=True).fit_transform(counts)


def _characters(texts: Sequence[str]) -> sparse.csr_matrix:
    counter = HashingVectorizer(
        analyzer="char_wb", ngram_range=(2, 4), n_features=2**18, alternate_sign=False, norm=None
    )
    counts = counter.transform([text[:_N_CHARS] for text in texts])
    return TfidfTransformer(sublinear_tf=True).fit_transform(counts)


def _lengths(texts: Sequence[str]) -> sparse.csr_matrix:
    rows = []
    for text in texts:
        words = text.split()
        letters = sum(map(len, words)) / len(words) if words else 0.0
        rows.append((len(text), len(words), text.count("\n"), letters))
    return _steps(np.array(rows, dtype=np.float64))


def _dates(texts: Sequence[str]) -> sparse.csr_matrix:
    """How many years, and the first, the last and the middle one, months as fractions."""
    rows = []
    for text in texts:
        found = [float(year) for year in _YEARS.findall(text)]
        found += [int(y) + (int(m) - 1) / 12 for y, m in _ISO.findall(text)]
        found += [int(y) + _MONTHS.index(m.lower()) / 12 for m, y in _NAMED.findall(text)]
        # No date is year 0: the step to the first year that there is tells it apart.
        ends = (min(found), max(found), float(np.median(found))) if found else (0.0,) * 3
        rows.append((len(found), *ends))
    return _steps(np.array(rows, dtype=np.float64))


def _steps(columns: Values) -> sparse.csr_matrix:
    """Each column as steps, 1 above a quantile of it: any course of the odds can be fitted."""
    steps = []
    for column in columns.T:
        edges = np.unique(np.quantile(column, np.linspace(0, 1, _N_STEPS + 1)[:-1], method="lower"))
        steps.append(column[:, None] > edges[None, :])
    return sparse.csr_matrix(np.concatenate(steps, axis=1).astype(np.float64))
