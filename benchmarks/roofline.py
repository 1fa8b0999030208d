"""The bound of a model on this machine: its matrix products alone, and its cache's bytes."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.machine import seconds


def shapes(model) -> list[tuple[int, int, int]]:
    """Every product of a token with a weight, as (inputs, outputs, how often): GPT-2's layers.

    Source: Radford et al. 2019; four products a layer, and the head.
    """
    width, layers = model.config.n_embd, model.config.n_layer
    inner = model.config.n_inner or 4 * width
    found = [(width, 3 * width), (width, width), (width, inner), (inner, width)]
    return [(*shape, layers) for shape in found] + [(width, model.head.n_vocab, 1)]


def flops(model) -> int:
    """Floating-point operations of one token's products."""
    return sum(2 * rows * columns * n for rows, columns, n in shapes(model))


def products(model, n_rows: int) -> Callable[[], None]:
    """The products of `n_rows` tokens with all weights, in the model's format, nothing else."""
    made = [
        (torch.randn(n_rows, rows, dtype=model.dtype, device=model.device), rows, columns, n)
        for rows, columns, n in shapes(model)
    ]
    # As many weights as the model has, so that they come from memory as they do in the model.
    weights = [
        [torch.randn(rows, columns, dtype=model.dtype, device=model.device) for _ in range(n)]
        for _, rows, columns, n in made
    ]

    @torch.inference_mode()
    def work() -> None:
        for (x, *_), mine in zip(made, weights, strict=True):
            for weight in mine:
                x @ weight

    return work


def copy_rate(model, n_bytes: int = 1 << 28) -> float:
    """Bytes a second that this machine reads while it copies, as a cache is read."""
    source = torch.ones(n_bytes // 4, dtype=torch.float32, device=model.device)
    target = torch.empty_like(source)
    return n_bytes / seconds(lambda: target.copy_(source), 5)[0]


def moved_bytes(model, batch: int, tokens: int) -> tuple[float, float]:
    """Bytes that a step reads in the mean: the weights, and keys and values of half the length."""
    size = torch.finfo(model.dtype).bits // 8
    weights = size * sum(rows * columns * n for rows, columns, n in shapes(model))
    cache = 2 * model.config.n_layer * model.config.n_embd * size * batch * tokens / 2
    return weights, cache


def sampling_bound(model, batch: int, tokens: int, repeats: int) -> tuple[float, float]:
    """Tokens/s of the products alone, and what bounds a step.

    On a CPU, where products take longest, those and the cache's bytes; on a GPU, which moves the
    weights while it multiplies, the bytes of both at the measured rate.
    """
    step = seconds(products(model, batch), repeats)[0]
    weights, cache = moved_bytes(model, batch, tokens)
    rate = copy_rate(model)
    least = (weights + cache) / rate if model.device.type == "cuda" else step + cache / rate
    return batch / step, batch / least
