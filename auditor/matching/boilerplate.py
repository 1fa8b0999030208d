"""Remove matches that are mostly boilerplate: rows of blanks or dashes, borders of tables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from auditor.matching.queries import Query, checked_ends
from auditor.matching.verbatim import Match


def without_boilerplate(
    matches: Sequence[Match], queries: Sequence[Query], *, min_tokens: int, min_chars: int
) -> list[Match]:
    """Matches that reach a minimum if a run of one character counts once.

    Tokens that only continue a run do not count. The minima are those of `find_matches`.

    Source
    ------
    Ours: the paper needs no such rule, because people judged each sample (§6.1).

    >>> border = "+" + "-" * 60 + "+" + "-" * 60 + "+"
    >>> match = Match("s", 0, 123, 5, 123, 1, 1, "d", 0, (("d", 0),))
    >>> without_boilerplate([match], [Query("s", border, [])], min_tokens=32, min_chars=100)
    []
    """
    by_id = {query.sample_id: query for query in queries}

    def is_long(match: Match) -> bool:
        query = by_id[match.sample_id]
        n_chars = min(match.n_chars, n_varied_chars(query.text[match.start : match.end]))
        if n_chars >= min_chars:
            return True
        # Cheap test first: n_varied_tokens is at most n_tokens.
        return (
            match.n_tokens >= min_tokens
            and n_varied_tokens(query, match.start, match.end) >= min_tokens
        )

    return [match for match in matches if is_long(match)]


def n_varied_chars(text: str) -> int:
    """Number of characters, where a run of one character counts once.

    >>> n_varied_chars("aab---- "), n_varied_chars("")
    (4, 0)
    """
    return sum(a != b for a, b in pairwise(text)) + bool(text)


def n_varied_tokens(query: Query, start: int, end: int) -> int:
    """Number of tokens within [start, end) that do not only continue a run of one character.

    Part of a character counts with the token that completes it.

    >>> n_varied_tokens(Query("s", "ab----", [1, 2, 4, 6]), 0, 6)
    3
    """
    ends = checked_ends(query)
    begins = np.append(0, ends[:-1])[: len(ends)]
    inside = (begins >= start) & (begins < end) & (ends > start) & (ends <= end)
    text = query.text[start:end]
    varied = [a != b for a, b in pairwise(text)]
    before = np.append(0, np.cumsum([bool(text), *varied]))  # varied characters before each place
    whole = np.append(ends, end)[np.searchsorted(ends, begins, "right")]
    last = np.minimum(np.maximum(ends, whole), end)[inside]
    return int((before[last - start] > before[begins[inside] - start]).sum())
