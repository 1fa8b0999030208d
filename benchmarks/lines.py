"""The lines of `python -m benchmarks`, each measured in a process of its own.

    python -m benchmarks.lines sampling --size small --json sampling.json

A row is what was measured, its value and unit, and, where there is a yardstick in the same run, the
ratio to it. Sizes: `small` only shows that every line works; `full` is what is reported.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "20000")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np

from benchmarks.machine import seconds


@dataclass(frozen=True)
class Row:
    """One figure. `ratio` is to `of`, measured in the same process."""

    what: str
    value: float
    unit: str
    ratio: float | None = None
    of: str = ""


# ------------------------------------------------------------------------------------ models
def geometry(size: str) -> dict[str, int]:
    """GPT-2 small; for `small` a model that is made and run in no time."""
    if size == "full":
        return {"n_vocab": 50257, "n_layer": 12, "width": 768, "n_head": 12, "context": 1024}
    return {"n_vocab": 5000, "n_layer": 2, "width": 64, "n_head": 2, "context": 320}


def made_tokenizer(n_vocab: int):
    """A byte-level BPE of that many tokens from no text: all bytes, and pairs of them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from auditor.language_models.building import END_OF_TEXT

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [(a, b) for a in alphabet for b in alphabet][: n_vocab - len(alphabet) - 1]
    pieces = [END_OF_TEXT, *alphabet, *(a + b for a, b in merges)]
    tokenizer = Tokenizer(models.BPE({p: i for i, p in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT
    )


def made_model(size: str, seed: int = 0):
    """Random weights of that geometry as a LanguageModel, in the format that suits the machine."""
    import torch

    from auditor.language_models.building import build_gpt2
    from auditor.language_models.causal import LanguageModel
    from auditor.language_models.machine import native_bfloat16
    from auditor.language_models.vocabulary import Vocabulary

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape = geometry(size)
    network = build_gpt2(**shape, seed=seed)
    dtype = torch.bfloat16 if size == "full" and native_bfloat16(device) else torch.float32
    vocabulary = Vocabulary(made_tokenizer(shape["n_vocab"]))
    network = network.to(device=device, dtype=dtype).eval()
    return LanguageModel(network, vocabulary, name="random", fingerprint="", dtype=dtype)


# ------------------------------------------------------------------------------------- lines
def sampling(size: str) -> list[Row]:
    """The engine beside `transformers.generate` and the bound of this machine."""
    from benchmarks.generation import engine, hugging_face
    from benchmarks.roofline import flops, sampling_bound

    model = made_model(size)
    batches, tokens, repeats = ([16, 64, 256], 64, 3) if size == "full" else ([4, 8], 8, 1)
    best: dict[str, float] = {}
    rows = []
    for batch in batches:
        for name, made in (("engine", engine), ("transformers.generate", hugging_face)):
            work = made(model, batch, tokens)
            work()
            rate = batch * tokens / seconds(work, repeats)[0]
            best[name] = max(best.get(name, 0.0), rate)
    bare, bound = sampling_bound(model, batches[-1], tokens, repeats)
    rows.append(Row("matrix products alone", bare, "tokens/s"))
    rows.append(Row("matrix products alone", bare * flops(model) / 1e9, "GFLOP/s"))
    rows.append(Row("bound: products and cache", bound, "tokens/s"))
    hf = best["transformers.generate"]
    rows.append(Row("transformers.generate, best batch", hf, "tokens/s", hf / bound, "the bound"))
    ours = best["engine"]
    rows.append(Row("engine, best batch", ours, "tokens/s", ours / bound, "the bound"))
    rows.append(Row("engine, best batch", ours, "tokens/s", ours / hf, "transformers.generate"))
    return rows


def scoring(size: str) -> list[Row]:
    """Log-probabilities of given texts beside the products that they take."""
    from benchmarks.roofline import products

    model = made_model(size)
    n, length, repeats = (64, 256, 3) if size == "full" else (8, 32, 1)
    ids = np.random.default_rng(0).integers(0, model.head.n_vocab, (n, length)).tolist()
    bare = n * length / seconds(products(model, n * length // 8), repeats)[0] / 8
    model.token_stats(ids[:8])
    rate = n * length / seconds(lambda: model.token_stats(ids), repeats)[0]
    return [
        Row("matrix products alone", bare, "tokens/s"),
        Row("scoring given texts", rate, "tokens/s", rate / bare, "the products"),
    ]


def pipeline(size: str) -> list[Row]:
    """Sampling and all scores of an audit beside the public code's way of working."""
    from auditor.audit import run_audit
    from auditor.language_models.building import save_model
    from benchmarks.baseline import run

    n, n_baseline, tokens = (512, 20, 256) if size == "full" else (32, 10, 16)
    target, reference = made_model(size), made_model(size, seed=1)
    tokenizer = target.vocabulary.tokenizer
    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run(target.network, reference.network, tokenizer, n_baseline, tokens)
    baseline = n_baseline / (time.perf_counter() - begun)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, model in (("target", target), ("reference", reference)):
            save_model(model.network.float(), tokenizer, folder / name)
        begun = time.perf_counter()
        run_audit(
            model=str(folder / "target"),
            references={"reference": str(folder / "reference")},
            strategies=["top-n"],
            decoding={"max_new_tokens": tokens},
            samples=n,
            out=str(folder / "run"),
            until="score",
        )
        ours = n / (time.perf_counter() - begun)
    return [
        Row(f"public code's way ({n_baseline} samples)", baseline, "samples/s"),
        Row(f"audit ({n} samples)", ours, "samples/s", ours / baseline, "public code's way"),
    ]


def dedup(size: str) -> list[Row]:
    """Coding trigrams of samples, and six short lists."""
    from benchmarks.dedup import N_ORDERS, TOP, _samples
    from reports.dedup import Trigrams, select

    n = 200_000 if size == "full" else 2_000
    texts = list(_samples(n, n_families=20, copies=0.1, seed=0))
    begun = time.perf_counter()
    trigrams = Trigrams.from_texts(texts)
    coded = time.perf_counter()
    rng = np.random.default_rng(1)
    for _ in range(N_ORDERS):
        select(trigrams, rng.permutation(n), TOP)
    return [
        Row(f"coding {n:,} texts", n / (coded - begun), "texts/s"),
        Row(f"{N_ORDERS} lists of {TOP}", time.perf_counter() - coded, "s"),
    ]


def matching(size: str) -> list[Row]:
    """Looking for samples in training text, beside grep with fewer."""
    from benchmarks.matching import N_GREPPED, corpus_text, grep, make_needles, make_words, match

    megabytes, n = (512, 10_000) if size == "full" else (4, 1_000)
    needles = make_needles(make_words(np.random.default_rng(0)), n, np.random.default_rng(1))
    with tempfile.TemporaryDirectory() as scratch:
        path, patterns = Path(scratch) / "corpus.txt", Path(scratch) / "patterns.txt"
        with path.open("w", encoding="utf-8") as sink:
            sink.writelines(corpus_text(megabytes * 1_000_000, needles[::2], 0))
        patterns.write_text("\n".join(text[100:200] for text in needles[:N_GREPPED]) + "\n")
        ours = path.stat().st_size / 1e6 / match(path, needles, os.cpu_count() or 1).seconds
        other = path.stat().st_size / 1e6 / grep(path, patterns).seconds
    return [
        Row(f"grep, {N_GREPPED:,} needles", other, "MB/s"),
        Row(f"matching, {n:,} needles", ours, "MB/s", ours / other, "grep"),
    ]


def growing(size: str, n_samples: int) -> list[Row]:
    """A whole audit of that many samples of a tiny model, made on the spot."""
    from auditor.audit import run_audit
    from auditor.language_models.building import build_gpt2, save_model

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        network = build_gpt2(n_vocab=1000, n_layer=1, width=32, n_head=2, context=64, seed=0)
        save_model(network, made_tokenizer(1000), folder / "model")
        begun = time.perf_counter()
        run_audit(
            model=str(folder / "model"),
            strategies=["top-n"],
            decoding={"max_new_tokens": 32},
            samples=n_samples,
            batch_size=256,
            out=str(folder / "run"),
        )
        return [Row(f"audit of {n_samples:,} samples", time.perf_counter() - begun, "s")]


LINES: dict[str, Callable[[str], list[Row]]] = {
    "sampling": sampling,
    "scoring": scoring,
    "pipeline": pipeline,
    "dedup": dedup,
    "matching": matching,
}
GROWTH = {"small": (100, 1_000), "full": (1_000, 10_000, 100_000)}


def measure(name: str, size: str) -> list[Row]:
    """The rows of a line; `growth-N` is an audit of N samples."""
    if name.startswith("growth-"):
        return growing(size, int(name.removeprefix("growth-")))
    return LINES[name](size)


def main() -> None:
    """Measure one line and write its rows as JSON."""
    parser = argparse.ArgumentParser(description="Measure one line of the benchmark.")
    parser.add_argument("name")
    parser.add_argument("--size", choices=GROWTH, default="small")
    parser.add_argument("--json", type=Path, required=True)
    asked = parser.parse_args()
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    rows: list[dict[str, Any]] = [asdict(row) for row in measure(asked.name, asked.size)]
    asked.json.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
