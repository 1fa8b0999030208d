"""Find the maximal spans of a text that a corpus contains, with few lookups."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from auditor.matching.byte_blocks import Ints, is_char_start, pad


class Oracle(Protocol):
    """Lookups in a corpus."""

    def contains(self, raw: bytes) -> bool:
        """Whether the corpus contains the bytes."""

    def longest_prefix(self, raw: bytes) -> int:
        """Length of the longest prefix of the bytes that the corpus contains."""


@dataclass(frozen=True)
class Spans:
    """Maximal spans of a text, ascending: in characters, and in bytes (`byte_*`)."""

    begins: Ints
    ends: Ints
    byte_begins: Ints
    byte_ends: Ints


def maximal_spans(raw: bytes, shortest: int, oracle: Oracle) -> Spans:
    """The maximal spans of whole characters that the corpus contains.

    The end of a match never moves back as its begin moves on, so only the begin and end of each
    span are looked up. If `shortest` / 2 bytes are absent, no span contains them.

    `raw` is UTF-8. Spans shorter than `shortest` bytes may or may not be found.
    """
    starts = is_char_start(pad(raw)[: len(raw) + 1])
    begins: list[int] = []
    ends: list[int] = []
    for begin, end in _byte_spans(raw, max(1, shortest), oracle):
        while begin < end and not starts[begin]:
            begin += 1
        while end > begin and not starts[end]:
            end -= 1
        if begin == end or (ends and end <= ends[-1]):
            continue
        if begins and begins[-1] == begin:
            begins.pop(), ends.pop()
        begins.append(begin)
        ends.append(end)
    at = np.array([begins, ends], dtype=np.int64).reshape(2, -1)
    chars = np.append(0, np.cumsum(starts))[at]
    return Spans(chars[0], chars[1], at[0], at[1])


def _byte_spans(raw: bytes, shortest: int, oracle: Oracle) -> list[tuple[int, int]]:
    """Maximal spans of at least `shortest` bytes, as (begin, end)."""
    found = []
    half = max(1, shortest // 2)
    at = 0
    while at + shortest <= len(raw):
        end = at + shortest
        if not oracle.contains(raw[end - half : end]):
            at = end - half + 1
            continue
        if oracle.contains(raw[at:end]):
            end = at + oracle.longest_prefix(raw[at:])
            found.append((at, end))
            if end == len(raw):
                break
            end += 1
        at = _first_contained(raw, at + 1, end, oracle)
    return found


def _first_contained(raw: bytes, low: int, end: int, oracle: Oracle) -> int:
    """The first position from `low` on such that the corpus contains raw[position:end]."""
    high = end
    while low < high:
        middle = (low + high) // 2
        if oracle.contains(raw[middle:end]):
            high = middle
        else:
            low = middle + 1
    return low
