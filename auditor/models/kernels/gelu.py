"""GPT-2's activation in one kernel; transformers runs eight elementwise operations."""

from __future__ import annotations

from torch import nn
from transformers.activations import FastGELUActivation, GELUTanh, NewGELUActivation


def fuse_activations(network: nn.Module) -> None:
    """Replace every tanh GELU written out in Python by torch's kernel.

    All compute 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) (Hendrycks and Gimpel 2016) and
    differ only in rounding.
    """
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, NewGELUActivation | FastGELUActivation | GELUTanh):
                setattr(module, name, nn.GELU(approximate="tanh"))
