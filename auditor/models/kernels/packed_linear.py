"""Linear layers with weights prepacked for oneDNN's bfloat16 kernels on a CPU.

A plain product repacks the weights at every call. With prepacked weights, the kernel also adds the
bias and applies GPT-2's activation before rounding, which saves one write and read of the widest
intermediate. A packed layer has no parameters: it cannot be trained, moved or saved. An MLP's two
layers run on a few rows at a time, so that the intermediate stays in the L2 cache.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import cast

import torch
from torch import nn
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP
from transformers.pytorch_utils import Conv1D

_ROWS = 128  # batch size that the layout is optimised for
_TOGETHER = 256  # rows per pass through an MLP


class PackedLinear(nn.Module):
    """x (..., inputs) -> activation(x @ weight.T + bias), (..., outputs).

    `weight` (outputs, inputs) and `bias` (outputs,) or None are bfloat16 tensors on the CPU;
    `activation` is "none", or "tanh" for GPT-2's tanh approximation of GELU. On a CPU without
    these kernels, the product is computed in float32 and rounded once: the same result, without the
    speed-up.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, activation: str = "none"):
        super().__init__()
        weight = weight.detach().contiguous()
        self._has_kernels = _has_kernels()
        with torch.inference_mode():
            self._packed = (
                torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
                if self._has_kernels
                else weight.float()
            )
        self._bias = None if bias is None else bias.detach()
        self._post = ("none", "") if activation == "none" else ("gelu", activation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kind, algorithm = self._post
        if not self._has_kernels:
            bias = None if self._bias is None else self._bias.float()
            y = torch.nn.functional.linear(x.float(), self._packed, bias)
            y = y if kind == "none" else torch.nn.functional.gelu(y, approximate=algorithm)
            return y.to(x.dtype)
        # Some networks keep their residual stream in float32; the kernel takes bfloat16 alone.
        rounded = x.to(torch.bfloat16)
        y = torch.ops.mkldnn._linear_pointwise(
            rounded, self._packed, self._bias, kind, [], algorithm
        )
        return y.to(x.dtype)


class InRows(nn.Module):
    """x (..., inputs) -> layers(x), in chunks of rows; `layers` must act on each row alone."""

    def __init__(self, layers: nn.Module):
        super().__init__()
        self.layers = layers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if len(rows) <= _TOGETHER:
            return self.layers(x)
        parts = torch.cat([self.layers(some) for some in rows.split(_TOGETHER)])
        return parts.view(*x.shape[:-1], -1)


def can_pack(weight: torch.Tensor) -> bool:
    """Whether this machine has packed kernels for these weights."""
    plain = weight.device.type == "cpu" and weight.dtype == torch.bfloat16
    return plain and _has_kernels()


def _has_kernels() -> bool:
    """Whether oneDNN has kernels for bfloat16 on this processor."""
    try:
        return torch.backends.mkldnn.is_available() and bool(
            torch.ops.mkldnn._is_mkldnn_bf16_supported()
        )
    except (AttributeError, RuntimeError):  # torch built without oneDNN
        return False


def pack_linears(trunk: nn.Module, is_right: Callable[[], bool]) -> list[str]:
    """Replace every linear layer of a trunk that can be packed by a PackedLinear.

    The tanh GELU of a GPT-2 block is fused into the layer before it. Modules named MLP run in
    chunks of rows. The first block of each class is packed and verified, because some classes read
    their layers' weights directly: `is_right` tells whether the network still gives the same
    results. Returns the names of the block classes that were left unpacked.
    """
    fits: dict[type, bool] = {}
    for module in list(trunk.modules()):
        if not fits.get(type(module), True):
            continue
        before = dict(module.named_children())
        if _pack_children(module) and type(module) not in fits:
            fits[type(module)] = is_right()
            if not fits[type(module)]:
                for name, child in before.items():
                    setattr(module, name, child)
    for module in list(trunk.modules()):
        for name, child in list(module.named_children()):
            if type(child).__name__.endswith("MLP") and _has_packed(child):
                setattr(module, name, InRows(child))
    return sorted(kind.__name__ for kind, fit in fits.items() if not fit)


def _pack_children(module: nn.Module) -> bool:
    """Pack the direct linear children of a module; return whether there were any."""
    fused = isinstance(module, GPT2MLP) and _is_tanh(cast("nn.Module", module.act))
    is_any = False
    for name, child in list(module.named_children()):
        # Exact classes: a subclass may do more than the product.
        if type(child) not in (nn.Linear, Conv1D):
            continue
        weight, bias = cast("torch.Tensor", child.weight), cast("torch.Tensor", child.bias)
        if not can_pack(weight):
            continue
        first = fused and name == "c_fc"
        rows = weight.t() if type(child) is Conv1D else weight
        setattr(module, name, PackedLinear(rows, bias, "tanh" if first else "none"))
        if first:
            module.act = nn.Identity()
        is_any = True
    return is_any


def _has_packed(module: nn.Module) -> bool:
    """Whether a module consists only of packed layers and elementwise functions."""
    children = list(module.children())
    nested = any(list(child.children()) for child in children)
    # A block with more inputs (a residual, say) cannot be split by rows.
    takes = len(inspect.signature(module.forward).parameters)
    return takes == 1 and not nested and any(isinstance(c, PackedLinear) for c in children)


def _is_tanh(activation: nn.Module) -> bool:
    """Whether an activation is torch's tanh GELU."""
    approximate = getattr(activation, "approximate", None)
    return isinstance(activation, nn.GELU) and approximate == "tanh"
