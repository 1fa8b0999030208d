"""How long the statistics of membership take, and how much memory.

    python -m benchmarks.membership --scores 100000 --texts 4000

Scores are normal draws, half members and half not; texts are words drawn by Zipf's law.
"""

import argparse
import resource
import sys
from collections.abc import Callable

import numpy as np

from attacks.statistics.blind_baselines import blind_scores
from attacks.statistics.discovery_curve import discovery_curve
from attacks.statistics.false_discovery import calibrated_list
from attacks.statistics.roc import auc, compare_aucs, tpr_at_fpr
from attacks.statistics.set_test import set_test
from benchmarks.machine import describe, print_table, seconds


def _texts(rng: np.random.Generator, n: int) -> list[str]:
    chances = 1 / np.arange(1, 20_001)
    drawn = rng.choice(20_000, size=(n, 180), p=chances / chances.sum())
    return [" ".join(f"w{word:x}" for word in row) for row in drawn]


def main() -> None:
    """Time each step once; print the peak memory of the process."""
    parser = argparse.ArgumentParser(description="Time the statistics of membership.")
    parser.add_argument("--scores", type=int, default=100_000, help="texts that have scores")
    parser.add_argument("--texts", type=int, default=4_000, help="texts of the blind baselines")
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    half, few = asked.scores // 2, asked.texts // 2
    members, nonmembers = rng.normal(0.3, 1, half), rng.normal(0, 1, half)
    other = members + rng.normal(size=half), nonmembers + rng.normal(size=half)
    sides = ({f"score {i}": rng.normal(size=few) for i in range(8)} for _ in range(2))
    suspects, held_out = sides
    texts = _texts(rng, few), _texts(rng, few)
    found = rng.integers(0, 20_000, half)
    steps: list[tuple[str, int, Callable[[], object]]] = [
        ("AUC with interval", 2 * half, lambda: auc(members, nonmembers)),
        ("paired comparison", 2 * half, lambda: compare_aucs((members, nonmembers), other)),
        ("TPR at three FPRs", 2 * half, lambda: tpr_at_fpr(members, nonmembers)),
        ("calibrated list", 2 * half, lambda: calibrated_list(members, nonmembers)),
        ("discovery curve", half, lambda: discovery_curve(np.arange(half), found, found)),
        ("test of a set, 8 scores", 2 * few, lambda: set_test(suspects, held_out)),
        ("four blind baselines", 2 * few, lambda: blind_scores(*texts)),
    ]
    print(describe())
    rows = [(name, f"{n:,}", f"{seconds(step, 1)[0]:.2f} s") for name, n, step in steps]
    print_table(("step", "texts", "time"), rows)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"peak memory {peak / 2 ** (20 if sys.platform == 'darwin' else 10):,.0f} MB")


if __name__ == "__main__":
    main()
