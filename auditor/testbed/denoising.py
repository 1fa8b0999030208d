"""Training examples of an encoder-decoder: texts with hidden spans, hidden anew at each step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from auditor.finetuning.rows import IGNORED
from auditor.models.sessions import padded
from auditor.models.span_corruption import Span, corrupt, short_spans


class Denoising:
    """A collator that hides spans of each row and asks for them, as T5 was trained.

    A third of the rows has short spans, a third one span of any length, and a third is hidden from
    a random place to its end. A random part of each row's end is left out first.

    Parameters
    ----------
    gaps : ids of the sentinels
    end : id of EOS, which ends the encoder's input and the decoder's answer
    seed : int

    Source
    ------
    Tay et al. 2022, "UL2: Unifying Language Learning Paradigms", section 3 (mixture of denoisers).
    """

    def __init__(self, gaps: Sequence[int], end: int, *, seed: int):
        self.gaps, self.end = list(gaps), end
        self.rng = np.random.default_rng([seed, 5])

    def __call__(self, rows: Sequence[NDArray[np.int32]]) -> dict[str, torch.Tensor]:
        """input_ids, attention_mask and labels of a batch, int64 (rows, longest)."""
        sources, answers = [], []
        for row in rows:
            ids = row[: self.rng.integers(-(-len(row) // 2), len(row) + 1)].tolist()
            shown, hidden = corrupt(ids, self._spans(len(ids)), self.gaps)
            sources.append([*shown, self.end])
            answers.append([*hidden, self.end])
        return {
            "input_ids": padded(sources),
            "attention_mask": padded([[1] * len(source) for source in sources]),
            "labels": padded([[i - IGNORED for i in answer] for answer in answers]) + IGNORED,
        }

    def _spans(self, n: int) -> list[Span]:
        way = self.rng.integers(3) if n >= 3 else 2
        if way == 0:
            return short_spans(n, self.rng)
        start, stop = sorted(self.rng.choice(n + 1, size=2, replace=False).tolist())
        return [(start, stop if way == 1 else n)]
