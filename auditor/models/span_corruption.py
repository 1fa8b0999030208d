"""Span corruption: hide spans of a text behind gaps, and put them back.

A span is a pair (start, stop) of token positions. The spans of a text are in order and do not
overlap. A gap is a token that stands for a hidden span, such as T5's <extra_id_0>.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Span = tuple[int, int]

# T5's pre-training: share of hidden tokens, and mean length of a span.
DENSITY, MEAN_LENGTH = 0.15, 3.0


def corrupt(
    ids: Sequence[int], spans: Sequence[Span], gaps: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Hide spans of a text.

    Parameters
    ----------
    ids : token ids of the text
    spans : n spans
    gaps : at least n + 1 token ids

    Returns
    -------
    shown : the text with gap i in place of span i
    hidden : gap 0, span 0, gap 1, span 1, ..., gap n

    Source
    ------
    Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
    Transformer", section 3.1.4 and figure 2.

    >>> corrupt([5, 6, 7, 8], [(1, 3)], [98, 99])
    ([5, 98, 8], [98, 6, 7, 99])
    """
    shown: list[int] = []
    hidden: list[int] = []
    at = 0
    for gap, (start, stop) in zip(gaps, spans, strict=False):
        shown += [*ids[at:start], gap]
        hidden += [gap, *ids[start:stop]]
        at = stop
    return [*shown, *ids[at:]], [*hidden, gaps[len(spans)]]


def merge(shown: Sequence[int], hidden: Sequence[int], gaps: Sequence[int]) -> list[int]:
    """Put hidden spans back: the inverse of `corrupt`.

    Raises ValueError unless `hidden` starts with a gap, and its gaps but the last are those of
    `shown`.

    >>> merge([5, 98, 8], [98, 6, 7, 99], [98, 99])
    [5, 6, 7, 8]
    """
    known = set(gaps)
    places = [i for i, token in enumerate(hidden) if token in known]
    asked = [token for token in shown if token in known]
    if places[:1] != [0] or [hidden[i] for i in places[:-1]] != asked:
        raise ValueError(
            f"hidden must have the gaps of shown, in order, and one to close the last span; got "
            f"{[hidden[i] for i in places]} for {asked}. Pass both results of corrupt."
        )
    spans = iter([hidden[a + 1 : b] for a, b in itertools.pairwise(places)])
    return [i for token in shown for i in (next(spans) if token in known else [token])]


def random_of(ids: Sequence[int], seed: int) -> np.random.Generator:
    """A generator that depends on a text's tokens and a seed, not on the order of texts."""
    raw = np.asarray(ids, dtype="<i8").tobytes()
    digest = hashlib.blake2b(raw, key=seed.to_bytes(8, "little"), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def short_spans(n_tokens: int, rng: np.random.Generator) -> list[Span]:
    """Random spans of a text of n tokens: 15 % of the tokens, in spans of mean length 3.

    All texts of one length get the same number of spans and of hidden tokens. Text is shown before
    and after each span; in the authors' code the last span ends the text, and where it ends cannot
    be known from the text.

    Raises ValueError for fewer than 3 tokens.

    Source
    ------
    Raffel et al. 2020, section 3.1.4; their code's `random_spans_noise_mask`.

    >>> sum(b - a for a, b in short_spans(100, np.random.default_rng(0)))
    15
    """
    if n_tokens < 3:
        raise ValueError(
            f"n_tokens must be at least 3, to show text around a span; got {n_tokens}. Use a "
            "longer text."
        )
    n_hidden = min(max(1, round(DENSITY * n_tokens)), n_tokens - 2)
    n_spans = max(1, round(n_hidden / MEAN_LENGTH))
    shown = _lengths(n_tokens - n_hidden, n_spans + 1, rng)[:-1]
    hidden = _lengths(n_hidden, n_spans, rng)
    stops = np.cumsum(shown + hidden)
    return [(int(b - n), int(b)) for b, n in zip(stops, hidden, strict=True)]


def long_span(n_tokens: int, n_hidden: int) -> list[Span]:
    """One span of `n_hidden` tokens in the middle of a text of n tokens.

    >>> long_span(10, 5)
    [(3, 8)]
    """
    start = (n_tokens - n_hidden + 1) // 2
    return [(start, start + n_hidden)]


def covering_spans(n_tokens: int, rng: np.random.Generator, *, most: int) -> list[list[Span]]:
    """Corruptions of one text that together hide every token exactly once.

    The text is cut into random spans of mean length 3. With seven spans or more, each corruption
    hides every seventh, so about 15 % of the tokens; with more than `most` of them, there are more
    corruptions.

    >>> rounds = covering_spans(50, np.random.default_rng(0), most=99)
    >>> len(rounds), sorted(i for spans in rounds for a, b in spans for i in range(a, b))[-1]
    (7, 49)
    """
    if not n_tokens:
        return []
    n_spans = max(1, round(n_tokens / MEAN_LENGTH))
    stops = np.cumsum(_lengths(n_tokens, n_spans, rng)).tolist()
    spans = list(zip([0, *stops[:-1]], stops, strict=True))
    n_rounds = min(n_spans, max(math.ceil(1 / DENSITY), math.ceil(n_spans / most)))
    return [spans[first::n_rounds] for first in range(n_rounds)]


def _lengths(n_tokens: int, n_parts: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Random lengths (1 or more) of n parts of a text; all divisions are equally likely."""
    cuts = np.sort(rng.permutation(n_tokens - 1)[: n_parts - 1]) + 1
    return np.diff([0, *cuts.tolist(), n_tokens])
