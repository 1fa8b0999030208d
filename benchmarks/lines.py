"""The lines of `python -m benchmarks`, each measured in a process of its own.

    python -m benchmarks.lines sampling --size small --json sampling.json

A row is what was measured, its value and unit, and, where there is a yardstick in the same run, the
ratio to it. Sizes: `small` only shows that every line works; `full` is what is reported.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # these two as the command sets them
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np

from benchmarks.machine import seconds
from benchmarks.made import GEOMETRIES, as_model, learnt_tokenizer, made_network, made_tokenizer


@dataclass(frozen=True)
class Row:
    """One figure. `ratio` is to `of`, measured in the same process."""

    what: str
    value: float
    unit: str
    ratio: float | None = None
    of: str = ""


# ------------------------------------------------------------------------------------- lines
def sampling(size: str) -> list[Row]:
    """The engine beside `transformers.generate` and the bound of this machine."""
    import torch

    if size != "full":
        return _sampled("small", [4, 8], 8, 1)
    if torch.cuda.is_available():
        return _sampled("gpt2-xl", [64, 256, 480], 256, 3)
    return _sampled("gpt2", [16, 64, 256], 64, 3) + _sampled("testbed", [64, 256], 64, 3)


def _sampled(shape: str, batches: list[int], tokens: int, repeats: int) -> list[Row]:
    from benchmarks.generation import engine, hugging_face
    from benchmarks.roofline import flops, sampling_bound

    network = made_network(shape)
    model = as_model(network, made_tokenizer(GEOMETRIES[shape]["n_vocab"]))
    best: dict[str, tuple[float, int]] = {}
    for batch in batches:
        ways = {
            "engine": engine(model, batch, tokens),
            "transformers.generate": hugging_face(network, batch, tokens),
        }
        for name, work in ways.items():
            work()
            rate = batch * tokens / seconds(work, repeats)[0]
            best[name] = max(best.get(name, (0.0, 0)), (rate, batch))
    # In turn, as a machine that is shared is not as fast in each.
    ours, batch = best["engine"]
    work, turns = engine(model, batch, tokens), []
    for _ in range(repeats):
        bare, bound = sampling_bound(model, batches[-1], tokens, repeats)
        turns.append((bare, bound, batch * tokens / seconds(work, 1)[0] / bound))
    bare, bound, of_bound = (statistics.median(column) for column in zip(*turns, strict=True))
    hf = best["transformers.generate"][0]
    return [
        Row(f"{shape}: matrix products alone", bare, "tokens/s"),
        Row(f"{shape}: matrix products alone", bare * flops(model) / 1e9, "GFLOP/s"),
        Row(f"{shape}: bound, products and cache", bound, "tokens/s"),
        Row(f"{shape}: transformers.generate, best batch", hf, "tokens/s", hf / bound, "the bound"),
        Row(f"{shape}: engine, best batch", ours, "tokens/s", of_bound, "the bound, in turn"),
        Row(f"{shape}: engine, best batch", ours, "tokens/s", ours / hf, "transformers.generate"),
    ]


def scoring(size: str) -> list[Row]:
    """Log-probabilities of given texts beside the products that they take, in turn.

    The ratio is the median of the turns': a machine that is shared is not as fast in each.
    """
    from benchmarks.roofline import products

    shape = "gpt2" if size == "full" else "small"
    model = as_model(made_network(shape), made_tokenizer(GEOMETRIES[shape]["n_vocab"]))
    n, length, turns = (64, 256, 9) if size == "full" else (8, 32, 2)
    ids = np.random.default_rng(0).integers(0, model.head.n_vocab, (n, length)).tolist()
    multiply = products(model, n * length // 8)
    multiply()
    model.token_stats(ids[:8])
    rates = []
    for _ in range(turns):
        bare = n * length / 8 / seconds(multiply, 3)[0]
        rates.append((bare, n * length / seconds(lambda: model.token_stats(ids), 1)[0]))
    bare, rate = (statistics.median(column) for column in zip(*rates, strict=True))
    ratio = statistics.median(mine / of for of, mine in rates)
    return [
        Row("matrix products alone", bare, "tokens/s"),
        Row("scoring given texts", rate, "tokens/s", ratio, "the products"),
    ]


def pipeline(size: str) -> list[Row]:
    """Sampling and all scores of an audit beside the public code's way of working."""
    from auditor.models.tiny_gpt2 import save_model
    from benchmarks.baseline import largest_difference
    from benchmarks.generation import engine
    from benchmarks.roofline import products

    full = size == "full"
    n, n_baseline, tokens = (512, 20, 256) if full else (32, 10, 16)
    shape = "gpt2" if full else "small"
    target, reference = made_network(shape), made_network(shape, seed=1)
    tokenizer = (learnt_tokenizer if full else made_tokenizer)(GEOMETRIES[shape]["n_vocab"])
    found, baseline = _public(target, reference, tokenizer, n_baseline, tokens)
    longer = sum(len(tokenizer(x.text.lower())["input_ids"]) for x in found) / n_baseline / tokens
    ours_of = as_model(target, tokenizer), as_model(reference, tokenizer)
    apart = largest_difference(found, *ours_of)
    engine(ours_of[0], 4, 4)()  # loops are compiled before the clock starts
    # A sample is drawn, judged by the reference, and once more in lower case.
    bare = 2048 / seconds(products(ours_of[0], 2048), 3)[0] / (tokens * (2 + longer))
    del ours_of
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        target, reference = target.float(), reference.float()
        as_published = _public(target, reference, tokenizer, n_baseline, tokens)[1]
        for name, network in (("target", target), ("reference", reference)):
            save_model(network, tokenizer, folder / name)
        del target, reference, network
        audits = {"audit": _audited(folder, n, tokens, 1)}
        if (cores := os.cpu_count() or 1) > 1:
            audits["audit, a worker a core"] = _audited(folder, n, tokens, cores)
    way = "public code's way"
    published = f"{way}, float32 as published"
    rows = [
        Row("lower-cased text", longer, "tokens a token"),
        Row(f"{way} ({n_baseline} samples)", baseline, "samples/s"),
        Row(published, as_published, "samples/s"),
        Row("matrix products alone", bare, "samples/s", bare / baseline, way),
    ]
    for name, rate in audits.items():
        what = f"{name} ({n} samples)"
        rows.append(Row(what, rate, "samples/s", rate / baseline, way))
        rows.append(Row(what, rate, "samples/s", rate / as_published, published))
    return [*rows, Row("largest difference of a sample's score", apart, "nats a token")]


def _audited(folder: Path, n: int, tokens: int, workers: int) -> float:
    """Samples/s of an audit up to its scores, loading models and starting workers included."""
    from auditor.audit.pipeline import run_audit

    begun = time.perf_counter()
    run_audit(
        model=str(folder / "target"),
        references={"reference": str(folder / "reference")},
        strategies=["top-n"],
        decoding={"max_new_tokens": tokens},
        samples=n,
        shard_size=-(-n // workers),  # a shard each
        workers=workers,
        out=str(folder / f"run-{workers}"),
        until="score",
    )
    return n / (time.perf_counter() - begun)


def _public(target, reference, tokenizer, n: int, tokens: int) -> tuple[list, float]:
    """What the public code's way gives, and its samples/s."""
    from benchmarks.baseline import run

    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = run(target, reference, tokenizer, n, tokens)
    return found, n / (time.perf_counter() - begun)


def dedup(size: str) -> list[Row]:
    """Coding trigrams of samples, and six short lists."""
    from benchmarks.dedup import N_ORDERS, TOP, _samples
    from reports.analysis.duplicates import Trigrams, select

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
    from benchmarks.matching import N_GREPPED, corpus_text, grep, make_queries, make_words, match

    megabytes, n = (512, 10_000) if size == "full" else (4, 1_000)
    queries = make_queries(make_words(np.random.default_rng(0)), n, np.random.default_rng(1))
    with tempfile.TemporaryDirectory() as scratch:
        path, patterns = Path(scratch) / "corpus.txt", Path(scratch) / "patterns.txt"
        with path.open("w", encoding="utf-8") as sink:
            sink.writelines(corpus_text(megabytes * 1_000_000, queries[::2], 0))
        patterns.write_text("\n".join(text[100:200] for text in queries[:N_GREPPED]) + "\n")
        ours = path.stat().st_size / 1e6 / match(path, queries, os.cpu_count() or 1).seconds
        other = path.stat().st_size / 1e6 / grep(path, patterns).seconds
    return [
        Row(f"grep, {N_GREPPED:,} queries", other, "MB/s"),
        Row(f"matching, {n:,} queries", ours, "MB/s", ours / other, "grep"),
    ]


def growing(size: str, n_samples: int) -> list[Row]:
    """A whole audit of that many samples of a tiny model, made on the spot."""
    from auditor.audit.pipeline import run_audit
    from auditor.models.tiny_gpt2 import build_gpt2, save_model

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
