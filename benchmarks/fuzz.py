"""Every reader, fed with files that are nearly right: only an AuditError may come out.

    python -m benchmarks.fuzz --inputs 100000
    python -m benchmarks.fuzz --engine atheris --inputs 100000      (extra `fuzz`)
    python -m benchmarks.fuzz --only run --only toml --inputs 20000

`hypothesis` changes the values of valid files, `atheris` their bytes, led by which lines of the
readers it reaches. An input that gets something else out is kept in --keep, and shown with where
it came from; so is one that ends the process, as a segmentation fault below Python does. Ends with
1 if there is one.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from multiprocessing import get_context
from pathlib import Path

from auditor.errors import AuditError
from benchmarks.fuzz_places import Place, Target
from benchmarks.fuzz_targets import targets

_LAST = "last-input"
_SECONDS = 30  # for one input; more is taken for a reader that hangs
ROOT = Path(__file__).parents[1]


@dataclass
class Outcome:
    """What became of a target's inputs: how many were refused, and each kind of fault once."""

    n_inputs: int = 0
    n_refused: int = 0
    faults: dict[str, tuple[bytes, str]] = field(default_factory=dict)


def try_input(target: Target, place: Place, raw: bytes, outcome: Outcome) -> None:
    """Read one input and note what came out."""
    outcome.n_inputs += 1
    try:
        with _time_limit():
            target.read(place, raw)
    except AuditError:
        outcome.n_refused += 1
    except Exception as error:
        where = _where(error)
        if where not in outcome.faults:
            outcome.faults[where] = (raw, str(error)[:160])


def _where(error: BaseException) -> str:
    """The error's kind and the last of our lines that it came through."""
    ours = [
        f"{Path(frame.filename).relative_to(ROOT)}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.startswith(f"{ROOT}/a")
    ]
    return f"{type(error).__name__} at {ours[-1] if ours else '?'}"


@contextmanager
def _time_limit() -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError(f"no end after {_SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def by_hypothesis(target: Target, place: Place, n_inputs: int, seed: int | None = None) -> Outcome:
    """`n_inputs` files drawn by hypothesis; the same ones for the same seed."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    outcome = Outcome()

    @settings(
        max_examples=n_inputs,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(target.draw(place))
    def read(raw: bytes) -> None:
        try_input(target, place, raw, outcome)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (read if seed is None else seeded(seed)(read))()
    return outcome


def by_hypothesis_apart(
    make: Callable[[], Target], n_inputs: int, seed: int | None = None
) -> Outcome:
    """`by_hypothesis` in a process of its own: that an input ends the process is a fault too."""
    with (
        tempfile.TemporaryDirectory(dir=_memory()) as scratch,
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
    ):
        try:
            return pool.submit(_noting, make, n_inputs, seed, Path(scratch)).result()
        except BrokenProcessPool:
            last = (Path(scratch) / _LAST).read_bytes()
            told = "after this input; what would have followed was not tried"
            return Outcome(int.from_bytes(last[:8]), faults={"the process ended": (last[8:], told)})


def _noting(make: Callable[[], Target], n_inputs: int, seed: int | None, folder: Path) -> Outcome:
    """`by_hypothesis` with each input noted in a file, and its number, before it is read."""
    target, numbers, last = make(), count(1), folder / _LAST

    def read(place: Place, raw: bytes) -> None:
        last.write_bytes(next(numbers).to_bytes(8) + raw)
        target.read(place, raw)

    return by_hypothesis(replace(target, read=read), Place(folder), n_inputs, seed)


def by_atheris(name: str, n_inputs: int, keep: Path) -> Outcome:
    """`n_inputs` files by atheris, in a process of its own, which the first fault ends."""
    command = [sys.executable, "-m", "benchmarks.fuzz", "--child", name, "--inputs", str(n_inputs)]
    command += ["--keep", str(keep)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)  # noqa: S603
    said = done.stdout + done.stderr
    runs = [int(line.split()[1]) for line in said.splitlines() if line.startswith("Done ")]
    outcome = Outcome(n_inputs=runs[-1] if runs else 0)
    if done.returncode or not runs:
        lines = [line for line in said.splitlines() if line.strip()]
        found = [line for line in lines if "Error" in line or "Exception" in line]
        outcome.faults["see its output"] = (said.encode(), " | ".join((found or lines)[-3:])[:300])
    return outcome


def _child(name: str, n_inputs: int, keep: Path) -> None:
    """Atheris over one target; it ends the process itself."""
    import atheris

    with atheris.instrument_imports(include=["auditor"]):
        import auditor.config.audit
        import auditor.corpus.reading
        import auditor.extraction.benchmark_files
        import auditor.sampling.few_shot  # noqa: F401
    scratch = tempfile.TemporaryDirectory(dir=_memory())
    place, target = Place(Path(scratch.name)), targets()[name]
    corpus = place.folder / "corpus"
    corpus.mkdir()
    for n, raw in enumerate(target.seeds(place) if target.seeds else []):
        (corpus / str(n)).write_bytes(raw)

    def one(raw: bytes) -> None:
        try:
            target.read(place, raw)
        except AuditError:
            return

    limits = [f"-runs={n_inputs}", f"-timeout={_SECONDS}", "-max_len=4096", "-seed=1"]
    keeping = f"-artifact_prefix={keep}/{name}-"
    atheris.Setup([sys.argv[0], *limits, keeping, "-rss_limit_mb=8192", str(corpus)], one)
    atheris.Fuzz()


def _memory() -> str | None:
    """A folder in memory, where there is one: an input is a file for a moment only."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108


def _target(name: str) -> Target:
    return targets()[name]


def shares(chosen: list[Target], n_inputs: int) -> dict[str, int]:
    """How many of the inputs each target gets."""
    whole = sum(target.share for target in chosen)
    return {t.name: max(1, round(n_inputs * t.share / whole)) for t in chosen}


def main() -> None:
    """Fuzz the targets; a line each, and every fault."""
    known = targets()
    parser = argparse.ArgumentParser(description="Feed every reader with broken files.")
    parser.add_argument("--inputs", type=int, default=5000, help="inputs in all")
    parser.add_argument("--engine", choices=("hypothesis", "atheris"), default="hypothesis")
    parser.add_argument("--only", action="append", choices=known, help="targets; default all")
    parser.add_argument("--seed", type=int, help="for hypothesis; default: by chance")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-faults"), help="folder of faults")
    parser.add_argument("--child", choices=known, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        _child(asked.child, asked.inputs, asked.keep)
    chosen = [known[name] for name in asked.only or known]
    if asked.engine == "atheris":
        chosen = [target for target in chosen if target.seeds]
    n_faults = n_inputs = 0
    for name, n in shares(chosen, asked.inputs).items():
        begun = time.perf_counter()
        if asked.engine == "atheris":
            asked.keep.mkdir(exist_ok=True)
            found = by_atheris(name, n, asked.keep)
        else:
            found = by_hypothesis_apart(partial(_target, name), n, asked.seed)
        spent = time.perf_counter() - begun
        n_inputs += found.n_inputs
        n_faults += len(found.faults)
        told = f"{found.n_inputs:8,} inputs"
        if asked.engine == "hypothesis":
            told += f", {found.n_refused:8,} refused"
        print(f"{name:22} {told}, {len(found.faults)} faults, {spent:6.1f} s", flush=True)
        for fault, (raw, told) in found.faults.items():
            asked.keep.mkdir(exist_ok=True)
            kept = asked.keep / f"{name}-{hashlib.sha256(raw).hexdigest()[:8]}"
            kept.write_bytes(raw)
            print(f"    {fault}: {told!r}  ({kept})", flush=True)
    print(f"{n_inputs:,} inputs by {asked.engine}, {n_faults} kinds of fault")
    sys.exit(1 if n_faults else 0)


if __name__ == "__main__":
    main()
