"""Tokens per second of the engine beside `transformers.generate`, in one run.

GPT-2 small geometry (124 M parameters) with random weights; top-k 40 from BOS. The engine also
keeps each token's log-probability and rank, which `generate` does not.

    python -m benchmarks.generation --tokens 64
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "20000")

import torch
from transformers.utils import logging as transformers_logging

from auditor.config.audit import Decoding
from auditor.models.language_model import LanguageModel
from auditor.sampling.generate import generate
from benchmarks.machine import describe, print_table, seconds
from benchmarks.made import as_model, made_network, made_tokenizer


def engine(model: LanguageModel, batch: int, tokens: int):
    """The engine with `batch` sequences in flight."""
    decoding = Decoding(max_new_tokens=tokens, top_k=40)
    prompts = [[model.head.n_vocab - 1]] * batch
    kwargs = {"seed": 0, "stream": "top-n", "decoding": decoding, "n_slots": batch}
    return lambda: generate(model, prompts, range(batch), **kwargs)


@torch.inference_mode()
def hugging_face(network, batch: int, tokens: int):
    """`transformers.generate` on a network as transformers made it, with `batch` sequences."""
    last = network.config.vocab_size - 1
    ids = torch.full((batch, 1), last, device=network.device)
    return lambda: network.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=True,
        top_k=40,
        max_new_tokens=tokens,
        min_new_tokens=tokens,
        pad_token_id=last,
    )


def main() -> None:
    """Measure both at several batch sizes and print the ratio of their best."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 64, 128, 256])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    transformers_logging.set_verbosity_error()
    network = made_network("gpt2")
    model = as_model(network, made_tokenizer(network.config.vocab_size))
    engine(model, 8, 4)()
    hugging_face(network, 8, 4)()
    rows, best = [], {}
    for batch in options.batches:
        # Both in turn, so that a noisy neighbour hits both.
        ways = {
            "engine": engine(model, batch, options.tokens),
            "transformers.generate": hugging_face(network, batch, options.tokens),
        }
        for name, work in ways.items():
            middle, least, most = seconds(work, options.repeats)
            rate = batch * options.tokens / middle
            best[name] = max(best.get(name, 0.0), rate)
            spread = f"{batch * options.tokens / most:,.0f}–{batch * options.tokens / least:,.0f}"
            rows.append([name, batch, f"{rate:,.0f}", spread])
    ratio = best["engine"] / best["transformers.generate"]
    print(describe())
    print(
        f"{model.n_parameters:,} parameters, {model.dtype}, {options.tokens} new tokens, median of"
    )
    print(f"{options.repeats} runs (least–most)\n")
    print_table(["way", "batch", "tokens/s", "range"], rows)
    print(f"\nBest engine / best transformers.generate: {ratio:.2f}")
    if options.json:
        figures = {"machine": describe(), "ratio": ratio, "best": best, "rows": rows}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
