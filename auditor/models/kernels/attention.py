"""Attention on a CPU by faster ways than the fused kernel as transformers calls it.

One query a sequence, hundreds of sequences: the fused kernel pays for every (sequence, head) pair
once more, and two plain products over a contiguous cache are up to three times as fast. Whole texts
in bfloat16 on a processor that multiplies tiles (AMX): the kernel is given texts of whole tiles.
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
    """Let a network that attends by `sdpa` take the way below for single queries on a CPU."""
    if network.config._attn_implementation != "sdpa":
        return
    AttentionInterface.register(_NAME, slot_attention)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    try:
        network.set_attn_implementation(_NAME)
    except (ValueError, AttributeError):
        # A network that looks its attention up in a list of its own.
        network.set_attn_implementation("sdpa")


def slot_attention(module, query, key, value, attention_mask, scaling=None, **kwargs):
    """Attention as transformers calls it; the fused kernel where neither way above is for it.

    Parameters
    ----------
    query : tensor (batch, heads, time, head_dim)
    key, value : tensor (batch, key-value heads, room, head_dim)
    attention_mask : additive tensor (batch, 1, time, room), or None

    Returns
    -------
    tensor (batch, time, heads, head_dim), and None for the weights.
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
    # Heads that share keys stand together: (batch, key-value heads, heads a group, head_dim).
    grouped = query.reshape(batch, groups, heads // groups, width) * ahead
    # Keys times a query, as columns: faster than a query times keys.
    weights = torch.matmul(key, grouped.transpose(2, 3)).transpose(2, 3)
    if ahead != scale:
        weights = weights.float().mul_(scale)
    # Summed in float32 by the kernel, whatever the format.
    weights = weights.add_(attention_mask).softmax(dim=-1).to(value.dtype)
    return torch.matmul(weights, value).reshape(batch, 1, heads, value.shape[3]), None


def _exact(scale: float) -> float:
    """The scale if it is a power of two, which changes no digit of a query, else 1."""
    return scale if math.frexp(scale)[0] == 0.5 else 1.0


def _is_whole(module, query, key, kwargs) -> bool:
    """Whole texts under a causal mask, in bfloat16 on a CPU with tiles; no heads share keys."""
    causal = kwargs.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    fast = query.device.type == "cpu" and query.dtype == torch.bfloat16 and has_tiles()
    return bool(causal) and fast and query.shape == key.shape and query.shape[2] > 1


def tiled_attention(query, key, value, scaling: float | None = None) -> torch.Tensor:
    """Every token of a text attends to itself and to those before it, by the fused kernel.

    That kernel is slow where a text ends within a tile. Zeros are put after such a text: under a
    causal mask none of its tokens sees them.

    Parameters
    ----------
    query, key, value : tensor (batch, heads, time, head_dim)
    scaling : float, or None for 1 / sqrt(head_dim)

    Returns
    -------
    tensor (batch, time, heads, head_dim)
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
