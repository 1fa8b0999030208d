"""float32 arithmetic over 16-bit weights, one layer at a time.

For models that fit into memory only in 16 bits: each layer's weights are widened to float32 while
it runs. With float32 buffers (`restore_buffers`), results equal those of the same weights loaded in
float32.
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
        # Some networks read the dtype of their projection before they call it.
        if (outer := network.get_output_embeddings()) is not None:
            self._widen(network, outer, is_whole=True)

    def _widen(self, called: nn.Module, part: nn.Module, is_whole: bool) -> None:
        """Widen `part`, with its submodules if `is_whole`, while `called` runs."""
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
        """Restore the arithmetic of the weights' dtype."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []


@contextmanager
def in_float32(network: Any) -> Iterator[None]:
    """Run a network's layers in float32 within the context."""
    layers = Float32Layers(network)
    try:
        yield
    finally:
        layers.remove()


def restore_buffers(network: nn.Module, make: Callable[[], nn.Module]) -> None:
    """Replace the 16-bit buffers of a network by those computed from its config in float32.

    `make` builds the same network in float32; its weights are kept on the meta device.
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
    """Modules to widen: layers of a ModuleList as a whole, other modules one by one."""
    if any(
        tensor is not None for tensor in (*module._parameters.values(), *module._buffers.values())
    ):
        yield module, False
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from ((layer, True) for layer in child)
        else:
            yield from _units(child)
