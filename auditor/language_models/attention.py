"""Attention for one query a sequence, as two batched products over a contiguous cache.

On a CPU the fused kernel that serves prompts well pays for every (sequence, head) pair once more;
with hundreds of sequences in flight and one query each, two plain products are up to three times
as fast, provided that keys and values are contiguous.
"""

from __future__ import annotations

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

_NAME = "auditor"


def use_slot_attention(network) -> None:
    """Let a network that attends by `sdpa` take the way below for single queries on a CPU."""
    if network.config._attn_implementation != "sdpa":
        return
    AttentionInterface.register(_NAME, slot_attention)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    network.set_attn_implementation(_NAME)


def slot_attention(module, query, key, value, attention_mask, scaling=None, **kwargs):
    """Attention as transformers calls it; the fused kernel for all but single masked queries.

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
    single = query.shape[2] == 1 and query.device.type == "cpu" and attention_mask is not None
    if not (single and is_plain and key.is_contiguous() and value.is_contiguous()):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    batch, heads, _, width = query.shape
    groups = key.shape[1]
    scale = width**-0.5 if scaling is None else scaling
    # Heads that share keys stand together: (batch, key-value heads, heads a group, head_dim).
    grouped = query.reshape(batch, groups, heads // groups, width)
    weights = torch.matmul(grouped, key.transpose(2, 3)).float()
    weights = weights.mul_(scale).add_(attention_mask).softmax(dim=-1).to(value.dtype)
    return torch.matmul(weights, value).reshape(batch, 1, heads, width), None
