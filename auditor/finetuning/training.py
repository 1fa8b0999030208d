"""A plain training loop for causal models on packed text; deterministic for a seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from auditor.errors import ModelError
from auditor.language_models.machine import native_bfloat16


def pack(documents: Sequence[Sequence[int]], bos: int, width: int, order) -> np.ndarray:
    """Documents in the given order, each after a BOS, cut into rows: int64 (n_rows, width).

    The tail that does not fill a row is dropped; another order drops another tail.

    >>> pack([[1, 2], [3]], 0, 2, [0, 1]).tolist()
    [[0, 1], [2, 0]]
    """
    stream = [token for i in order for token in (bos, *documents[i])]
    n = len(stream) // width
    return np.array(stream[: n * width], dtype=np.int64).reshape(n, width)


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
    width : tokens of a training row
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
    network.train()
    # Products in bfloat16 where the machine has them; weights and sums stay float32.
    fast = native_bfloat16(torch.device("cpu"))
    n_rows = sum(len(d) + 1 for d in documents) // width
    n_steps = epochs * math.ceil(n_rows / batch)
    step, losses = 0, []
    for _ in range(epochs):
        losses = []
        for rows in _batches(pack(documents, bos, width, rng.permutation(len(documents))), batch):
            for group in optimizer.param_groups:
                group["lr"] = rate * _schedule(step, n_steps)
            ids = torch.from_numpy(rows)
            with torch.autocast("cpu", torch.bfloat16, enabled=fast):
                logits = network(input_ids=ids, use_cache=False).logits
            loss = cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten())
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
    return float(np.mean(losses))


def _batches(rows: np.ndarray, batch: int) -> Iterator[np.ndarray]:
    for at in range(0, len(rows), batch):
        yield rows[at : at + batch]


def _schedule(step: int, n_steps: int) -> float:
    """Warm up over the first twentieth, then fall along a half cosine to a twentieth."""
    warm = max(1, n_steps // 20)
    if step < warm:
        return (step + 1) / warm
    way = (step - warm) / max(1, n_steps - warm)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * way))
