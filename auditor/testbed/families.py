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
from auditor.models.tiny_t5 import SENTINELS, build_t5, build_t5_tokenizer
from auditor.testbed.denoising import Denoising

# Tokens of the windows that `auditor extract` uses by default: 50 shown, 50 hidden.
_T5_WINDOW = 100
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


def _t5(tokenizer, **shape) -> Any:
    return build_t5(n_vocab=len(tokenizer), **shape)


def _hiding(tokenizer, seed: int) -> Collate:
    """Batches of rows with hidden spans; the rows lose the EOS that `encode_rows` adds."""
    gaps = tokenizer.convert_tokens_to_ids([f"<extra_id_{i}>" for i in range(SENTINELS)])
    hide = Denoising(gaps, tokenizer.eos_token_id, width=_T5_WINDOW, seed=seed)
    return lambda rows: hide([row[row != tokenizer.eos_token_id] for row in rows])


FAMILIES = {
    "gpt2": Family(build_tokenizer, _gpt2, lambda tokenizer, seed: pad),
    # With 40 % masked instead of 15 %, a short training also learns to fill long spans.
    "bert": Family(
        build_masked_tokenizer,
        _bert,
        lambda tokenizer, seed: masking(tokenizer, share=0.4, seed=seed),
        epochs=3,
    ),
    # Each task of a T5 gets only a share of the rows, so it needs more epochs.
    "t5": Family(build_t5_tokenizer, _t5, _hiding, epochs=3),
}
