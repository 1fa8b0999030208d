"""How long it takes to code and select 200,000 samples, and how much memory.

    python -m benchmarks.dedup --samples 200000

Two kinds of samples. "typical": words drawn by Zipf's law, one sample in ten a near copy of
another, lists of 100 filled soon. "worst": all samples are near copies of 90 texts, so no list of
100 ever fills and every order is walked to its end.
"""

import argparse
import resource
import sys
import time
from collections.abc import Iterator

import numpy as np

from reports.analysis.duplicates import Trigrams, mark_duplicates, select

N_WORDS = 180
VOCABULARY = 50_000
N_ORDERS = 6
TOP = 100


def _near_copy(family: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    copy = family.copy()
    at = rng.integers(0, N_WORDS, size=8)
    copy[at] = rng.integers(0, VOCABULARY, size=8)
    return copy


def _samples(n: int, *, n_families: int, copies: float, seed: int) -> Iterator[str]:
    """Texts of N_WORDS words; a share `copies` of them near copies of one of n_families."""
    rng = np.random.default_rng(seed)
    vocabulary = np.array([f"w{i:x}" for i in range(VOCABULARY)], dtype=object)
    chances = 1 / np.arange(1, VOCABULARY + 1)
    cumulative = np.cumsum(chances / chances.sum())

    def fresh() -> np.ndarray:
        drawn = np.searchsorted(cumulative, rng.random(N_WORDS))
        return np.minimum(drawn, VOCABULARY - 1)

    families = [fresh() for _ in range(n_families)]
    for _ in range(n):
        is_copy = rng.random() < copies
        ids = _near_copy(families[rng.integers(n_families)], rng) if is_copy else fresh()
        yield " ".join(vocabulary[ids])


def _seconds(since: float) -> str:
    return f"{time.perf_counter() - since:7.1f} s"


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def measure(kind: str, n: int, *, n_families: int, copies: float) -> None:
    """Print seconds of each phase for one kind of samples."""
    start = time.perf_counter()
    texts = list(_samples(n, n_families=n_families, copies=copies, seed=0))
    print(f"{kind:8} make {n:,} texts          {_seconds(start)}  (not counted)")
    start = time.perf_counter()
    trigrams = Trigrams.from_texts(texts)
    print(f"{kind:8} code                        {_seconds(start)}")
    rng = np.random.default_rng(1)
    start = time.perf_counter()
    lists = [select(trigrams, rng.permutation(n), TOP) for _ in range(N_ORDERS)]
    n_chosen = sum(len(selection.chosen) for selection in lists)
    n_skipped = sum(selection.n_skipped for selection in lists)
    print(
        f"{kind:8} select {N_ORDERS} lists             {_seconds(start)}  "
        f"({n_chosen:,} chosen, {n_skipped:,} skipped)"
    )
    union = np.unique(np.concatenate([selection.chosen for selection in lists]))
    start = time.perf_counter()
    n_marked = int((mark_duplicates(trigrams, union) >= 0).sum())
    print(f"{kind:8} mark {len(union):5,} chosen of all   {_seconds(start)}  ({n_marked:,} marked)")


def main() -> None:
    """Measure both kinds; print the peak memory of the process."""
    parser = argparse.ArgumentParser(description="Time deduplication.")
    parser.add_argument("--samples", type=int, default=50_000, help="texts of each kind")
    n = parser.parse_args().samples
    measure("typical", n, n_families=20, copies=0.1)
    measure("worst", n, n_families=90, copies=1.0)
    print(f"peak memory {_peak_mb():,.0f} MB, the texts themselves included")


if __name__ == "__main__":
    main()
