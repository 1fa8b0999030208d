"""Families of testbed models: how their tokenizer and network are built and trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from auditor.finetuning.masking import masking
from auditor.finetuning.rows import pad
from auditor.models.tiny_bert import build_bert, build_masked_tokenizer
from auditor.models.tiny_gpt2 import build_gpt2, build_tokenizer

Collate = Callable[[Sequence[np.ndarray]], dict[str, torch.Tensor]]


@dataclass(frozen=True)
class Family:
    """One family.

    tokenizer : callable(texts, n_vocab) -> tokenizer
    network : callable(tokenizer, n_layer, width, n_head, context, seed) -> untrained network
    collate : callable(tokenizer, seed) -> collator of batches
    epochs : factor of the epochs; a masked model learns from a part of the tokens of each row only
    """

    tokenizer: Callable[..., Any]
    network: Callable[..., Any]
    collate: Callable[[Any, int], Collate]
    epochs: int = 1


def _gpt2(tokenizer, **shape) -> Any:
    return build_gpt2(n_vocab=len(tokenizer), **shape)


def _bert(tokenizer, **shape) -> Any:
    return build_bert(n_vocab=len(tokenizer), pad_id=tokenizer.pad_token_id, **shape)


FAMILIES = {
    "gpt2": Family(build_tokenizer, _gpt2, lambda tokenizer, seed: pad),
    # With 40 % masked instead of 15 %, a short training also learns to fill long spans.
    "bert": Family(
        build_masked_tokenizer,
        _bert,
        lambda tokenizer, seed: masking(tokenizer, share=0.4, seed=seed),
        epochs=3,
    ),
}
