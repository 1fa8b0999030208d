"""Training examples of an encoder-decoder: texts with hidden spans."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from auditor.finetuning.rows import IGNORED
from auditor.models.sessions import padded
from auditor.models.span_corruption import Span, corrupt, long_span, random_of, short_spans

_MOST_SHOWN = 32  # tokens before a continuation


class Denoising:
    """A collator that hides spans of each row and asks for them.

    A third of the rows has short spans, and a third one long span. These are the spans that
    `auditor extract` hides in the first `width` tokens, so that each copy of a text is hidden in
    the same ways; rows shorter than that have none. A third is continued to its end, half of
    them from their first tokens and half from nothing, as samples are.

    Parameters
    ----------
    gaps : ids of the sentinels
    end : id of EOS, which ends the encoder's input and the decoder's answer
    width : tokens shown and hidden, half of them in the long span
    seed : int

    Source
    ------
    Tay et al. 2022, "UL2: Unifying Language Learning Paradigms", section 3 (mixture of denoisers).
    """

    def __init__(self, gaps: Sequence[int], end: int, *, width: int, seed: int):
        self.gaps, self.end, self.width = list(gaps), end, width
        self.rng = np.random.default_rng([seed, 5])

    def __call__(self, rows: Sequence[NDArray[np.int32]]) -> dict[str, torch.Tensor]:
        """input_ids, attention_mask and labels of a batch, int64 (rows, longest)."""
        sources, answers = [], []
        for row in rows:
            shown, hidden = corrupt(*self._hidden(row.tolist()), self.gaps)
            sources.append([*shown, self.end])
            answers.append([*hidden, self.end])
        return {
            "input_ids": padded(sources),
            "attention_mask": padded([[1] * len(source) for source in sources]),
            "labels": padded([[i - IGNORED for i in answer] for answer in answers]) + IGNORED,
        }

    def _hidden(self, ids: list[int]) -> tuple[list[int], list[Span]]:
        """The text of a row and its hidden spans."""
        way = self.rng.integers(3) if len(ids) >= self.width else 2
        window = ids[: self.width]
        if way == 0:
            return window, short_spans(self.width, random_of(window, 0))
        if way == 1:
            return window, long_span(self.width, self.width // 2)
        n_shown = self.rng.integers(2) * self.rng.integers(min(_MOST_SHOWN, len(ids)))
        return ids, [(int(n_shown), len(ids))]
