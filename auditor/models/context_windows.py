"""Texts longer than a model's context, cut into pieces that fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """Tokens `tokens` of text `owner`, to be judged after `prefix`."""

    owner: int
    prefix: list[int]
    tokens: list[int]


def cut_to_context(
    texts: Sequence[Sequence[int]], prefixes: Sequence[Sequence[int]], context: int | None
) -> list[Piece]:
    """Every text in order, in pieces of which each fits the context with what comes before it.

    A piece after the first begins with half a context of the tokens before it, so every token is
    judged with at least that much in sight. A prefix of more than half a context keeps its first
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
