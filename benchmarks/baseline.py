"""The way of working that the attack's public code has, in our own words, as a yardstick.

Batches of ten are sampled with `transformers.generate`; then every sample is scored by itself, in
three passes: under the target, under the reference, and its lower-cased text under the target;
zlib besides. Nothing is kept from sampling, and no two texts share a pass.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np
import torch

BATCH = 10


@dataclass(frozen=True)
class Scored:
    """A sample with the figures of the paper: nats a token, bits."""

    text: str
    target: float
    reference: float
    lowercase: float
    zlib_bits: int


@torch.inference_mode()
def _nats(network, tokenizer, text: str) -> float:
    """Mean nats a token of one text, in a pass of its own."""
    ids = tokenizer(text, return_tensors="pt").input_ids.to(network.device)
    if ids.shape[1] < 2:
        return math.nan
    return float(network(ids, labels=ids).loss)


@torch.inference_mode()
def run(target, reference, tokenizer, n_samples: int, tokens: int) -> list[Scored]:
    """Sample and score `n_samples` texts of `tokens` tokens, top-k 40 from BOS."""
    found: list[Scored] = []
    while len(found) < n_samples:
        start = torch.full((BATCH, 1), tokenizer.bos_token_id, device=target.device)
        drawn = target.generate(
            input_ids=start,
            attention_mask=torch.ones_like(start),
            do_sample=True,
            top_k=40,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            pad_token_id=tokenizer.eos_token_id,
        )
        for text in tokenizer.batch_decode(drawn[:, 1:], skip_special_tokens=True):
            found.append(
                Scored(
                    text,
                    _nats(target, tokenizer, text),
                    _nats(reference, tokenizer, text),
                    _nats(target, tokenizer, text.lower()),
                    8 * len(zlib.compress(text.encode())),
                )
            )
    return found[:n_samples]


def largest_difference(found: list[Scored], target, reference) -> float:
    """How far our mean nats a token are from these at most, over texts and passes.

    `target` and `reference` are LanguageModels of the same weights. A text's first token is not
    judged here, as it is not in the public code.
    """
    passes = [
        (target, [x.text for x in found], [x.target for x in found]),
        (reference, [x.text for x in found], [x.reference for x in found]),
        (target, [x.text.lower() for x in found], [x.lowercase for x in found]),
    ]
    largest = 0.0
    for model, texts, theirs in passes:
        ids = [model.vocabulary.tokenizer(text)["input_ids"] for text in texts]
        stats = model.token_stats([x[1:] for x in ids], [x[:1] for x in ids])
        parts = np.split(stats.logprob.astype(np.float64), stats.offsets[1:-1])
        ours = np.array([-part.mean() for part in parts])
        largest = max(largest, float(np.abs(ours - theirs).max()))
    return largest
