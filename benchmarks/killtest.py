"""Killed by SIGKILL at random moments of all stages, and started again, a run ends in the same.

    python -m benchmarks.killtest --kills 200

A stage is chosen by chance, and within it the moment; the process that works on the run is killed
there, and another takes its place and is killed in a later one, until one comes to the end. What
it leaves must be, to the byte, what an uninterrupted run leaves: the same files, none besides,
every sample once. Ends with 1 if it is not so.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import mmap
import os
import pkgutil
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from auditor.system.progress import NullProgress

WORDS = "the quick brown fox jumps over the lazy dog and runs away from all of them"
_POLL = 0.0005
_NAME_BYTES = 64
_BEGIN = "begin"
# What tells of time and place, not of content: it differs between any two runs.
_CHANGES = ("begun", "stages", "versions")
_PAGES = ("report.html", "report.md")


class Watched(NullProgress):
    """Progress whose present stage another process can read."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _NAME_BYTES)

    @contextmanager
    def stage(self, name: str, total: float | None, unit: str) -> Iterator[Any]:
        """Mark the stage; it stays marked until the next begins."""
        self.mark(name)
        with super().stage(name, total, unit) as bar:
            yield bar

    def mark(self, name: str) -> None:
        """Say what stage it is."""
        self._memory[:] = name.encode()[:_NAME_BYTES].ljust(_NAME_BYTES)

    @property
    def now(self) -> str:
        """The stage that a process which shares the memory has come to."""
        return self._memory[:].decode().strip()


@dataclass
class Whole:
    """The run that nothing disturbs: its files, and how long each stage took, in seconds."""

    files: dict[str, bytes]
    stages: dict[str, float]
    seconds: float


@dataclass
class Tally:
    """What the test counted."""

    kills: Counter[str] = field(default_factory=Counter)
    n_runs: int = 0
    wrong: list[str] = field(default_factory=list)


def settings(folder: Path) -> dict[str, Any]:
    """A small audit with every stage in it: two strategies, a reference, training text."""
    from auditor.models.tiny_gpt2 import build_gpt2, build_tokenizer, save_model

    tokenizer = build_tokenizer([WORDS] * 4, 300)
    for name, seed in (("target", 0), ("other", 1)):
        network = build_gpt2(n_vocab=300, n_layer=1, width=16, n_head=2, context=64, seed=seed)
        save_model(network, tokenizer, folder / name)
    return {
        "model": str(folder / "target"),
        "references": {"other": str(folder / "other")},
        "strategies": ["top-n", "pure"],
        "decoding": {"max_new_tokens": 24},
        "samples": 24,
        "top": 6,
        "shard_size": 8,
        "min_match_chars": 12,
        "corpus": [str(folder / "corpus.jsonl")],
        "device": "cpu",
        "batch_size": 16,
    }


def import_all() -> None:
    """All that a run imports, and what it compiles: a process that is forked has it at once."""
    import torch

    import auditor.audit
    import auditor.corpus
    import auditor.sampling
    import reports
    from auditor.corpus.reading import read_corpus
    from auditor.matching.verbatim import Query, find_matches
    from auditor.models.kernels.logit_rows import row_sums, top_ids

    for room in (auditor.corpus, auditor.sampling, auditor.audit, reports):
        for found in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            importlib.import_module(found.name)
    query = Query("a", WORDS, np.arange(1, len(WORDS) + 1))
    find_matches([query], read_corpus([__file__]), n_threads=1)
    for dtype in (torch.float32, torch.bfloat16):
        row = torch.zeros(1, 2, dtype=dtype)
        top_ids(row, 1)
        row_sums(row, torch.zeros(1, dtype=torch.int64), torch.zeros(1), torch.zeros(1))


def _work(given: dict[str, Any], out: Path, watched: Watched, until: str = "report") -> int:
    """A process that makes the run; its id."""
    sys.stdout.flush()
    watched.mark(_BEGIN)
    child = os.fork()
    if child:
        return child
    try:
        from auditor.audit.pipeline import run_audit

        run_audit(**given, out=str(out), progress=watched, until=until)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _wait(child: int) -> int:
    """The exit code of a process, or minus its signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def undisturbed(given: dict[str, Any], folder: Path) -> Whole:
    """The run that nothing stops, made of training text that holds some of its samples."""
    from auditor.runs.run import load_run

    watched = Watched()
    corpus = Path(given["corpus"][0])
    corpus.write_text(json.dumps({"text": WORDS}) + "\n", encoding="utf-8")
    if _wait(_work(given, folder / "drawn", watched, until="sample")):
        raise RuntimeError("the first run failed")
    texts = load_run(folder / "drawn").samples()["text"]
    lines = [json.dumps({"id": i, "text": f"{WORDS} {t}"}) for i, t in enumerate(texts[::2])]
    corpus.write_text("\n".join(lines) + "\n", encoding="utf-8")
    begun = time.perf_counter()
    child = _work(given, folder / "whole", watched)
    starts: dict[str, float] = {}
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        starts.setdefault(watched.now, time.perf_counter() - begun)
        time.sleep(_POLL)
    seconds = time.perf_counter() - begun
    run = load_run(folder / "whole")
    if not run.complete or not len(run.matches()):
        raise RuntimeError("the run that nothing disturbed is not whole, or found nothing")
    ends = [*list(starts.values())[1:], seconds]
    lengths = {name: end - start for (name, start), end in zip(starts.items(), ends, strict=True)}
    return Whole(contents(run.path), lengths, seconds)


def contents(path: Path) -> dict[str, bytes]:
    """What a run's folder holds: each file but the pages by its bytes, the manifest without times.

    The pages tell the time at which the run was begun; they must be what the manifest says.
    """
    found = {}
    for file in sorted(p for p in path.rglob("*") if not p.is_dir()):
        name, raw = file.relative_to(path).as_posix(), file.read_bytes()
        if name == "manifest.json":
            manifest = {k: v for k, v in json.loads(raw).items() if k not in _CHANGES}
            for page in _PAGES:
                known = manifest["shards"].get(page, {})
                known["sha256"] = known.get("sha256") == _sha256(path / page)
                known.pop("bytes", None)
            raw = json.dumps(manifest, indent=1, sort_keys=True).encode()
        found[name] = b"" if name in _PAGES else raw
    return found


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def kill_once(child: int, watched: Watched, stage: str, delay: float) -> int:
    """Kill a process `delay` seconds into a stage; how it ended, which may have been before."""
    at = None
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        now = time.perf_counter()
        if at is None and watched.now == stage:
            at = now + delay
        if at is not None and now >= at:
            os.kill(child, signal.SIGKILL)
            return _wait(child)
        time.sleep(_POLL)


def kill_test(
    folder: Path, n_kills: int, *, seed: int, say: Callable[[str], None] = lambda _: None
) -> Tally:
    """Kill until `n_kills` processes died, and look at every run that came to its end.

    Parameters
    ----------
    folder : empty, to work in
    n_kills : int
    seed : decides stages and moments, as far as the machine keeps its pace
    say : told of each run that ended

    Returns
    -------
    Tally
    """
    import torch

    torch.set_num_threads(1)  # threads would not live on in a process that is forked
    import_all()
    given, chance, tally = settings(folder), random.Random(seed), Tally()  # noqa: S311
    whole, watched = undisturbed(given, folder), Watched()
    say(f"undisturbed: {whole.seconds:.2f} s, {len(whole.files)} files")
    while tally.kills.total() < n_kills:
        out = folder / f"run-{tally.n_runs:04}"
        n_here, code, left = 0, -signal.SIGKILL, list(whole.stages)
        while code == -signal.SIGKILL:
            child = _work(given, out, watched)
            if not left or tally.kills.total() == n_kills:
                code = _wait(child)
                break
            stage = chance.choice(left)
            code = kill_once(child, watched, stage, chance.random() * whole.stages[stage])
            if code == -signal.SIGKILL:
                tally.kills[watched.now] += 1
                n_here += 1
                # What is done is not done again; the last stage would be killed for ever.
                left = left[left.index(watched.now) + 1 :]
        if code:
            tally.wrong.append(f"{out.name} could not be gone on with (exit code {code})")
        tally.n_runs += 1
        tally.wrong += differences(out.name, whole.files, contents(out))
        say(f"{out.name}: {n_here} kills, {len(tally.wrong)} wrong so far")
        shutil.rmtree(out)
    return tally


def differences(name: str, wanted: dict[str, bytes], there: dict[str, bytes]) -> list[str]:
    """What is lost, over, or other than it should be."""
    lost = [f"{name} has lost {file}" for file in wanted.keys() - there.keys()]
    over = [f"{name} has {file} besides" for file in there.keys() - wanted.keys()]
    both = wanted.keys() & there.keys()
    return lost + over + [f"{name}: {f} differs" for f in sorted(both) if wanted[f] != there[f]]


def main() -> None:
    """Run the test, and tell how many kills there were in which stage."""
    parser = argparse.ArgumentParser(description="Kill a run at random moments; it must not mind.")
    parser.add_argument("--kills", type=int, default=20, help="processes to kill")
    parser.add_argument("--seed", type=int, default=0, help="decides stages and moments")
    asked = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads would not live on either
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        tally = kill_test(Path(scratch), asked.kills, seed=asked.seed, say=print)
    for stage, n in tally.kills.most_common():
        print(f"{stage:24} {n:5} kills")
    print(
        f"{tally.kills.total()} kills, {tally.n_runs} runs brought to their end, "
        f"{len(tally.wrong)} wrong, {time.perf_counter() - begun:.0f} s"
    )
    print(*tally.wrong, sep="\n", end="")
    sys.exit(1 if tally.wrong else 0)


if __name__ == "__main__":
    main()
