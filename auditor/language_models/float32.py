"""float32 arithmetic over weights that are kept in fewer bits, one layer at a time.

A model that fits into memory in bfloat16 alone can still be asked for exact numbers: while a layer
runs, its weights are float32, and after it they are what they were. What the weights say does not
change, so the numbers are those of the same weights loaded in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

_FEW_BITS = (torch.bfloat16, torch.float16)


class Float32Layers:
    """Hooks that run every layer of a network in float32, until `remove` is called."""

    def __init__(self, network: nn.Module):
        self._hooks = []
        for module, is_whole in _units(network):
            kept: list[tuple[dict, str, torch.Tensor]] = []

            def widen(module, args, is_whole=is_whole, kept=kept) -> None:
                for part in module.modules() if is_whole else (module,):
                    for table in (part._parameters, part._buffers):
                        for name, tensor in table.items():
                            if tensor is not None and tensor.dtype in _FEW_BITS:
                                kept.append((table, name, tensor))
                                wide = tensor.detach().float()
                                table[name] = (
                                    nn.Parameter(wide, requires_grad=False)
                                    if table is part._parameters
                                    else wide
                                )

            def restore(module, args, output, kept=kept) -> None:
                for table, name, tensor in kept:
                    table[name] = tensor
                kept.clear()

            self._hooks.append(module.register_forward_pre_hook(widen))
            self._hooks.append(module.register_forward_hook(restore, always_call=True))

    def remove(self) -> None:
        """Run the network in the format of its weights again."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []


@contextmanager
def in_float32(network: nn.Module) -> Iterator[None]:
    """A network whose layers run in float32 for a while."""
    layers = Float32Layers(network)
    try:
        yield
    finally:
        layers.remove()


def _units(module: nn.Module) -> Iterator[tuple[nn.Module, bool]]:
    """What is widened at once: each layer of a list as a whole, and what stands beside them."""
    if any(
        tensor is not None for tensor in (*module._parameters.values(), *module._buffers.values())
    ):
        yield module, False
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from ((layer, True) for layer in child)
        else:
            yield from _units(child)
