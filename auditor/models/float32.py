"""float32 arithmetic over weights that are kept in fewer bits, one layer at a time.

A model that fits into memory in bfloat16 alone can still be asked for exact numbers: while a layer
runs, its weights are float32, and after it they are what they were. With the buffers that a network
makes of its config in float32 too (`restore_buffers`), the numbers are those of the same weights
loaded in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

_FEW_BITS = (torch.bfloat16, torch.float16)


class Float32Layers:
    """Hooks that run every layer of a network in float32, until `remove` is called."""

    def __init__(self, network: Any):
        self._hooks: list[RemovableHandle] = []
        for module, is_whole in _units(network):
            self._widen(module, module, is_whole)
        # Some networks look at the format of their projection before they call it.
        if (outer := network.get_output_embeddings()) is not None:
            self._widen(network, outer, is_whole=True)

    def _widen(self, called: nn.Module, part: nn.Module, is_whole: bool) -> None:
        """Have `part` in float32, with all below it if `is_whole`, while `called` runs."""
        kept: list[tuple[dict, str, torch.Tensor]] = []

        def widen(module, args) -> None:
            for owner in part.modules() if is_whole else (part,):
                tables: tuple[dict[str, Any], ...] = (owner._parameters, owner._buffers)
                for table in tables:
                    for name, tensor in table.items():
                        if tensor is not None and tensor.dtype in _FEW_BITS:
                            kept.append((table, name, tensor))
                            wide = tensor.detach().float()
                            is_weight = table is owner._parameters
                            table[name] = nn.Parameter(wide, False) if is_weight else wide

        def restore(module, args, output) -> None:
            for table, name, tensor in kept:
                table[name] = tensor
            kept.clear()

        self._hooks.append(called.register_forward_pre_hook(widen))
        self._hooks.append(called.register_forward_hook(restore, always_call=True))

    def remove(self) -> None:
        """Run the network in the format of its weights again."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []


@contextmanager
def in_float32(network: Any) -> Iterator[None]:
    """A network whose layers run in float32 for a while."""
    layers = Float32Layers(network)
    try:
        yield
    finally:
        layers.remove()


def restore_buffers(network: nn.Module, make: Callable[[], nn.Module]) -> None:
    """Give a network of 16 bits the buffers that it makes of its config in float32.

    Parameters
    ----------
    network : changed in place
    make : callable()
        Gives the same network in float32, with any weights: they take no memory.
    """
    register = nn.Module.register_parameter

    def on_meta(module: nn.Module, name: str, weight: nn.Parameter | None) -> None:
        register(module, name, weight)
        if weight is not None:
            module._parameters[name] = nn.Parameter(weight.to("meta"), requires_grad=False)

    nn.Module.register_parameter = on_meta  # type: ignore[method-assign, assignment]
    try:
        wide = make()
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]
    own = dict(network.named_modules())
    for path, module in wide.named_modules():
        for name in module._non_persistent_buffers_set:
            buffer = module._buffers.get(name)
            old = own[path]._buffers.get(name) if path in own else None
            if buffer is not None and old is not None and old.dtype in _FEW_BITS:
                own[path]._buffers[name] = buffer.to(old.device)


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
