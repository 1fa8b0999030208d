"""Many continuations of one prompt, judged by a network that is fed the prompt once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import log_softmax
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from auditor.models.device import out_of_memory
from auditor.models.language_model import buckets
from auditor.models.sessions import padded


def continuation_logprob(
    forward: Callable,
    prompt: Sequence[int],
    rests: Sequence[Sequence[int]],
    *,
    batch_tokens: int,
    device: torch.device,
    rope_switch: int | None = None,
) -> NDArray[np.float64]:
    """Total log-probability of each continuation after the prompt, nats (n_rests,).

    Parameters
    ----------
    forward : the call of a causal model of transformers
        In evaluation mode and without gradients.
    prompt : token ids, 1 or more
    rests : token ids of each continuation, 1 or more
    batch_tokens : int
        Tokens whose logits are made at once.
    device : where the model is
    rope_switch : int or None
        The length beyond which the model takes other rotary factors (`limits_of`).
    """
    longest = len(prompt) + max(map(len, rests), default=0)
    crosses = rope_switch is not None and longest > rope_switch
    kept = _fed(forward, prompt[:-1], device) if len(prompt) > 1 and not crosses else None
    lead = list(prompt if kept is None else prompt[-1:])
    lengths = np.array([len(lead) + len(rest) for rest in rests])
    out = np.zeros(len(rests))
    for batch in buckets(lengths, batch_tokens, rope_switch if kept is None else None):
        rows = [lead + list(rests[i]) for i in batch]
        ids = padded(rows).to(device)
        given = {"use_cache": False}
        if kept is not None:
            cache = copy.deepcopy(kept)
            cache.batch_repeat_interleave(len(rows))
            given = {"use_cache": True, "past_key_values": cache}
        # The last token is judged and not needed, unless rotary factors go by the whole length.
        fed = ids[:, :-1] if rope_switch is None else ids
        logits = forward(input_ids=fed, **given).logits[:, len(lead) - 1 : ids.shape[1] - 1].float()
        nats = log_softmax(logits, dim=-1).gather(2, ids[:, len(lead) :, None])[:, :, 0]
        for i, row, own in zip(batch, rows, nats.double(), strict=True):
            out[i] = own[: len(row) - len(lead)].sum().item()
    return out


def _fed(forward: Callable, prompt: Sequence[int], device: torch.device):
    """What a model keeps of a prompt for its continuations: keys and values, or None.

    Other kinds of state (of recurrent or convolutional layers) are not shared between rows.
    """
    ids = torch.tensor([list(prompt)], device=device)
    try:
        kept = getattr(forward(input_ids=ids, use_cache=True), "past_key_values", None)
    except Exception as error:
        if out_of_memory(error):
            raise
        return None
    is_plain = type(kept) is DynamicCache and all(
        type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in kept.layers
    )
    return kept if is_plain else None
