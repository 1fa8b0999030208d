"""Decoding: from one step's logits to a token, as pure functions.

Tokens are drawn by inverse transform sampling over the kept tokens in order of id, so a draw
depends only on the probabilities. Among equal logits at the edge of top-k, a CPU keeps the lowest
ids, a GPU any.
"""

from __future__ import annotations

import numpy as np
import torch

from auditor.config.audit import Decoding
from auditor.models.kernels.logit_rows import top_ids

_ELEMENTS_ON_CPU = 16 * 50_257  # probabilities per chunk, so that they stay in cache


def temperatures(decoding: Decoding, steps: np.ndarray) -> np.ndarray:
    """The softmax temperature at each step (0 = first new token).

    Linear from `temperature_start` at the first token to `temperature` at token number
    `temperature_steps`, then constant: "starting at t = 10 and decaying down to t = 1 over a period
    of the first 20 tokens".

    Source
    ------
    Carlini et al. 2021, section 5.1.1.

    >>> d = Decoding(temperature_start=10.0, temperature=1.0, temperature_steps=20)
    >>> temperatures(d, np.array([0, 19, 20, 200])).tolist()
    [10.0, 1.0, 1.0, 1.0]
    """
    steps = np.asarray(steps)
    if decoding.temperature_start is None:
        return np.full(steps.shape, decoding.temperature)
    last = max(1, decoding.temperature_steps - 1)
    share = np.clip(steps / last, 0.0, 1.0)
    return decoding.temperature_start + share * (decoding.temperature - decoding.temperature_start)


def penalise(logits: torch.Tensor, seen: torch.Tensor, penalty: float) -> torch.Tensor:
    """Apply a repetition penalty to the logits of tokens in the sequence.

    Source
    ------
    Keskar et al. 2019, "CTRL", section 4.1: positive logits are divided, negative multiplied.
    """
    lowered = torch.where(logits < 0, logits * penalty, logits / penalty)
    return torch.where(seen, lowered, logits)


def truncate(logits: torch.Tensor, decoding: Decoding) -> torch.Tensor:
    """Drop unlikely tokens (-inf) by top_p, min_p and typical_p, in that order; (n, m) float32.

    Source
    ------
    Holtzman et al. 2020 (nucleus), Nguyen et al. 2024 (min-p), Meister et al. 2023 (typical).
    """
    if decoding.top_p is not None and decoding.top_p < 1:
        ordered, order = logits.sort(dim=1, descending=True)
        p = ordered.softmax(dim=1)
        # A token is kept while the mass before it is below top_p, so the first always is.
        drop = p.cumsum(dim=1) - p >= decoding.top_p
        logits = logits.masked_fill(drop.scatter(1, order, drop), float("-inf"))
    if decoding.min_p is not None:
        p = logits.softmax(dim=1)
        drop = p < decoding.min_p * p.amax(dim=1, keepdim=True)
        logits = logits.masked_fill(drop, float("-inf"))
    if decoding.typical_p is not None and decoding.typical_p < 1:
        logp = logits.log_softmax(dim=1)
        p = logp.exp()
        entropy = -(p * logp).nan_to_num(0.0).sum(dim=1, keepdim=True)
        surprise = (-logp - entropy).abs()
        _, order = surprise.sort(dim=1, stable=True)
        q = p.gather(1, order)
        drop = q.cumsum(dim=1) - q >= decoding.typical_p
        logits = logits.masked_fill(drop.scatter(1, order, drop), float("-inf"))
    return logits


def pick(logits: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Index of the drawn column (n,), by inverse transform sampling.

    `logits` float32 (n, m), -inf is never drawn; `uniform` float64 (n,) in [0, 1).
    """
    weights = (logits - logits.amax(dim=1, keepdim=True)).double().exp()
    total = weights.cumsum(dim=1)
    place = torch.searchsorted(total, uniform[:, None] * total[:, -1:], right=True)[:, 0]
    # NaN, or rounding of u * total, may exceed the range: clamp to the last possible token.
    last = (weights > 0).double().mul(torch.arange(1, weights.shape[1] + 1, device=logits.device))
    return torch.minimum(place, last.argmax(dim=1))


def draw(
    logits: torch.Tensor,
    uniform: torch.Tensor,
    temperature: torch.Tensor,
    decoding: Decoding,
    seen: torch.Tensor | None = None,
) -> torch.Tensor:
    """The next token of each row, int64 (n,).

    `logits` (n, vocab), raw, in any float dtype; `uniform` float64 (n,) in [0, 1); `temperature`
    float32 (n,); `seen` bool (n, vocab), needed for a repetition penalty other than 1.
    """
    if decoding.repetition_penalty != 1 and seen is not None:
        logits = penalise(logits, seen, decoding.repetition_penalty)
    if decoding.top_k is not None and decoding.top_k < logits.shape[1]:
        # Temperature preserves the order, so truncate first: the rest is cheaper.
        ids = top_ids(logits, decoding.top_k)
        values = logits.gather(1, ids).float() / temperature[:, None]
        place = pick(truncate(values, decoding), uniform)
        return ids.gather(1, place[:, None])[:, 0]
    step = len(logits)
    if logits.device.type == "cpu":
        step = max(1, _ELEMENTS_ON_CPU // logits.shape[1])
    parts = []
    for at in range(0, len(logits), step):
        rows = slice(at, at + step)
        values = logits[rows].float() / temperature[rows, None]
        parts.append(pick(truncate(values, decoding), uniform[rows]))
    return torch.cat(parts)
