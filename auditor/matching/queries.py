"""Queries: short texts to search for, with the ends of their tokens."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from auditor.errors import AuditError
from auditor.matching.byte_blocks import Ints, is_char_start, to_bytes


@dataclass(frozen=True, eq=False)
class Query:
    """A text to search for; token i covers the characters [token_ends[i-1], token_ends[i]).

    Leave out tokens without text, such as special tokens. A token of no characters is part of a
    character that a later token completes.
    """

    sample_id: str
    text: str
    token_ends: ArrayLike


# The name outside this package.


def check_minima(min_tokens: int, min_chars: int) -> None:
    """Raise AuditError unless both minima are 1 or more."""
    for name, value, usual in (("min_tokens", min_tokens, 32), ("min_chars", min_chars, 100)):
        if value < 1:
            raise AuditError(f"{name} must be 1 or more; got {value}. The default is {usual}.")


def checked_ends(query: Query) -> Ints:
    """The query's token ends as int64. Raises AuditError if they do not fit its text.

    >>> checked_ends(Query("s", "abc", [1, 3]))
    array([1, 3])
    """
    ends = np.asarray(query.token_ends)
    if ends.size == 0:
        return np.zeros(0, dtype=np.int64)
    is_integer = ends.ndim == 1 and np.issubdtype(ends.dtype, np.integer)
    if not is_integer or np.any(np.diff(ends) < 0) or ends[0] < 0 or ends[-1] > len(query.text):
        raise AuditError(
            f"token_ends of sample {query.sample_id} must be integers that rise from 0 to at most "
            f"{len(query.text):,}, its number of characters; got {ends.tolist()[:8]} ... Count "
            "characters of the text, not bytes or tokens."
        )
    return ends.astype(np.int64, copy=False)


def count_tokens(ends: Ints, start: Ints, end: Ints) -> Ints:
    """Number of tokens that lie wholly within each span [start, end).

    A token of no characters lies within a span that has characters on both sides of it.

    >>> count_tokens(np.array([2, 2, 5, 9]), np.array([0, 2]), np.array([5, 9]))
    array([3, 2])
    """
    begins = np.append(0, ends[:-1])[: len(ends)]
    # A token lies within if start <= its begin, start < its end <= end, and its begin < end.
    first = np.maximum(np.searchsorted(begins, start), np.searchsorted(ends, start, "right"))
    last = np.minimum(np.searchsorted(ends, end, "right"), np.searchsorted(begins, end))
    return np.maximum(last - first, 0)


def fewest_bytes(
    text: str, ends: Ints, min_tokens: int, min_chars: int, *, origins: Ints | None = None
) -> int | None:
    """A lower bound for the bytes of a span that reaches either minimum; None if none can.

    If `text` is folded, `origins` maps each of its characters, and its end, to the original text,
    to which `ends` refers.

    >>> fewest_bytes("abcdef", np.array([2, 4, 5, 6]), 2, 100)
    2
    """
    bounds = [min_chars] if len(text) >= min_chars else []
    if len(ends) >= min_tokens:
        begins = np.append(0, ends[:-1])
        if origins is not None:
            begins = np.searchsorted(origins, begins, "right") - 1
            ends = np.searchsorted(origins, ends)
        if not text.isascii():
            raw = np.frombuffer(to_bytes(text), dtype=np.uint8)
            byte_of = np.append(np.flatnonzero(is_char_start(raw)), len(raw))
            begins, ends = byte_of[begins], byte_of[ends]
        sizes = ends[min_tokens - 1 :] - begins[: len(begins) - min_tokens + 1]
        bounds.append(max(1, int(sizes.min())))
    return min(bounds, default=None)
