"""Checks of a network on a few tokens before a run.

A LanguageModel computes logits from hidden states and steps with a key-value cache. Both shortcuts
are compared with the network's full forward pass in float32, whatever the weights' dtype: bfloat16
rounding would hide differences of up to half a nat. Steps beyond a sliding window are checked when
a run needs them, in the model's dtype.
"""

from __future__ import annotations

from typing import Any

import torch

from auditor.errors import ModelError, in_short
from auditor.models.device import empty_cuda_cache, out_of_memory
from auditor.models.float32 import in_float32
from auditor.models.interfaces import WhiteBox
from auditor.models.library_calls import failing_with
from auditor.models.lm_head import not_finite, projected
from auditor.models.sessions import Session

_TOKENS = 6
# Tolerances, nats: the maximum in float32, the mean in lower precision.
_ALLOWED, _ALLOWED_ROUNDED = 1e-3, 0.1
_ROWS_COMPARED = 4096  # rows of the projection


class CannotRunError(ModelError):
    """The network cannot run on token ids alone, or not in this dtype."""


@torch.inference_mode()
def check_network(model: WhiteBox) -> None:
    """Refuse a network that is not causal or not finite; find out which shortcuts it supports.

    Sets `model.slow_because` and `model.cache_numbers`. If float32 does not fit into memory even
    one layer at a time, mean differences are compared in the model's dtype.
    """
    dtype = model.dtype
    if dtype == torch.float32:
        _check(model)
        return
    _logits_of(model, probe_ids(model))  # must also run in its own dtype
    try:
        with in_float32(model.network):
            model.dtype = torch.float32
            _check(model)
            return
    except (CannotRunError, MemoryError, RuntimeError) as error:
        if not (isinstance(error, CannotRunError) or out_of_memory(error)):
            raise
    finally:
        model.dtype = dtype
    empty_cuda_cache()
    model.slow_because.clear()
    _check(model)


def is_spread(network: Any) -> bool:
    """Whether the layers of a network are on several devices."""
    return len(set(map(str, getattr(network, "hf_device_map", {}).values()))) > 1


def _check(model: WhiteBox) -> None:
    logits = _check_probabilities(model)
    if is_spread(model.network):
        model.slow_because |= dict.fromkeys(("head", "steps"), "its layers are on several devices")
        return
    if why := _why_not_projected(model, logits):
        model.slow_because["head"] = why
    check_steps(model, length=5)


def probe_ids(model: WhiteBox) -> torch.Tensor:
    """Different non-special tokens from the middle of the vocabulary, (1, time)."""
    n = min(_TOKENS, model.context or _TOKENS)
    first = n_rows(model) // 2
    return (torch.arange(n, device=model.device)[None] + first) % n_rows(model)


def n_rows(model: WhiteBox) -> int:
    """Number of token embeddings."""
    return model.network.get_input_embeddings().weight.shape[0]


@torch.inference_mode()
def check_steps(model: WhiteBox, length: int) -> None:
    """Compare cached steps of two texts, the longer of `length` tokens, with one full pass.

    Sets `model.slow_because["steps"]` if they differ; otherwise `model.cache_numbers`, the numbers
    cached per token.
    """
    length = min(length, model.context or length)
    if length < 5:
        model.slow_because["steps"] = "its context is too short to check a key-value cache"
        return
    n = n_rows(model)
    texts = [
        [(n // 2 + i + by) % n for i in range(size)] for by, size in ((3, length), (0, length - 2))
    ]
    try:
        # Capacity above the length, as in a run, but within the sliding window.
        own = model.limits.own_window or length + 64
        session = Session(model, 2, max(length, min(own, length + 64)))
        session.prefill([0, 1], [text[:-2] for text in texts])
        for i in (-2, -1):
            stepped = session.step(torch.tensor([text[i] for text in texts], device=model.device))
        full = [model.hidden_states(torch.tensor([t], device=model.device))[0, -1] for t in texts]
        off = _distance(model, _logits(model, torch.stack(full)), _logits(model, stepped))
    except Exception as error:
        if out_of_memory(error):
            raise
        model.slow_because["steps"] = (
            f"its cache does not consist of keys and values alone ({in_short(error)})"
        )
        return
    if off <= _allowed(model):
        model.cache_numbers = session.cache.numbers_per_token()
    else:
        model.slow_because["steps"] = f"a key-value cache changes its results by {off:.3g} nats"


def _logits_of(model: WhiteBox, ids: torch.Tensor) -> torch.Tensor:
    """The network's logits of a text (1, time), checked to be finite: float64 (time, vocab)."""
    with failing_with(
        lambda why: (
            f"{model.name} ({model.config.model_type}) cannot run on token ids alone ({why}). Use "
            "a causal language model of text."
        ),
        CannotRunError,
    ):
        logits = model.network(input_ids=ids, use_cache=False).logits[0].double()
    if not logits.isfinite().all():
        raise ModelError(not_finite(model.name, model.dtype))
    return logits


def _check_probabilities(model: WhiteBox) -> torch.Tensor:
    """Refuse a network that is not causal; return its logits of `probe_ids` (time, vocab)."""
    ids = probe_ids(model)
    n_same = ids.shape[1] // 2
    other = ids.clone()
    other[:, n_same:] = (ids[:, n_same:] + 1) % n_rows(model)
    first, second, alone = (_logits_of(model, i) for i in (ids, other, ids[:, :n_same]))
    off = max(_distance(model, first[:n_same], later) for later in (second[:n_same], alone))
    if not off <= _allowed(model):
        raise ModelError(
            f"{model.name} ({model.config.model_type}) is not a causal language model: later "
            f"tokens change the probability of a token by {off:.3g} nats. Use a model such as "
            "GPT-2, Llama or Pythia."
        )
    return first


def _why_not_projected(model: WhiteBox, logits: torch.Tensor) -> str | None:
    """Why the logits of `probe_ids` are not a projection of the hidden states; None if they are.

    Compares some thousand tokens of the vocabulary, up to a constant per row, which changes no
    probability.
    """
    outer = model.network.get_output_embeddings()
    if outer is None or not hasattr(outer, "weight"):
        return "its output projection is not a single matrix"
    try:
        hidden = model.hidden_states(probe_ids(model))[0]
        some = torch.arange(0, len(outer.weight), -(-len(outer.weight) // _ROWS_COMPARED))
        some = some.to(model.device)
        apart = logits[:, some] - projected(hidden, outer, some).double()
        off = (apart - apart.mean(dim=1, keepdim=True)).abs()
    except Exception as error:
        if out_of_memory(error):
            raise
        return f"its output projection cannot be run separately ({in_short(error)})"
    if float(off.max() if model.dtype == torch.float32 else off.mean()) <= _allowed(model):
        return None
    return f"its logits are more than a projection: scaled or capped ({float(off.max()):.3g} off)"


def _logits(model: WhiteBox, hidden: torch.Tensor) -> torch.Tensor:
    if "head" in model.slow_because:
        return hidden.double()
    return projected(hidden, model.network.get_output_embeddings()).double()


def _distance(model: WhiteBox, one: torch.Tensor, other: torch.Tensor) -> float:
    """Distance of log-probabilities: the maximum in float32, the mean in lower precision."""
    apart = (one.log_softmax(-1) - other.log_softmax(-1)).abs()
    return float(apart.max() if model.dtype == torch.float32 else apart.mean(-1).max())


def _allowed(model: WhiteBox) -> float:
    return _ALLOWED if model.dtype == torch.float32 else _ALLOWED_ROUNDED
