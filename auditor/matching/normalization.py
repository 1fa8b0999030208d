"""Normalize text for comparison, with a map back to positions in the original text.

"whitespace" replaces any run of whitespace (`str.isspace`) by one space. "case" lowers each
character whose lower case is one character (all but U+0130); a final sigma becomes a sigma.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from auditor.errors import AuditError

CHANGES = ("whitespace", "case")

Ints = NDArray[np.int64]

# No character after U+3000 is whitespace, so the table ends with one entry for all of them.
_N_LOOKED_UP = 0x3002
_DOTTED_I = "\u0130"


@dataclass(frozen=True)
class Folding:
    """The normalizations to apply; created by `folding`."""

    whitespace: bool = False
    case: bool = False


EXACT = Folding()


def folding(changes: str | Iterable[str]) -> Folding:
    """Normalizations by name. Raises AuditError for an unknown name.

    >>> folding("case"), folding(())
    (Folding(whitespace=False, case=True), Folding(whitespace=False, case=False))
    """
    names = [changes] if isinstance(changes, str) else list(changes)
    for name in names:
        if name not in CHANGES:
            raise AuditError(
                f"normalize must be of {' and '.join(CHANGES)}; got {name!r}. Leave it out to "
                "compare text exactly."
            )
    return Folding(**dict.fromkeys(names, True))


@dataclass(frozen=True)
class Drops:
    """Characters that folding dropped: before folded character `places[i]`, `totals[i]` in all.

    Both count from the document's beginning. Folded character i is original character `origin(i)`,
    the first of a run of whitespace.
    """

    places: Ints
    totals: Ints

    def origin(self, chars: Ints) -> Ints:
        """The original positions of folded characters.

        >>> Drops(np.array([2, 5]), np.array([3, 4])).origin(np.array([0, 1, 2, 5])).tolist()
        [0, 1, 5, 9]
        """
        at = np.searchsorted(self.places, chars, "right") - 1
        return chars + np.where(at >= 0, self.totals[at], 0) if len(self.places) else chars

    def between(self, begin: int, end: int) -> "Drops":
        """The part that determines the origins of the folded characters [begin, end]."""
        first, last = np.searchsorted(self.places, [begin, end], "right")
        first = max(int(first) - 1, 0)
        return Drops(self.places[first:last], self.totals[first:last])


NO_DROPS = Drops(np.zeros(0, np.int64), np.zeros(0, np.int64))


class Folder:
    """Folds a document piece by piece and records the dropped characters."""

    def __init__(self, change: Folding):
        self._change = change
        self.restart()

    def restart(self) -> None:
        """Begin a new document."""
        self._drops = NO_DROPS
        self._n_folded = 0
        self._ends_in_space = False

    def fold(self, raw: bytes) -> bytes:
        """Fold the document's next piece: UTF-8, cut between characters."""
        if self._change == EXACT:
            return raw
        if self._change.case:
            raw = _lower(raw)
        return self._collapse_spaces(raw) if self._change.whitespace and raw else raw

    def drops(self, begin: int) -> Drops:
        """The dropped characters from the folded character `begin` to the last one folded."""
        if not len(self._drops.places):
            return NO_DROPS
        return self._drops.between(begin, self._n_folded)

    def forget(self, begin: int) -> None:
        """Discard the drops before `begin`, which are no longer needed."""
        self._drops = self.drops(begin)

    def _collapse_spaces(self, raw: bytes) -> bytes:
        """Drop all but the first of each run of spaces, also if it began in an earlier piece."""
        is_ascii = raw.isascii()
        text = np.frombuffer(raw if is_ascii else _wide(raw), np.uint8 if is_ascii else np.uint32)
        is_space = _is_space(text)
        follows = np.append(self._ends_in_space, is_space[:-1])
        dropped = is_space & follows
        kept = np.where(is_space, text.dtype.type(32), text)[~dropped]
        # A drop applies from the folded character that comes after it.
        at, sizes = np.unique(
            np.flatnonzero(dropped) - np.arange(np.count_nonzero(dropped)), return_counts=True
        )
        before = int(self._drops.totals[-1]) if len(self._drops.totals) else 0
        self._drops = Drops(
            np.append(self._drops.places, at + self._n_folded),
            np.append(self._drops.totals, before + np.cumsum(sizes)),
        )
        self._n_folded += len(kept)
        self._ends_in_space = bool(is_space[-1])
        if is_ascii:
            return kept.tobytes()
        return kept.tobytes().decode("utf-32-le", "surrogatepass").encode("utf-8", "surrogatepass")


def fold_text(text: str, change: Folding) -> tuple[str, Drops]:
    """Fold a whole text; returns it with its map to the original.

    >>> folded, drops = fold_text("A  b\\n", folding(["whitespace", "case"]))
    >>> folded, drops.origin(np.arange(5)).tolist()
    ('a b ', [0, 1, 3, 4, 5])
    """
    if change == EXACT:
        return text, NO_DROPS
    folder = Folder(change)
    raw = folder.fold(text.encode("utf-8", "surrogatepass"))
    return raw.decode("utf-8", "surrogatepass"), folder.drops(0)


def _lower(raw: bytes) -> bytes:
    if raw.isascii():
        return raw.lower()
    text = raw.decode("utf-8", "surrogatepass")
    # `str.lower` depends on context for sigma, and maps U+0130 to two characters.
    text = text.replace("Σ", "σ").replace("ς", "σ")
    lower = _DOTTED_I.join(part.lower() for part in text.split(_DOTTED_I))
    return lower.encode("utf-8", "surrogatepass")


def _wide(raw: bytes) -> bytes:
    text = raw.decode("utf-8", "surrogatepass")
    return text.encode("utf-32-le", "surrogatepass")


def _is_space(text: NDArray) -> NDArray[np.bool_]:
    table = _space_table()
    return table[text if text.dtype == np.uint8 else np.minimum(text, _N_LOOKED_UP - 1)]


@cache
def _space_table() -> NDArray[np.bool_]:
    return np.array([chr(i).isspace() for i in range(_N_LOOKED_UP)])
