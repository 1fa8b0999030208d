"""CPU attention that is faster than the fused kernel as transformers calls it.

For single-token queries, the fused kernel has a fixed cost per (sequence, head) pair; two matrix
products over a contiguous cache are up to three times as fast. For whole texts in bfloat16 on a CPU
with AMX, lengths are padded to whole tiles.
"""

from __future__ import annotations

import math

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from auditor.models.device import has_tiles

_NAME = "auditor"
_TILE = 16  # rows


def use_slot_attention(network) -> None:
    """Make a network with `sdpa` attention use `slot_attention`."""
    if network.config._attn_implementation != "sdpa":
        return
    AttentionInterface.register(_NAME, slot_attention)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    try:
        network.set_attn_implementation(_NAME)
    except (ValueError, AttributeError):
        # The network looks attention up in its own registry.
        network.set_attn_implementation("sdpa")


def slot_attention(module, query, key, value, attention_mask, scaling=None, **kwargs):
    """Attention function for transformers; falls back to the fused kernel.

    `query` (batch, heads, time, head_dim); `key` and `value` (batch, key-value heads, keys,
    head_dim); `attention_mask` additive (batch, 1, time, keys) or None. Returns (batch, time,
    heads, head_dim), and None for the weights.
    """
    is_plain = kwargs.get("softcap") is None and kwargs.get("s_aux") is None
    if is_plain and attention_mask is None and _is_whole(module, query, key, kwargs):
        return tiled_attention(query, key, value, scaling), None
    single = query.shape[2] == 1 and query.device.type == "cpu" and attention_mask is not None
    if not (single and is_plain and key.is_contiguous() and value.is_contiguous()):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    batch, heads, _, width = query.shape
    groups = key.shape[1]
    scale = width**-0.5 if scaling is None else scaling
    ahead = _exact(scale)
    # Group the heads that share keys: (batch, key-value heads, heads per group, head_dim).
    grouped = query.reshape(batch, groups, heads // groups, width) * ahead
    # keys @ query is faster than query @ keys.T.
    weights = torch.matmul(key, grouped.transpose(2, 3)).transpose(2, 3)
    if ahead != scale:
        weights = weights.float().mul_(scale)
    # The softmax kernel accumulates in float32 for every dtype.
    weights = weights.add_(attention_mask).softmax(dim=-1).to(value.dtype)
    return torch.matmul(weights, value).reshape(batch, 1, heads, value.shape[3]), None


def _exact(scale: float) -> float:
    """The scale if it is a power of two (exact in floating point), else 1."""
    return scale if math.frexp(scale)[0] == 0.5 else 1.0


def _is_whole(module, query, key, kwargs) -> bool:
    """Whether this is causal bfloat16 attention over whole texts, with AMX and no shared keys."""
    causal = kwargs.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    fast = query.device.type == "cpu" and query.dtype == torch.bfloat16 and has_tiles()
    return bool(causal) and fast and query.shape == key.shape and query.shape[2] > 1


def tiled_attention(query, key, value, scaling: float | None = None) -> torch.Tensor:
    """Causal attention by the fused kernel, with `time` padded to a whole number of tiles.

    The kernel is slow for partial tiles. The causal mask hides the padding. Inputs are (batch,
    heads, time, head_dim), the output (batch, time, heads, head_dim). Without `scaling`, it is
    1 / sqrt(head_dim).
    """
    time = query.shape[2]
    if time % _TILE:
        query, key, value = (_whole_tiles(x) for x in (query, key, value))
    out = scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling)
    return out[:, :, :time].transpose(1, 2).contiguous()


def _whole_tiles(x: torch.Tensor) -> torch.Tensor:
    batch, heads, time, width = x.shape
    out = x.new_empty((batch, heads, time + -time % _TILE, width))
    out[:, :, :time] = x
    out[:, :, time:] = 0
    return out
