"""Beam search with transformers; the results are then scored like given texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from auditor.config.audit import Decoding
from auditor.models.device import retry_with_smaller_batch
from auditor.models.interfaces import Samples
from auditor.models.language_model import LanguageModel
from auditor.models.library_calls import failing_with, quiet
from auditor.sampling.engine import check_prompts

_BATCH = 16


@torch.inference_mode()
def beam_search(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    progress: Callable[[int], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> Samples:
    """The best of `decoding.beams` beams for each prompt.

    Beam search is deterministic: equal prompts (such as BOS alone) give equal samples. When memory
    runs out, the batch is halved and `note` is called.
    """
    check_prompts(model, prompts, decoding)
    n, most = len(prompts), decoding.max_new_tokens
    ids, length = np.zeros((n, most), np.int32), np.zeros(n, np.int32)
    eos = model.vocabulary.eos_id if decoding.stop_at_eos else None
    for rows in _batches(prompts):
        found = retry_with_smaller_batch(
            lambda some: _beams(model, some, decoding, eos),
            [prompts[i] for i in rows],
            too_large=f"{model.name}: {decoding.beams} beams of {most} new tokens do not fit into "
            "memory. Lower --beams or --max-new-tokens, or use a machine with more memory.",
            note=note,
        )
        for row, tokens in zip(rows, found, strict=True):
            ids[row, : len(tokens)], length[row] = tokens, len(tokens)
        if progress is not None:
            progress(int(length[rows].sum()))
    stats = model.token_stats([ids[i, : length[i]].tolist() for i in range(n)], prompts, note=note)
    logprob, rank = np.zeros((n, most), np.float32), np.zeros((n, most), np.int32)
    for i in range(n):
        own = slice(stats.offsets[i], stats.offsets[i + 1])
        logprob[i, : length[i]], rank[i, : length[i]] = stats.logprob[own], stats.rank[own]
    last = ids[np.arange(n), np.maximum(length - 1, 0)]
    ended = (length > 0) & (last == eos) if eos is not None else np.zeros(n, bool)
    return Samples(ids, logprob, rank, length, ended)


def _batches(prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Batches of equally long prompts: a repetition penalty would count padding as text."""
    by_length: dict[int, list[int]] = {}
    for i, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt), []).append(i)
    return [
        same[at : at + _BATCH] for same in by_length.values() for at in range(0, len(same), _BATCH)
    ]


def _beams(model: LanguageModel, prompts, decoding: Decoding, eos: int | None) -> list[list[int]]:
    ids = torch.tensor(prompts, dtype=torch.long, device=model.device)
    pad = model.vocabulary.eos_id or 0
    with (
        quiet(),
        _default_settings(model.network),
        failing_with(
            lambda why: (
                f"{model.name}: transformers does not support beam search with this model ({why}). "
                "Leave out --beams."
            )
        ),
    ):
        out = model.network.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            num_beams=decoding.beams,
            do_sample=False,
            max_new_tokens=decoding.max_new_tokens,
            repetition_penalty=decoding.repetition_penalty,
            eos_token_id=eos,
            pad_token_id=pad,
            # Only plain key-value caches can be reordered between beams.
            use_cache="steps" not in model.slow_because,
        )
    rows = []
    for tokens in out[:, ids.shape[1] :].tolist():
        end = tokens.index(eos) + 1 if eos is not None and eos in tokens else len(tokens)
        rows.append(tokens[:end])
    return rows


@contextmanager
def _default_settings(network) -> Iterator[None]:
    """Ignore the model's generation_config (penalties, banned tokens)."""
    original = network.generation_config
    network.generation_config = type(original)()
    try:
        yield
    finally:
        network.generation_config = original
