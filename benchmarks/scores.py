"""Time and memory of every score that needs no new pass of a model.

    python -m benchmarks.scores [--texts 100000] [--tokens 128]

Texts are drawn: ragged lengths around --tokens, log-probabilities and moments as of a model. What a
model must be run for (references, lower-cased texts, neighbours, the prefix of non-members) is
drawn too; only the arithmetic is timed.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable

import numpy as np

from attacks.scores.dc_pdd import dc_pdd
from attacks.scores.min_k import min_k, min_k_plus_plus, surp
from attacks.scores.neighbourhood import neighbourhood
from attacks.scores.paper import likelihood, lowercase, reference, window, zlib, zlib_bits
from attacks.scores.recall import recall
from attacks.scores.reference_difference import reference_difference
from attacks.scores.token_stats import TokenStats

N_VOCAB = 50_257
N_NEIGHBOURS = 2


def _drawn(rng: np.random.Generator, lengths: np.ndarray, ids: np.ndarray) -> TokenStats:
    """TokenStats of texts of these lengths and tokens."""
    n = len(ids)
    return TokenStats(
        np.concatenate([[0], np.cumsum(lengths)]),
        ids,
        -rng.gamma(0.7, 4.0, n).astype(np.float32),
        np.zeros(n, np.int32),
        -rng.uniform(0, 6, n).astype(np.float32),
        rng.uniform(0, 3, n).astype(np.float32),
    )


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _texts(rng: np.random.Generator, n: int, n_chars: int) -> list[str]:
    """Texts of some length, from a pool of words, for zlib."""
    words = np.array(
        ["".join(map(chr, rng.integers(97, 123, k))) for k in rng.integers(2, 9, 2000)]
    )
    return [" ".join(words[rng.integers(0, 2000, n_chars // 6)]) for _ in range(n)]


def main() -> None:
    """Print the seconds of each score, of all, and the peak memory."""
    parser = argparse.ArgumentParser(description="Time the scores.")
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--tokens", type=int, default=128, help="mean tokens of a text")
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 2 * asked.tokens + 1, asked.texts)
    ids = (rng.zipf(1.2, int(lengths.sum())) % N_VOCAB).astype(np.int32)
    target, other = (_drawn(rng, lengths, ids) for _ in range(2))
    counts = rng.integers(0, 10**6, N_VOCAB)
    texts = _texts(rng, asked.texts, 4 * asked.tokens)
    near = np.full(asked.texts, N_NEIGHBOURS)
    around = TokenStats.concatenate([target, other])
    given = f"{asked.texts:,} texts, {len(ids):,} tokens"
    print(f"{given}; inputs alone take {_peak_mb():,.0f} MB")
    bits = np.full(asked.texts, 800)
    work: dict[str, Callable[[], object]] = {
        "loss": lambda: likelihood(target),
        "zlib": lambda: zlib(target, bits),
        "zlib_bits (compressing)": lambda: zlib_bits(texts),
        "lowercase": lambda: lowercase(target, other),
        "reference": lambda: reference(target, other),
        "reference_difference": lambda: reference_difference(target, other),
        "window": lambda: window(target),
        "min_k": lambda: min_k(target),
        "min_k_plus_plus": lambda: min_k_plus_plus(target),
        "surp": lambda: surp(target),
        "recall": lambda: recall(target, other),
        f"neighbourhood ({N_NEIGHBOURS} each)": lambda: neighbourhood(target, around, near),
        "dc_pdd": lambda: dc_pdd(target, counts),
    }
    total = 0.0
    for name, score in work.items():
        begun = time.perf_counter()
        score()
        spent = time.perf_counter() - begun
        total += spent
        print(f"{name:<26}{spent:8.2f} s")
    print(f"{'all':<26}{total:8.2f} s   peak memory {_peak_mb():,.0f} MB")


if __name__ == "__main__":
    main()
