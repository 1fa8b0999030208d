"""Find the occurrences that cross a cut between shards."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class _Window:
    """The text around a cut: `raw` begins at position `begin`, the previous shard at `base`."""

    base: int
    cut: int
    begin: int
    raw: bytes


class ShardBoundaries:
    """Search around the cuts that fall inside a document.

    `bases` are where each shard begins in the stream, and where the last one ends; `is_cut` tells
    whether the document at a shard's end continues in the next; `read` returns the bytes of the
    stream from begin to end.
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
            # An occurrence that begins before this shard is counted at an earlier cut.
            first = max(window.base, window.cut - len(query) + 1) - window.begin
            end = window.cut - 1 + len(query) - window.begin
            place = window.raw.find(query, first, end)
            while place >= 0:
                found[bisect_right(self._bases, window.base) - 1].append(window.begin + place)
                place = window.raw.find(query, place + 1, end)
        return found

    def contains(self, query: bytes) -> bool:
        """Whether the text around any cut contains the query."""
        return any(query in window.raw for window in self._around(len(query)))

    def longer_prefix(self, query: bytes, least: int) -> int:
        """Length of the longest prefix found around a cut, or `least` if that is longer."""
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
        """Windows wide enough for queries of that length; cached."""
        if length > self._width and self._cuts:
            self._width = max(256, 1 << (length - 1).bit_length())
            self._windows = [self._window(k) for k in self._cuts]
        return self._windows

    def _window(self, k: int) -> _Window:
        cut = self._bases[k]
        begin = max(0, cut - self._width)
        return _Window(self._bases[k - 1], cut, begin, self._read(begin, cut + self._width))
