"""The shortlist: for each strategy and score, the top samples that do not repeat each other."""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd

from reports.analysis.duplicates import Selection, Trigrams, select
from reports.analysis.schema import CONTROL, score_names

TextSource: TypeAlias = Mapping[str, str] | pd.Series | Callable[[list[str]], Sequence[str]]

# Texts are read from the top of each list downwards, and further only while a list is not full:
# lists of 100 out of 200,000 samples are mostly full after the first few hundred.
_FIRST_LOOK = 4
_NEXT_LOOK = 8


@dataclass(frozen=True, eq=False)
class Shortlist:
    """What `select_candidates` chose, and how it came about.

    chosen : DataFrame: strategy, score, rank (1 = top), sample_id.
    counts : DataFrame: strategy, score, n_samples, n_undefined, n_chosen, n_duplicates_skipped.
    """

    chosen: pd.DataFrame
    counts: pd.DataFrame


def select_candidates(
    scores: pd.DataFrame, texts: TextSource, *, top: int = 100, seed: int = 0
) -> Shortlist:
    """For each strategy and score, the `top` best samples that are no duplicates of better ones.

    scores : the frame `scores`; strategies keep its order. Every column that is a score makes a
        list; so does the control "random", a random order of the strategy's samples without
        duplicates, as in the other lists, so that their precision can be compared.
    texts : a callable from a list of sample_ids to their texts, called only for the texts that are
        compared: usually a few hundred per list
    top : length of a list.
    seed : for the control; a strategy's control does not depend on the other strategies.

    Equal scores are ordered by sample_id; samples with an undefined score (NaN) are not selected.

    Raises
    ------
    ValueError
        If `top` is less than 1.

    Source
    ------
    Carlini et al. 2021, section 6.1.

    >>> frame = pd.DataFrame({"sample_id": ["a", "b"], "strategy": "top-n", "zlib": [1.0, 2.0]})
    >>> select_candidates(frame, {"a": "one text", "b": "another"}, top=1).chosen.head(1)
      strategy score  rank sample_id
    0    top-n  zlib     1         b
    """
    if top < 1:
        raise ValueError(f"top must be at least 1; got {top}. It is the length of each list.")
    fetch = _fetcher(texts)
    chosen, counts = [], []
    for strategy, frame in scores.groupby("strategy", sort=False, observed=True):
        frame = frame.sort_values("sample_id", ignore_index=True)
        orders = dict(_orders(frame, str(strategy), seed))
        ids = frame["sample_id"].tolist()
        for score, selection in _fill(orders, ids, fetch, top).items():
            chosen += [
                (strategy, score, rank, ids[index])
                for rank, index in enumerate(selection.chosen.tolist(), start=1)
            ]
            n_undefined = len(frame) - len(orders[score])
            n_chosen = len(selection.chosen)
            row = (strategy, score, len(frame), n_undefined, n_chosen, selection.n_skipped)
            counts.append(row)
    return Shortlist(
        pd.DataFrame(chosen, columns=["strategy", "score", "rank", "sample_id"]),
        pd.DataFrame(
            counts,
            columns=[
                *("strategy", "score", "n_samples"),
                *("n_undefined", "n_chosen", "n_duplicates_skipped"),
            ],
        ),
    )


def _fetcher(texts: TextSource) -> Callable[[list[str]], Sequence[str]]:
    if callable(texts):
        return texts
    return lambda sample_ids: [texts[sample_id] for sample_id in sample_ids]


def _orders(frame: pd.DataFrame, strategy: str, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Rows of a frame sorted by sample_id, best first, for each score and for the control."""
    for score in score_names(frame):
        values = frame[score].to_numpy(dtype=float, na_value=np.nan)
        # Stable, so that equal scores stay in the order of sample_id; NaN goes last.
        order = np.argsort(-values, kind="stable")
        yield score, order[: np.count_nonzero(~np.isnan(values))]
    rng = np.random.default_rng([seed, zlib.crc32(strategy.encode())])
    yield CONTROL, rng.permutation(len(frame))


def _fill(
    orders: dict[str, np.ndarray],
    ids: list[str],
    fetch: Callable[[list[str]], Sequence[str]],
    top: int,
) -> dict[str, Selection]:
    """Select from the head of each order; look further down until all lists are full or done."""
    depth = _FIRST_LOOK * top
    while True:
        heads = {score: order[:depth] for score, order in orders.items()}
        looked_at = np.unique(np.concatenate(list(heads.values())))
        trigrams = Trigrams.from_texts(fetch([ids[index] for index in looked_at.tolist()]))
        selections = {}
        for score, head in heads.items():
            local = select(trigrams, np.searchsorted(looked_at, head), top)
            selections[score] = Selection(looked_at[local.chosen], local.n_skipped)
        if all(len(s.chosen) == top or len(orders[n]) <= depth for n, s in selections.items()):
            return selections
        depth *= _NEXT_LOOK
