"""Length limits of a model: context, attention windows, LongRoPE switch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

# Config keys of the maximum sequence length.
_CONTEXT = ("max_position_embeddings", "n_positions", "max_seq_len", "max_target_positions")
# Config keys of attention windows, which mask but do not bound a sequence.
_WINDOWS = ("sliding_window", "attention_chunk_size")
# The same, for layers that crop their cache to the window.
_OWN_WINDOWS = ("window_size", "attention_window_size")


@dataclass(frozen=True)
class Limits:
    """Lengths, in tokens, at which a model's behaviour changes.

    context : int or None
        Maximum sequence length; None without a limit.
    windows : tuple of int
        Sizes of sliding or chunked attention windows.
    own_window : int or None
        Shortest window of layers that ignore the mask; the slot cache is valid within it.
    rope_switch : int or None
        Longer sequences use other rotary factors at every position (LongRoPE).
    """

    context: int | None
    windows: tuple[int, ...] = ()
    own_window: int | None = None
    rope_switch: int | None = None


def limits_of(config: Any, network: nn.Module | None = None) -> Limits:
    """Limits from a text config and, if a network is given, from its position embeddings."""
    limits = [value for name in _CONTEXT if (value := _positive(config, name)) is not None]
    if network is not None:
        # ProphetNet also embeds the position after the text.
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
    """Usable rows of position embeddings that reserve the first rows for padding (RoBERTa)."""
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
    # Either one entry for all layers, or one per layer type.
    kinds = [given, *(value for value in given.values() if isinstance(value, dict))]
    found = [
        int(kind.get("original_max_position_embeddings") or context or 0)
        for kind in kinds
        if kind.get("rope_type") == "longrope"
    ]
    return min((n for n in found if n > 0), default=None)
