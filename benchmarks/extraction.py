"""Scored tokens per second of extract's teacher-forced pass beside bare matrix products.

GPT-2 small geometry (124 M parameters) with random weights, float32, as reported numbers need. The
yardstick is every matrix product of the pass with a weight, of the same shapes, and nothing else:
no attention, no softmax, no layer norms. The pass also tells first choices and, with --top-k, the
renormalised log-probability of the cut distribution.

    python -m benchmarks.extraction --windows 32
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "20000")

import numpy as np
import torch

from auditor.config.audit import Decoding
from auditor.scoring.suffixes import measure_suffixes
from benchmarks.machine import describe, print_table, seconds
from benchmarks.made import as_model, made_network, made_tokenizer

_WIDTH, _LAYERS, _BATCH = 768, 12, 40


def bare(model, n: int, n_prefix: int, n_suffix: int):
    """The pass's products with weights alone, in its own batches."""
    weights = [
        (torch.randn(_WIDTH, 3 * _WIDTH), torch.randn(_WIDTH, _WIDTH)),
        (torch.randn(_WIDTH, 4 * _WIDTH), torch.randn(4 * _WIDTH, _WIDTH)),
    ]
    length = n_prefix + n_suffix - 1  # the last token is never fed

    @torch.inference_mode()
    def products() -> None:
        for at in range(0, n, _BATCH):
            rows = min(_BATCH, n - at)
            x = torch.ones(rows * length, _WIDTH)
            for _ in range(_LAYERS):
                (qkv, out), (up, down) = weights
                (x @ qkv)[:, :_WIDTH] @ out
                (x @ up) @ down
            targets = rows * n_suffix
            step = max(1, 6 * 1024 * 1024 // model.head.n_vocab)
            for first in range(0, targets, step):
                x[: min(step, targets - first)] @ model.head.weight.T

    return products


def main() -> None:
    """Measure both in turn and print the pass as a share of the products."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=40)
    parser.add_argument("--prefix", type=int, default=50)
    parser.add_argument("--suffix", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    network = made_network("gpt2").float()
    model = as_model(network, made_tokenizer(network.config.vocab_size))
    rng = np.random.default_rng(0)
    ids = rng.integers(0, model.head.n_vocab, (options.windows, options.prefix + options.suffix))
    split = ids[:, : options.prefix], ids[:, options.prefix :]

    def scored(decoding: Decoding):
        tokens = _BATCH * ids.shape[1]
        return lambda: measure_suffixes(model, *split, decoding=decoding, batch_tokens=tokens)

    ways = {
        "bare products": bare(model, options.windows, options.prefix, options.suffix),
        "extract, own distribution": scored(Decoding()),
        "extract, top-k 40": scored(Decoding(top_k=40)),
    }
    n = options.windows * options.suffix
    for work in ways.values():
        work()
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.repeats):
        # All in turn, so that a noisy neighbour hits all.
        for name, work in ways.items():
            spent[name].append(seconds(work, 1)[0])
    middle = {name: float(np.median(times)) for name, times in spent.items()}
    yard = middle["bare products"]
    rows = [
        [name, f"{n / t:,.0f}", f"{yard / t:.2f}", f"{n / max(spent[name]):,.0f}"]
        for name, t in middle.items()
    ]
    print(describe())
    print(
        f"{options.windows} windows of {options.prefix} + {options.suffix} tokens, float32, median "
        f"of {options.repeats}\n"
    )
    print_table(["way", "scored tokens/s", "share of bare", "slowest"], rows)
    if options.json:
        figures = {"machine": describe(), "seconds": spent, "share": {r[0]: r[2] for r in rows}}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
