"""A plain training loop for causal models, a document a row; deterministic for a seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from auditor.errors import ModelError
from auditor.language_models.machine import keep_freed_memory, native_bfloat16

_FAST_FROM = 1_000_000  # parameters
_IGNORED = -100  # cross entropy's mark for "no target here"


def rows_of(documents: Sequence[Sequence[int]], bos: int, width: int) -> tuple[torch.Tensor, ...]:
    """Documents as padded rows: inputs and targets, int64 (n, longest).

    Each row is BOS, the document, and EOS (the same token), cut at `width`. A document begins at
    position 0, as a sample from BOS does; so a model with learned positions can give it back.

    >>> inputs, targets = rows_of([[5, 6], [7]], 0, 8)
    >>> inputs.tolist(), targets.tolist()
    ([[0, 5, 6], [0, 7, 0]], [[5, 6, 0], [7, 0, -100]])
    """
    rows = [[bos, *document, bos][:width] for document in documents]
    longest = max(map(len, rows))
    inputs = torch.full((len(rows), longest - 1), bos)
    targets = torch.full((len(rows), longest - 1), _IGNORED)
    for i, row in enumerate(rows):
        inputs[i, : len(row) - 1] = torch.tensor(row[:-1])
        targets[i, : len(row) - 1] = torch.tensor(row[1:])
    return inputs, targets


def train(
    network,
    documents: Sequence[Sequence[int]],
    *,
    bos: int,
    width: int,
    epochs: int,
    batch: int,
    rate: float,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> float:
    """Train a causal model on documents, shuffled anew each epoch.

    Parameters
    ----------
    network : a causal model of transformers, changed in place
    documents : token ids; a repeated document stands as often as it is repeated
    bos : token before each document
    width : tokens of a training row at the most
    epochs, batch (rows), rate (peak learning rate of AdamW)
    seed : decides the order
    progress : callable(step, n_steps)

    Returns
    -------
    Mean loss of the last epoch, nats per token.

    Raises
    ------
    ModelError
        If the loss is not a number.
    """
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01
    )
    rng = np.random.default_rng(seed)
    keep_freed_memory()
    # The CPU's fused attention is slow backwards; short rows fare better with plain products.
    attention = network.config._attn_implementation
    network.set_attn_implementation("eager")
    network.train()
    # Products in bfloat16 where the machine has them; weights and sums stay float32. Small models
    # lose more by the conversions than they gain.
    n_parameters = sum(p.numel() for p in network.parameters())
    fast = native_bfloat16(torch.device("cpu")) and n_parameters > _FAST_FROM
    n_steps = epochs * math.ceil(len(documents) / batch)
    step = 0
    for _ in range(epochs):
        losses: list[float] = []
        order = rng.permutation(len(documents))
        for at in range(0, len(order), batch):
            for group in optimizer.param_groups:
                group["lr"] = rate * _schedule(step, n_steps)
            inputs, targets = rows_of([documents[i] for i in order[at : at + batch]], bos, width)
            loss = _loss(network, inputs, targets, fast)
            if not torch.isfinite(loss):
                raise ModelError(f"The loss is not a number at step {step}. Lower the rate.")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
            step += 1
            if progress is not None:
                progress(step, n_steps)
    network.eval()
    network.set_attn_implementation(attention)
    return float(np.mean(losses))


def _loss(network, inputs: torch.Tensor, targets: torch.Tensor, fast: bool) -> torch.Tensor:
    """Mean cross entropy of a batch, nats per token; in bfloat16 products where `fast`."""
    with torch.autocast("cpu", torch.bfloat16, enabled=fast):
        hidden = network.base_model(input_ids=inputs, use_cache=False)[0].flatten(0, 1)
        # A fifth of a batch is padding: it is dropped before the vocabulary is projected.
        real = (targets.flatten() != _IGNORED).nonzero()[:, 0]
        logits = network.get_output_embeddings()(hidden.index_select(0, real))
    return cross_entropy(logits.float(), targets.flatten()[real])


def _schedule(step: int, n_steps: int) -> float:
    """Warm up over the first twentieth, then fall along a half cosine to a twentieth."""
    warm = max(1, n_steps // 20)
    if step < warm:
        return (step + 1) / warm
    way = (step - warm) / max(1, n_steps - warm)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * way))
