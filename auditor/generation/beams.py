"""Beam search, by way of transformers; its tokens are then judged like any given text."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch

from auditor.config import Decoding
from auditor.generation.engine import Drawn

_BATCH = 16


@torch.inference_mode()
def beam_search(
    model,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    progress: Callable[[int], None] | None = None,
) -> Drawn:
    """The best of `decoding.beams` beams for each prompt.

    Nothing is random here: the same prompt gives the same text, so from BOS alone every sample is
    the same. Give prompts that differ.
    """
    n, most = len(prompts), decoding.max_new_tokens
    ids, length = np.zeros((n, most), np.int32), np.zeros(n, np.int32)
    eos = model.vocabulary.eos_id if decoding.stop_at_eos else None
    for at in range(0, n, _BATCH):
        for row, tokens in enumerate(_beams(model, prompts[at : at + _BATCH], decoding, eos), at):
            ids[row, : len(tokens)], length[row] = tokens, len(tokens)
        if progress is not None:
            progress(int(length[at : at + _BATCH].sum()))
    stats = model.token_stats([ids[i, : length[i]].tolist() for i in range(n)], prompts)
    logprob, rank = np.zeros((n, most), np.float32), np.zeros((n, most), np.int32)
    for i in range(n):
        own = slice(stats.offsets[i], stats.offsets[i + 1])
        logprob[i, : length[i]], rank[i, : length[i]] = stats.logprob[own], stats.rank[own]
    last = ids[np.arange(n), np.maximum(length - 1, 0)]
    ended = (length > 0) & (last == eos) if eos is not None else np.zeros(n, bool)
    return Drawn(ids, logprob, rank, length, ended)


def _beams(model, prompts, decoding: Decoding, eos: int | None) -> list[list[int]]:
    width = max(map(len, prompts))
    pad = model.vocabulary.eos_id or 0
    ids = torch.full((len(prompts), width), pad, dtype=torch.long)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = model.network.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            num_beams=decoding.beams,
            do_sample=False,
            max_new_tokens=decoding.max_new_tokens,
            min_new_tokens=None if eos is not None else decoding.max_new_tokens,
            repetition_penalty=decoding.repetition_penalty,
            eos_token_id=eos,
            pad_token_id=pad,
        )
    rows = []
    for tokens in out[:, width:].tolist():
        end = tokens.index(eos) + 1 if eos is not None and eos in tokens else len(tokens)
        rows.append(tokens[:end])
    return rows
