"""Placement of canaries in a corpus, and their share of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from auditor.canaries.canaries import Canaries, Canary

WARN_SHARE = 0.01  # warn if canaries exceed this share of a corpus
_TEXTS = 256


@dataclass(frozen=True)
class Placement:
    """One copy of a canary: the number of source units before it, and its index in the new corpus.

    Both are 0-based; a unit is a line, row or document.
    """

    canary: Canary
    copy: int
    source_position: int
    position: int


@dataclass(frozen=True)
class Source:
    """An opened corpus: its size in characters or tokens, and how to write it with canaries."""

    unit: str
    n_units: int
    size: int
    write: Callable[[Path, list[Placement]], None]


@dataclass(frozen=True)
class Insertion:
    """A corpus with canaries in it.

    Parameters
    ----------
    out, record : Path
        The new corpus, and the JSON file with the placements.
    unit : "line", "row" or "document"
    placements : DataFrame
        canary_id, copy, source_position (number of source units before it), position (index in
        the new corpus); both 0-based.
    measure : "tokens" or "characters"
    n_source, n_canaries : int
        Size of the source and of all canary copies, in `measure`.
    notices : list of str
        Warnings for the user.
    """

    out: Path
    record: Path
    unit: str
    placements: pd.DataFrame
    measure: str
    n_source: int
    n_canaries: int
    notices: list[str]

    @property
    def share(self) -> float:
        """Fraction of the new corpus that is canaries, by `measure`."""
        return self.n_canaries / (self.n_source + self.n_canaries)


def place(canaries: Canaries, n_units: int, *, seed: int) -> list[Placement]:
    """Spread every canary's copies over a corpus; placements are in the order of writing.

    The source has `n_units` units. With n copies of a canary, each n-th of the corpus gets one at a
    random position: before any unit, or at the end.
    """
    rng = np.random.default_rng([seed, 11])
    copies = [(canary, copy) for canary in canaries.canaries for copy in range(canary.repeats)]
    share = (rng.random(len(copies)) + [copy for _, copy in copies]) / [
        canary.repeats for canary, _ in copies
    ]
    gaps = np.minimum((share * (n_units + 1)).astype(np.int64), n_units)
    # Several canaries at one position are in random order.
    order = np.lexsort((rng.random(len(copies)), gaps)).tolist()
    placements = []
    for before, i in enumerate(order):
        canary, copy = copies[i]
        placements.append(Placement(canary, copy, int(gaps[i]), int(gaps[i]) + before))
    return placements


def size_of(texts: Iterable[str], vocabulary=None) -> tuple[int, int]:
    """Number of texts, and their total tokens, or characters without a vocabulary."""
    n = size = 0
    texts = iter(texts)
    while batch := list(islice(texts, _TEXTS)):
        n += len(batch)
        size += sum(map(len, batch if vocabulary is None else vocabulary.encode_all(batch)))
    return n, size
