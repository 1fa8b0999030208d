"""Log-probabilities of the hidden spans of a text under an encoder-decoder, in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.config.audit import Decoding
from auditor.models.encoder_decoder import EncoderDecoder
from auditor.models.span_corruption import Span
from auditor.models.tokenizer import check_rows
from auditor.scoring.suffixes import Measured, first_choices


@dataclass(frozen=True, eq=False)
class Infilled:
    """The hidden tokens of n texts, m in each, under one model and decoding.

    tokens : Measured, (n, m)
        The tokens of the spans in order, without the sentinels.
    closed : bool array (n,)
        Whether greedy decoding also ends each span where it ends: its next token is the next
        sentinel, or without sentinels the token after the span.
    """

    tokens: Measured
    closed: NDArray[np.bool_]


def measure_spans(
    model: EncoderDecoder,
    texts: Sequence[Sequence[int]],
    spans: Sequence[Sequence[Span]],
    *,
    decoding: Decoding,
    batch_tokens: int = 4096,
    progress: Callable[[int], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> Infilled:
    """First choices and log-probabilities of hidden spans, without generation.

    Each token is measured after the true tokens before it. If all are first choices and all spans
    are closed, greedy decoding gives back the text.

    Parameters
    ----------
    model : EncoderDecoder
    texts : n texts as token ids
    spans : the hidden spans of each text, with the same number of tokens in all texts
    decoding : Decoding
    batch_tokens, note : as in `EncoderDecoder.token_stats`
    progress : callable(n_texts_done), optional

    Raises
    ------
    ModelError
        As `measure_suffixes`.

    Source
    ------
    Carlini et al. 2022, "Quantifying Memorization Across Neural Language Models", the replication
    on T5: a text is memorized if the model fills in all its masked spans.
    """
    for ids in texts:
        check_rows(model.name, model.vocabulary, model.n_vocab, ids, "a window")
    found = model.measure(
        [model.infill(ids, own) for ids, own in zip(texts, spans, strict=True)],
        first_choices(model, decoding),
        batch_tokens=batch_tokens,
        progress=None if progress is None else lambda batch: progress(len(batch)),
        note=note,
    )
    m = sum(b - a for a, b in spans[0]) if len(spans) else 0
    first = np.array([own[:m] for own, _ in found], bool).reshape(-1, m)
    logprob = np.array([own[:m] for _, own in found], np.float32).reshape(-1, m)
    closed = np.array([own[m:].all() for own, _ in found], bool)
    return Infilled(Measured(first, logprob), closed)
