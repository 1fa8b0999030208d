"""Batches for training masked models: random tokens are masked and must be restored."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from auditor.finetuning.rows import IGNORED, pad


def masking(
    tokenizer, *, share: float = 0.15, seed: int = 0
) -> Callable[[Sequence[NDArray[np.int32]]], dict[str, torch.Tensor]]:
    """A collator that masks other tokens whenever a row is used.

    Parameters
    ----------
    tokenizer : of the masked model; its special tokens are never masked
    share : of the tokens, at least one per row
    seed : int

    Returns
    -------
    callable(rows) -> input_ids, attention_mask and labels, int64 (rows, longest); labels are -100
    except at masked tokens

    Source
    ------
    Devlin et al. 2019, "BERT", section 3.1; here all chosen tokens become the mask, as that is what
    the scores ask for (BERT leaves 10 % and replaces 10 % by random tokens).
    """
    rng = np.random.default_rng([seed, 3])
    special = torch.tensor(tokenizer.all_special_ids)

    def collate(rows: Sequence[NDArray[np.int32]]) -> dict[str, torch.Tensor]:
        batch = pad(rows)
        ids, labels = batch["input_ids"], batch["labels"]
        is_text = (labels != IGNORED) & ~torch.isin(ids, special)
        draws = torch.from_numpy(rng.random(ids.shape)).masked_fill(~is_text, 2.0)
        chosen = (draws < share) | (draws == draws.amin(dim=1, keepdim=True))
        chosen &= is_text
        attended = (labels != IGNORED).long()
        padded = ids.masked_fill(labels == IGNORED, tokenizer.pad_token_id)
        return {
            "input_ids": padded.masked_fill(chosen, tokenizer.mask_token_id),
            "attention_mask": attended,
            "labels": labels.masked_fill(~chosen, IGNORED),
        }

    return collate
