"""Split texts that are longer than a model's context into windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """Tokens of text `owner`, to be scored after `prefix`."""

    owner: int
    prefix: list[int]
    tokens: list[int]


def cut_to_context(
    texts: Sequence[Sequence[int]], prefixes: Sequence[Sequence[int]], context: int | None
) -> list[Piece]:
    """Split every text, in order, into pieces that fit the context together with their prefix.

    The prefix of each piece after the first is the preceding half context, so every such token is
    scored with at least that much context. A prefix longer than half a context keeps its first
    token (BOS) and its end.

    >>> [(p.prefix, p.tokens) for p in cut_to_context([[1, 2, 3, 4, 5]], [[0]], 4)]
    [([0], [1, 2, 3]), ([2, 3], [4, 5])]
    """
    out = []
    for owner, (text, prefix) in enumerate(zip(texts, prefixes, strict=True)):
        text, prefix = list(text), list(prefix)
        if context is None or len(prefix) + len(text) <= context:
            out.append(Piece(owner, prefix, text))
            continue
        half = max(1, context // 2)
        if len(prefix) > half:
            prefix = [prefix[0], *prefix[len(prefix) - half + 1 :]]
        at = context - len(prefix)
        out.append(Piece(owner, prefix, text[:at]))
        before = prefix + text
        skip = len(prefix)
        while at < len(text):
            take = min(context - half, len(text) - at)
            out.append(Piece(owner, before[skip + at - half : skip + at], text[at : at + take]))
            at += take
    return out
