"""What crosses the cuts between shards: the few occurrences that no shard holds whole."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class _Window:
    """The stream around a cut: `raw` begins at position `begin`, the shard before at `base`."""

    base: int
    cut: int
    begin: int
    raw: bytes


class Seams:
    """The cuts that fall into a document, and a search of the text around each.

    Parameters
    ----------
    bases : list of int (n_shards + 1,)
        Where each shard begins in the stream, and where the last ends.
    is_cut : list of bool (n_shards,)
        Whether the document at a shard's end goes on in the next.
    read : callable
        (begin, end) -> bytes of the stream.
    """

    def __init__(self, bases: list[int], is_cut: list[bool], read: Callable[[int, int], bytes]):
        self._bases, self._read = bases, read
        self._cuts = [k + 1 for k, cut in enumerate(is_cut) if cut]
        self._width = 0
        self._windows: list[_Window] = []

    def crossing(self, query: bytes) -> list[list[int]]:
        """For each shard, ascending positions of occurrences that begin in it and cross its end."""
        found: list[list[int]] = [[] for _ in self._bases[1:]]
        for window in self._around(len(query)):
            # What begins before this shard crosses an earlier cut, and is counted there.
            first = max(window.base, window.cut - len(query) + 1) - window.begin
            end = window.cut - 1 + len(query) - window.begin
            place = window.raw.find(query, first, end)
            while place >= 0:
                found[bisect_right(self._bases, window.base) - 1].append(window.begin + place)
                place = window.raw.find(query, place + 1, end)
        return found

    def holds(self, query: bytes) -> bool:
        """Whether an occurrence stands around any cut."""
        return any(query in window.raw for window in self._around(len(query)))

    def longer_prefix(self, query: bytes, least: int) -> int:
        """The longest prefix that stands around a cut, where it is longer than `least`."""
        best = least
        for window in self._around(len(query)):
            while best < len(query):
                place = window.raw.find(query[: best + 1])
                if place < 0:
                    break
                while window.raw.startswith(query[: best + 1], place) and best < len(query):
                    best += 1
        return best

    def _around(self, length: int) -> list[_Window]:
        """Windows wide enough for texts of that length; kept for the next question."""
        if length > self._width and self._cuts:
            self._width = max(256, 1 << (length - 1).bit_length())
            self._windows = [self._window(k) for k in self._cuts]
        return self._windows

    def _window(self, k: int) -> _Window:
        cut = self._bases[k]
        begin = max(0, cut - self._width)
        return _Window(self._bases[k - 1], cut, begin, self._read(begin, cut + self._width))
