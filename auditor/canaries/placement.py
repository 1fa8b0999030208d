"""Where canaries go in a corpus, and how much of it they are."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from auditor.canaries.canaries import Canaries, Canary

WARN_SHARE = 0.01  # canaries above this share of a corpus are worth a warning
_TEXTS = 256


@dataclass(frozen=True)
class Placement:
    """One copy of a canary: units of the source before it, and its own number in what is written.

    Both count from 0; a unit is a line, a row or a document.
    """

    canary: Canary
    copy: int
    source_position: int
    position: int


@dataclass(frozen=True)
class Insertion:
    """A corpus with canaries in it.

    Parameters
    ----------
    out, record : Path
        The new corpus, and a JSON file that says where each copy stands.
    unit : "line", "row" or "document"
    placements : DataFrame
        canary_id, copy, source_position (units of the source before it), position (its own number
        in the new corpus); both from 0.
    measure : "tokens" or "characters"
    n_source, n_canaries : int
        So many of them in the source and in the canaries' copies.
    notices : list of str
        What a user should know.
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
        """Canaries' fraction of the new corpus, by `measure`."""
        return self.n_canaries / (self.n_source + self.n_canaries)


def place(canaries: Canaries, n_units: int, *, seed: int) -> list[Placement]:
    """Spread every canary's copies over a corpus, in the order in which they are written.

    Each copy lies at a random place of its own share of the corpus: of four copies one lies in
    each quarter.

    Parameters
    ----------
    canaries : Canaries
    n_units : int
        Lines, rows or documents of the source; there is a place before each and one at the end.
    seed : int

    Returns
    -------
    list of Placement
    """
    rng = np.random.default_rng([seed, 11])
    copies = [(canary, copy) for canary in canaries.canaries for copy in range(canary.repeats)]
    share = (rng.random(len(copies)) + [copy for _, copy in copies]) / [
        canary.repeats for canary, _ in copies
    ]
    gaps = np.minimum((share * (n_units + 1)).astype(np.int64), n_units)
    # Where several meet, in random order, not by their numbers.
    order = np.lexsort((rng.random(len(copies)), gaps)).tolist()
    placements = []
    for before, i in enumerate(order):
        canary, copy = copies[i]
        placements.append(Placement(canary, copy, int(gaps[i]), int(gaps[i]) + before))
    return placements


def publish(scratch: Path, out: Path, finish: Callable[[], Insertion]) -> Insertion:
    """Write the record by `finish`, then give the new corpus its name; both stand, or neither."""
    made = finish()
    try:
        os.replace(scratch, out)
    except BaseException:
        with suppress(OSError):  # the first error is the one to report
            made.record.unlink()
        raise
    return made


class Meter:
    """Counts the tokens of texts, or their characters where no vocabulary is given."""

    def __init__(self, vocabulary=None):
        self._vocabulary = vocabulary
        self._waiting: list[str] = []
        self._counted = 0
        self.measure = "characters" if vocabulary is None else "tokens"

    def add(self, text: str) -> None:
        """One more text."""
        if self._vocabulary is None:
            self._counted += len(text)
            return
        self._waiting.append(text)
        if len(self._waiting) >= _TEXTS:
            self._count()

    def total(self) -> int:
        """Tokens or characters of all texts so far."""
        if self._waiting:
            self._count()
        return self._counted

    def _count(self) -> None:
        self._counted += sum(map(len, self._vocabulary.encode_all(self._waiting)))
        self._waiting = []
