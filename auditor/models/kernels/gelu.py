"""GPT-2's activation in one kernel: transformers writes it as eight, each over all of a layer."""

from __future__ import annotations

from torch import nn
from transformers.activations import FastGELUActivation, GELUTanh, NewGELUActivation


def fuse_activations(network: nn.Module) -> None:
    """Put torch's own kernel in the place of the same function written out, in every layer.

    All are 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) (Hendrycks and Gimpel 2016); they
    differ in rounding alone.
    """
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, NewGELUActivation | FastGELUActivation | GELUTanh):
                setattr(module, name, nn.GELU(approximate="tanh"))
