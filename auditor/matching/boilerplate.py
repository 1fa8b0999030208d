"""Overlaps that are long without saying anything: rows of blanks, dashes, a table's border."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from auditor.matching.queries import Needle, checked_ends
from auditor.matching.verbatim import Match


def without_filler(
    matches: Sequence[Match], needles: Sequence[Needle], *, min_tokens: int, min_chars: int
) -> list[Match]:
    """Matches of min_tokens tokens or min_chars characters, a run of one character counted once.

    Of tokens that write nothing but a run's further characters none counts.

    Parameters
    ----------
    matches : sequence of Match
        Of these needles; `n_tokens` and `n_chars` stay as they were told.
    needles : sequence of Needle
    min_tokens, min_chars : int
        As `find_matches` was given them.

    Source
    ------
    Ours: in the paper people judged each sample by eye (§6.1), so it needs no such rule.

    >>> border = "+" + "-" * 60 + "+" + "-" * 60 + "+"
    >>> match = Match("s", 0, 123, 5, 123, 1, 1, "d", 0, (("d", 0),))
    >>> without_filler([match], [Needle("s", border, [])], min_tokens=32, min_chars=100)
    []
    """
    by_id = {needle.sample_id: needle for needle in needles}

    def is_long(match: Match) -> bool:
        needle = by_id[match.sample_id]
        n_chars = min(match.n_chars, n_varied_chars(needle.text[match.start : match.end]))
        if n_chars >= min_chars:
            return True
        # No count of varied tokens is above that of all.
        return (
            match.n_tokens >= min_tokens
            and n_varied_tokens(needle, match.start, match.end) >= min_tokens
        )

    return [match for match in matches if is_long(match)]


def n_varied_chars(text: str) -> int:
    """Characters that differ from the one before: a run of one character counts once.

    >>> n_varied_chars("aab---- "), n_varied_chars("")
    (4, 0)
    """
    return sum(a != b for a, b in pairwise(text)) + bool(text)


def n_varied_tokens(needle: Needle, start: int, end: int) -> int:
    """Tokens within [start, end) in which a character differs from the one before, or is the first.

    A part of a character counts with the token that completes it.

    >>> n_varied_tokens(Needle("s", "ab----", [1, 2, 4, 6]), 0, 6)
    3
    """
    ends = checked_ends(needle)
    begins = np.append(0, ends[:-1])[: len(ends)]
    inside = (begins >= start) & (begins < end) & (ends > start) & (ends <= end)
    text = needle.text[start:end]
    varied = [a != b for a, b in pairwise(text)]
    before = np.append(0, np.cumsum([bool(text), *varied]))  # of characters before each place
    whole = np.append(ends, end)[np.searchsorted(ends, begins, "right")]
    last = np.minimum(np.maximum(ends, whole), end)[inside]
    return int((before[last - start] > before[begins[inside] - start]).sum())
