"""What measuring memorization costs a training: whole trainings with the callback and without.

    python -m benchmarks.hooks --steps 200

The model has 2.2 million parameters, the text is Python's documentation, the probe what
`auditor finetune --canaries` makes: 64 members, 64 held-out texts, 10 canaries with 128 controls,
measured as is the default: every 200 steps, at the start and at the end of each epoch. Trainings
alternate in one run, without, with, with, without, so that a machine that grows slower or faster
favours neither; `--once` does one of each.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from dataclasses import dataclass

import numpy as np
import torch

from auditor.canaries.canaries import make_canaries
from auditor.finetuning.callback import MemorizationCallback
from auditor.finetuning.probes import MemorizationProbe
from auditor.finetuning.rows import N_PROBED, Rows, encode_rows
from auditor.finetuning.training import Recipe, make_trainer, run
from auditor.models.preserve_state import isolated_rng
from auditor.models.tiny_gpt2 import build_gpt2, build_tokenizer
from auditor.testbed.testbed import cut

_EVERY = 200  # the callback's default


@dataclass(frozen=True)
class Trained:
    """Seconds of a training, of the measurements within it, how many they were; the weights."""

    seconds: float
    measuring: float
    n_measured: int
    weights: torch.Tensor


def _train(rows: Rows, probe: MemorizationProbe, steps: int, *, watched: bool) -> Trained:
    network = build_gpt2(n_vocab=2048, n_layer=4, width=192, n_head=6, context=288, seed=0)
    recipe = Recipe(rate=2e-3, batch=8, max_steps=steps)
    callback = MemorizationCallback(probe, every=_EVERY)
    with tempfile.TemporaryDirectory() as folder, isolated_rng(0), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = make_trainer(network, rows, recipe, folder=folder)
        if watched:
            callback.attach(trainer)
        begun = time.perf_counter()
        run(trainer, lambda n: None)
        seconds = time.perf_counter() - begun
    weights = torch.cat([p.detach().flatten() for p in network.parameters()])
    told = [row.seconds for row in callback.rows]
    return Trained(seconds, sum(told), len(told), weights)


def measure(steps: int, order: tuple[bool, ...]) -> list[tuple[bool, Trained]]:
    """A training for each of `order`: with the callback where it says True."""
    documents = cut(960, 900)
    tokenizer = build_tokenizer(documents, 2048)
    canaries = make_canaries("The code of vault {n} is {digits:8}.", count=10)
    rows = Rows.of([row for rows in encode_rows(tokenizer, documents[:800], 288) for row in rows])
    probe = MemorizationProbe(
        tokenizer,
        members=documents[:N_PROBED],
        heldout=documents[-N_PROBED:],
        canaries=[*canaries.canaries, *canaries.controls],
    )
    _train(rows, probe, 2, watched=True)  # what is compiled or allocated once is not counted
    return [(watched, _train(rows, probe, steps, watched=watched)) for watched in order]


def main() -> None:
    """Print the trainings, their ratio, and whether their weights are the same."""
    parser = argparse.ArgumentParser(description="Time the memorization callback.")
    parser.add_argument("--steps", type=int, default=200, help="steps of each training")
    parser.add_argument("--once", action="store_true", help="one training of each kind")
    args = parser.parse_args()
    done = measure(args.steps, (False, True) if args.once else (False, True, True, False))
    for watched, one in done:
        print(
            f"{'with' if watched else 'without':8} {one.seconds:7.1f} s"
            + (f", {one.n_measured} measurements {one.measuring:.2f} s" if watched else "")
        )
    with_it, without = (
        np.array([one.seconds for watched, one in done if watched == kind])
        for kind in (True, False)
    )
    same = all(torch.equal(one.weights, done[0][1].weights) for _, one in done)
    print(f"ratio    {with_it.mean() / without.mean():7.3f}  (each {_EVERY} steps, ends of epochs)")
    print(f"weights  {'the same, bit for bit' if same else 'DIFFER'}")


if __name__ == "__main__":
    main()
