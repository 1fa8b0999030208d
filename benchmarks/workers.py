"""Two workers of this machine, sharing all work or one for each stage, beside one process.

    python -m benchmarks.workers --turns 3 --shards 8 --samples 64 --tokens 64

GPT-2 small's shape, random weights, one reference. Each way samples and scores the same shards
with as many threads as there are cores, one way after the other in every turn, since a machine that
is shared is not as fast in each; workers are warm (models loaded, one shard done) before the clock
starts. With a stage each, one worker samples and the other scores what is finished.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from auditor.audit.workers.processes import ProcessTeam, ProcessWorker
from auditor.audit.workers.tasks import Settings, Task
from auditor.config.audit import AuditConfig, make_config
from auditor.models.tiny_gpt2 import save_model
from auditor.runs.writer import RunWriter, open_for_writing
from benchmarks.machine import describe, print_table
from benchmarks.made import GEOMETRIES, learnt_tokenizer, made_network


class Way:
    """Workers of one run; `stages[i]` are what worker i may do, with `threads` threads."""

    def __init__(self, run: RunWriter, config: AuditConfig, stages: list[set[str]], threads: int):
        self.run, self.stages = run, stages
        self.team = ProcessTeam(len(stages))
        self.size = config.shard_size
        self.workers = [
            self.team.start(
                Settings(str(run.path), config.model_dump(mode="json"), {}, i, len(stages), threads)
            )
            for i in range(len(stages))
        ]
        for worker in self.workers:
            worker.receive()

    def work(self, shards: range) -> float:
        """Sample and score these shards; seconds."""
        begun = time.perf_counter()
        todo = {"sample": deque(self._task("sample", i) for i in shards), "score": deque[Task]()}
        n_open, idle = 2 * len(shards), list(self.workers)
        while n_open:
            for worker in list(idle):
                # What is sampled is scored first: less waits.
                may = self.stages[self.workers.index(worker)]
                if stage := next((s for s in ("score", "sample") if s in may and todo[s]), None):
                    idle.remove(worker)
                    worker.give(todo[stage].popleft())
            for worker in self.team.ready([w for w in self.workers if w not in idle]):
                n_open -= 1
                idle.append(worker)
                self._accept(worker, todo["score"])
        return time.perf_counter() - begun

    def _task(self, stage, number: int) -> Task:
        stem, at = f"top-n-{number:05}", number * self.size
        needs = {f"samples/{stem}.parquet": self.run.manifest.shards.get(f"samples/{stem}.parquet")}
        needs = {name: facts for name, facts in needs.items() if facts}
        return Task(stage, "top-n", stem, at, at + self.size, self.size, needs)

    def _accept(self, worker: ProcessWorker, scoring: deque[Task]) -> None:
        outcome = worker.receive()
        if outcome is None or outcome.error:
            raise SystemExit(f"a worker failed: {outcome and outcome.error}")
        self.run.manifest.shards |= outcome.files
        if outcome.task.stage == "sample":
            scoring.append(self._task("score", int(outcome.task.stem.rpartition("-")[2])))

    def close(self) -> None:
        """End the workers."""
        for worker in self.workers:
            worker.stop()


def main() -> None:
    """Measure the ways, and print them as one table."""
    parser = argparse.ArgumentParser(description="Workers beside one process.")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--shards", type=int, default=8, help="of a turn")
    parser.add_argument("--samples", type=int, default=64, help="of a shard")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--shape", choices=GEOMETRIES, default="gpt2")
    asked = parser.parse_args()
    print(describe())
    cores, both = os.cpu_count() or 1, {"sample", "score"}
    ways = {
        "one process": ([both], cores),
        "two workers, both stages each": ([both, both], max(1, cores // 2)),
        "two workers, a stage each": ([{"sample"}, {"score"}], max(1, cores // 2)),
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        tokenizer = learnt_tokenizer(GEOMETRIES[asked.shape]["n_vocab"])
        for seed, name in enumerate(("target", "reference")):
            save_model(made_network(asked.shape, seed).float(), tokenizer, folder / name)
        started = {
            name: stack.enter_context(_started(folder, name, *how, asked))
            for name, how in ways.items()
        }
        for turn in range(asked.turns):
            shards = range(turn * asked.shards, (turn + 1) * asked.shards)
            for name, way in started.items():
                spent[name].append(way.work(shards))
    first = spent["one process"]
    rows = []
    for name, seconds in spent.items():
        ratio = statistics.median(a / b for a, b in zip(first, seconds, strict=True))
        typical = statistics.median(seconds)
        least, most = min(seconds), max(seconds)
        rate = asked.shards * asked.samples / typical
        rows.append(
            [name, f"{typical:.1f} ({least:.1f}-{most:.1f})", f"{rate:.2f}", f"{ratio:.2f}"]
        )
    print_table(["way", "seconds a turn", "samples/s", "of one process, in turn"], rows)


@contextmanager
def _started(folder: Path, name: str, stages: list[set[str]], threads: int, asked) -> Iterator[Way]:
    """The workers of a way, warm; they are ended after."""
    n_timed = asked.turns * asked.shards
    config = make_config(
        {
            "model": str(folder / "target"),
            "references": {"reference": str(folder / "reference")},
            "strategies": ["top-n"],
            "decoding": {"max_new_tokens": asked.tokens},
            "samples": (n_timed + len(stages)) * asked.samples,
            "shard_size": asked.samples,
            "batch_size": asked.samples,
        }
    )
    with open_for_writing(folder / name.replace(" ", "-"), config) as run:
        way = Way(run, config, stages, threads)
        try:
            # Every worker does its stages once: models are loaded then.
            way.work(range(n_timed, n_timed + len(stages)))
            yield way
        finally:
            way.close()


if __name__ == "__main__":
    main()
