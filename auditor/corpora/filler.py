"""Overlaps that are long without saying anything: rows of blanks, dashes, a table's border."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from auditor.corpora.matching import Match
from auditor.corpora.needles import Needle


def without_filler(
    matches: Sequence[Match], needles: Sequence[Needle], *, min_tokens: int, min_chars: int
) -> list[Match]:
    """The matches of min_tokens tokens, or of min_chars characters with runs counted once.

    Parameters
    ----------
    matches : sequence of Match
        Of these needles; `n_chars` stays as it was told.
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
    texts = {needle.sample_id: needle.text for needle in needles}
    return [
        m
        for m in matches
        if m.n_tokens >= min_tokens
        or min(m.n_chars, n_varied_chars(texts[m.sample_id][m.start : m.end])) >= min_chars
    ]


def n_varied_chars(text: str) -> int:
    """Characters that differ from the one before: a run of one character counts once.

    >>> n_varied_chars("aab---- "), n_varied_chars("")
    (4, 0)
    """
    return sum(a != b for a, b in pairwise(text)) + bool(text)
