"""What bounds the sequences of a model: its context, its attention windows, its rotary switch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

# Settings that name the most tokens of a sequence.
_CONTEXT = ("max_position_embeddings", "n_positions", "max_seq_len", "max_target_positions")
# Settings that name how far a layer looks back. They mask; they do not bound a sequence.
_WINDOWS = ("sliding_window", "attention_chunk_size")
# The same, of layers that count positions from the end of the cache by themselves.
_OWN_WINDOWS = ("window_size", "attention_window_size")


@dataclass(frozen=True)
class Limits:
    """Lengths, in tokens, at which a model changes what it does.

    context : int or None
        The most tokens that can be fed at once; None without a limit.
    windows : tuple of int
        How far the layers with sliding windows or chunks look back.
    own_window : int or None
        The shortest window of layers that no mask reaches: within it their cache can be kept here.
    rope_switch : int or None
        Sequences longer than this get other rotary factors in every position (LongRoPE).
    """

    context: int | None
    windows: tuple[int, ...] = ()
    own_window: int | None = None
    rope_switch: int | None = None


def limits_of(config: Any, network: nn.Module | None = None) -> Limits:
    """The limits that a text config names; with its network, also those of its position table."""
    limits = [value for name in _CONTEXT if (value := _positive(config, name)) is not None]
    if network is not None:
        # ProphetNet looks up the position after a text too.
        limits += [rows - (getattr(config, "ngram", 0) > 0) for rows in _tables(network)]
    own = [value for name in _OWN_WINDOWS if (value := _positive(config, name)) is not None]
    masked = {value for name in _WINDOWS if (value := _positive(config, name)) is not None}
    context = min(limits, default=None)
    return Limits(
        context=context,
        windows=tuple(sorted(masked)),
        own_window=min(own, default=None),
        rope_switch=_rope_switch(config, context),
    )


def _positive(config: Any, name: str) -> int | None:
    value = getattr(config, name, None)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _tables(network: nn.Module) -> list[int]:
    """Lengths of learned position tables whose first rows stand for padding (RoBERTa's way)."""
    return [
        module.num_embeddings - module.padding_idx - 1
        for name, module in network.named_modules()
        if name.endswith("position_embeddings")
        and isinstance(module, nn.Embedding)
        and module.padding_idx is not None
    ]


def _rope_switch(config: Any, context: int | None) -> int | None:
    given = getattr(config, "rope_parameters", None)
    if not isinstance(given, dict):
        return None
    # One setting for all layers, or one for each kind of layer.
    kinds = [given, *(value for value in given.values() if isinstance(value, dict))]
    found = [
        int(kind.get("original_max_position_embeddings") or context or 0)
        for kind in kinds
        if kind.get("rope_type") == "longrope"
    ]
    return min((n for n in found if n > 0), default=None)
