"""What a network is, found out on a few tokens before it is trusted with a run.

The projection and the key-value cache of a LanguageModel are shortcuts. Each is compared with what
the network itself says, in float32 whatever format the weights have: rounding to bfloat16 would
hide differences of up to half a nat.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch

from auditor.errors import ModelError, in_short
from auditor.language_models.float32 import in_float32
from auditor.language_models.head import not_finite, projected
from auditor.language_models.machine import out_of_memory
from auditor.language_models.sessions import Session

if TYPE_CHECKING:
    from auditor.language_models.causal import LanguageModel

_TOKENS = 6
# Nats by which two ways to the same number may differ: in float32, and in fewer bits on average.
_ALLOWED, _ALLOWED_ROUNDED = 1e-3, 0.1


@torch.inference_mode()
def check_network(model: LanguageModel) -> None:
    """Refuse a network that is not causal or gives no numbers; find out which shortcuts fit it.

    Sets `model.slow_because` and `model.cache_numbers`.

    Raises
    ------
    ModelError
        If the network cannot be run on token ids, gives numbers that are not finite, or lets a
        token change the probabilities of those before it.
    """
    dtype = model.dtype
    is_exact = dtype == torch.float32 or _runs_in_float32(model)
    with in_float32(model.network) if is_exact and dtype != torch.float32 else nullcontext():
        model.dtype = torch.float32 if is_exact else dtype
        try:
            _check_probabilities(model)
            if why := _why_not_projected(model):
                model.slow_because["head"] = why
            check_steps(model, length=5)
        finally:
            model.dtype = dtype
    if is_exact and dtype != torch.float32:
        _logits_of(model, probe_ids(model))  # the format that it will work in


def probe_ids(model: LanguageModel) -> torch.Tensor:
    """A few different tokens from the middle of the vocabulary, no special ones, (1, time)."""
    n = min(_TOKENS, model.context or _TOKENS)
    first = n_rows(model) // 2
    return (torch.arange(n, device=model.device)[None] + first) % n_rows(model)


def n_rows(model: LanguageModel) -> int:
    """How many tokens the network has embeddings for."""
    return model.network.get_input_embeddings().weight.shape[0]


@torch.inference_mode()
def check_steps(model: LanguageModel, length: int) -> None:
    """Two texts stepped side by side, one of `length` tokens, must give what one pass gives.

    Where they do not, `model.slow_because["steps"]` says so; where they do, `model.cache_numbers`
    is how many numbers the cache keeps of a token.
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
        session = Session(model, 2, length)
        session.prefill([0, 1], [text[:-2] for text in texts])
        for i in (-2, -1):
            stepped = session.step(torch.tensor([text[i] for text in texts], device=model.device))
        whole = [model.hidden_states(torch.tensor([t], device=model.device))[0, -1] for t in texts]
        off = _distance(model, _logits(model, torch.stack(whole)), _logits(model, stepped))
    except Exception as error:
        if out_of_memory(error):
            raise
        model.slow_because["steps"] = (
            f"its cache is not of keys and values alone ({in_short(error)})"
        )
        return
    if not off <= _allowed(model):
        model.slow_because["steps"] = (
            f"a key-value cache gives other numbers, off by {off:.3g} nats"
        )
        return
    model.cache_numbers = session.numbers_per_token()


def _runs_in_float32(model: LanguageModel) -> bool:
    try:
        with in_float32(model.network):
            model.network(input_ids=probe_ids(model), use_cache=False)
    except Exception as error:
        if out_of_memory(error):
            raise
        return False
    return True


def _logits_of(model: LanguageModel, ids: torch.Tensor) -> torch.Tensor:
    """The network's own logits of a text (1, time): finite numbers, float64 (time, vocab)."""
    try:
        logits = model.network(input_ids=ids, use_cache=False).logits[0].double()
    except Exception as error:
        if out_of_memory(error):
            raise
        raise ModelError(
            f"{model.name} ({model.config.model_type}) cannot be run on the ids of tokens alone "
            f"({in_short(error)}). Use a causal language model of text."
        ) from None
    if not logits.isfinite().all():
        raise ModelError(not_finite(model.name, model.dtype))
    return logits


def _check_probabilities(model: LanguageModel) -> None:
    ids = probe_ids(model)
    n_same = ids.shape[1] // 2
    other = ids.clone()
    other[:, n_same:] = (ids[:, n_same:] + 1) % n_rows(model)
    first, second, alone = (_logits_of(model, i) for i in (ids, other, ids[:, :n_same]))
    off = max(_distance(model, first[:n_same], later) for later in (second[:n_same], alone))
    if not off <= _allowed(model):
        raise ModelError(
            f"{model.name} ({model.config.model_type}) is not a causal language model: what "
            f"follows a token changes its probability, by {off:.3g} nats. Use a model that reads "
            "from left to right, such as GPT-2, Llama or Pythia."
        )


def _why_not_projected(model: LanguageModel) -> str | None:
    """Why the logits are not a projection of the trunk's output; None where they are."""
    outer, ids = model.network.get_output_embeddings(), probe_ids(model)
    if outer is None or not hasattr(outer, "weight"):
        return "it has no projection of one matrix"
    try:
        apart = projected(model.hidden_states(ids)[0], outer).double()
        whole = model.network(input_ids=ids, use_cache=False).logits[0].double()
        off = _distance(model, whole, apart)
    except Exception as error:
        if out_of_memory(error):
            raise
        return f"its projection cannot be asked by itself ({in_short(error)})"
    if off <= _allowed(model):
        return None
    return (
        f"its logits are more than a projection (scaled, capped or adapted: off by {off:.3g} nats)"
    )


def _logits(model: LanguageModel, hidden: torch.Tensor) -> torch.Tensor:
    if "head" in model.slow_because:
        return hidden.double()
    return projected(hidden, model.network.get_output_embeddings()).double()


def _distance(model: LanguageModel, one: torch.Tensor, other: torch.Tensor) -> float:
    """How far logits are apart as log-probabilities: the most, or in fewer bits the mean."""
    apart = (one.log_softmax(-1) - other.log_softmax(-1)).abs()
    return float(apart.max() if model.dtype == torch.float32 else apart.mean(-1).max())


def _allowed(model: LanguageModel) -> float:
    return _ALLOWED if model.dtype == torch.float32 else _ALLOWED_ROUNDED
