"""Maximal pieces of a text that a corpus holds, found with few questions."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from auditor.matching.byte_blocks import Ints, is_char_start, pad


class Oracle(Protocol):
    """What answers of one piece whether, and how far, a corpus holds it."""

    def holds(self, raw: bytes) -> bool:
        """Whether the bytes stand anywhere."""

    def longest_prefix(self, raw: bytes) -> int:
        """How many of the bytes, from the first on, stand somewhere together."""


@dataclass(frozen=True)
class Spans:
    """Maximal spans of a text in characters, ascending; `byte_*` are the same in bytes."""

    begins: Ints
    ends: Ints
    byte_begins: Ints
    byte_ends: Ints


def maximal_spans(raw: bytes, shortest: int, oracle: Oracle) -> Spans:
    """The pieces of whole characters that the oracle holds and that no longer one contains.

    Where a piece ends never moves back as its begin moves on, so of each only its begin and its
    end are asked for, not what lies between; and where half of `shortest` bytes are nowhere, no
    piece can contain them.

    Parameters
    ----------
    raw : bytes
        UTF-8.
    shortest : int
        Bytes; shorter pieces are left out, or found by luck.
    oracle : Oracle

    Returns
    -------
    Spans
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
    """Maximal spans of `shortest` bytes or more, as (begin, end)."""
    found = []
    half = max(1, shortest // 2)
    at = 0
    while at + shortest <= len(raw):
        end = at + shortest
        if not oracle.holds(raw[end - half : end]):
            at = end - half + 1
            continue
        if oracle.holds(raw[at:end]):
            end = at + oracle.longest_prefix(raw[at:])
            found.append((at, end))
            if end == len(raw):
                break
            end += 1
        at = _first_held(raw, at + 1, end, oracle)
    return found


def _first_held(raw: bytes, low: int, end: int, oracle: Oracle) -> int:
    """The first position from low on from which everything up to `end` is held."""
    high = end
    while low < high:
        middle = (low + high) // 2
        if oracle.holds(raw[middle:end]):
            high = middle
        else:
            low = middle + 1
    return low
