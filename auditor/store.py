"""A run's folder: shards, manifest, atomic writes, resume."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from auditor.config import AuditConfig, make_config
from auditor.errors import RunError

FORMAT = 1
_MANIFEST = "manifest.json"


class Run:
    """A run's folder, open for reading; `auditor.load_run(path)` makes one.

    `samples()`, `scores()`, `candidates()`, `summary()` and `matches()` are DataFrames whose
    columns `reports.schema` explains. `manifest` says what was asked and what ran.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]):
        self.path, self.manifest = path, manifest

    def __repr__(self) -> str:
        state = "complete" if self.complete else "incomplete"
        return f"Run({str(self.path)!r}, {self.manifest['config']['model']}, {state})"

    @property
    def complete(self) -> bool:
        """Whether every stage has ended; written last."""
        return bool(self.manifest.get("complete"))

    @property
    def config(self) -> AuditConfig:
        """What was asked."""
        return make_config(self.manifest["config"])

    @property
    def report(self) -> Path:
        """The page to open."""
        return self.path / "report.html"

    def samples(self, columns: list[str] | None = None) -> pd.DataFrame:
        """Every sample: text, prompt, tokens and their log-probabilities."""
        return self._stack("samples", columns)

    def scores(self) -> pd.DataFrame:
        """Every sample's scores, higher = more likely memorized."""
        return self._stack("scores")

    def candidates(self) -> pd.DataFrame:
        """The short lists' samples, one row each, with scores, ranks and verdict."""
        return self._frame("candidates.parquet", "report")

    def summary(self) -> pd.DataFrame:
        """Precision of each strategy and score (the paper's Table 2), one row each."""
        return self._frame("summary.parquet", "report")

    def matches(self) -> pd.DataFrame:
        """Every maximal verbatim overlap of a candidate with the training text."""
        return self._frame("matches/matches.parquet", "verify")

    def _frame(self, name: str, stage: str) -> pd.DataFrame:
        if name not in self.manifest["shards"]:
            raise RunError(
                f"{self.path} has no {Path(name).stem} yet: stage {stage!r} has not run. "
                f"Finish the run with: auditor audit --resume {self.path}."
            )
        return self.read(name).to_pandas()

    def _stack(self, stage: str, columns: list[str] | None = None) -> pd.DataFrame:
        names = [n for n in self.manifest["shards"] if n.startswith(stage + "/")]
        if not names:
            raise RunError(f"{self.path} has no {stage} yet. Finish the run first.")
        frames = [self.read(n, columns).to_pandas() for n in sorted(names, key=self._shard_order)]
        return pd.concat(frames, ignore_index=True)

    def _shard_order(self, name: str) -> tuple[int, str]:
        order = [s["name"] for s in self.manifest["config"]["strategies"]]
        strategy = Path(name).stem.rpartition("-")[0]
        return (order.index(strategy) if strategy in order else len(order), name)

    def has(self, name: str) -> bool:
        """Whether a file of the run is there as the manifest knows it (by its size)."""
        known = self.manifest["shards"].get(name)
        try:
            return known is not None and (self.path / name).stat().st_size == known["bytes"]
        except OSError:
            return False

    def read(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """A Parquet file of the run, checked against its sha256."""
        known = self.manifest["shards"].get(name)
        try:
            raw = (self.path / name).read_bytes()
        except OSError as error:
            raise RunError(f"{self.path / name} cannot be read ({error.strerror}).") from None
        if known is None or hashlib.sha256(raw).hexdigest() != known["sha256"]:
            raise RunError(
                f"{self.path / name} is not what this run wrote (its sha256 differs from the "
                "manifest's). Delete that file and start the run again: it is made anew."
            )
        return pq.read_table(io.BytesIO(raw), columns=columns)


class RunWriter(Run):
    """A run's folder, open for writing by one process."""

    def write(self, name: str, table: pa.Table | pd.DataFrame, **facts: Any) -> None:
        """A Parquet file, whole or not at all, entered into the manifest."""
        if isinstance(table, pd.DataFrame):
            table = pa.Table.from_pandas(table, preserve_index=False)
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        self.write_bytes(name, sink.getvalue(), rows=table.num_rows, **facts)

    def write_bytes(self, name: str, raw: bytes, **facts: Any) -> None:
        """A file of any kind, whole or not at all, entered into the manifest."""
        write_atomically(self.path / name, raw)
        digest = hashlib.sha256(raw).hexdigest()
        self.manifest["shards"][name] = {"sha256": digest, "bytes": len(raw), **facts}
        self.save()

    def forget(self, *prefixes: str) -> None:
        """Take files out of the manifest, so that their stage runs again."""
        shards = self.manifest["shards"]
        for name in [n for n in shards if n.startswith(prefixes)]:
            del shards[name]

    def save(self) -> None:
        """The manifest, as it stands."""
        raw = json.dumps(self.manifest, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
        write_atomically(self.path / _MANIFEST, raw.encode())


def load_run(path: str | Path) -> Run:
    """Open a run's folder for reading.

    Raises
    ------
    RunError
        If there is none, or it was written by another version.
    """
    path = Path(path)
    manifest = _read_manifest(path)
    if manifest is None:
        raise RunError(f"{path} is no run folder: it has no {_MANIFEST}. Give the folder of a run.")
    return Run(path, manifest)


@contextmanager
def open_for_writing(path: Path, config: AuditConfig) -> Iterator[RunWriter]:
    """A run's folder for this config, new or to be resumed, locked against a second process.

    Raises
    ------
    RunError
        If the folder holds something else, another config's run, or is in use.
    """
    manifest = _read_manifest(path)
    if manifest is None and path.exists() and (not path.is_dir() or _visible(path)):
        raise RunError(
            f"--out {path} exists and is not a run's folder. Choose another --out, or empty it."
        )
    if manifest is not None and (different := differences(manifest["config"], config.identity())):
        raise RunError(
            f"--out {path} holds another run: {'; '.join(different)}. Choose another --out, ask "
            "for the same again to resume it, or delete the folder."
        )
    with _storage(path):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.chmod(0o700)
    with (path / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(
                f"{path} is being written by another process. Wait for it, or choose another --out."
            ) from None
        manifest = _read_manifest(path) or {
            "format": FORMAT,
            "config": config.identity(),
            "digest": config.digest,
            "shards": {},
            "stages": {},
            "complete": False,
        }
        run = RunWriter(path, manifest)
        run.save()
        yield run


def differences(there: dict[str, Any], asked: dict[str, Any], prefix: str = "") -> list[str]:
    """What differs between two configs, a phrase each.

    >>> differences({"seed": 1, "top": 5}, {"seed": 2, "top": 5})
    ['seed is 1 there, 2 asked']
    """
    out = []
    for key in sorted({*there, *asked}):
        old, new = there.get(key), asked.get(key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            out += differences(old, new, f"{prefix}{key}.")
        elif key == "strategies" and isinstance(old, list) and isinstance(new, list):
            named = [{s["name"]: s for s in side} for side in (old, new)]
            out += differences(*named, prefix="strategy ")
        else:
            shown = [json.dumps(v, ensure_ascii=False) for v in (old, new)]
            if any(len(s) > 60 for s in shown):
                out.append(f"{prefix}{key} differs")
            else:
                out.append(f"{prefix}{key} is {shown[0]} there, {shown[1]} asked")
    return out


def _visible(path: Path) -> bool:
    return any(p.name != ".lock" for p in path.iterdir())


def _read_manifest(path: Path) -> dict[str, Any] | None:
    file = path / _MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise RunError(
            f"{file} cannot be read ({error}). The run's folder is damaged: use another --out."
        ) from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise RunError(
            f"{path} was written by another version (format {found!r}; this one reads {FORMAT}). "
            "Make the run again."
        )
    return manifest


def write_atomically(path: Path, raw: bytes) -> None:
    """All of the bytes under that name, or the file as it was before."""
    scratch = path.with_name(f".{path.name}.part")
    with _storage(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as sink:
                sink.write(raw)
                sink.flush()
                os.fsync(sink.fileno())
            os.replace(scratch, path)
        except OSError:
            scratch.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def _storage(path: Path) -> Iterator[None]:
    """Trouble with the disk as one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                f"The disk is full: {path.name} could not be written. What was written before is "
                "whole; free some space and start the same command again to go on."
            ) from None
        raise RunError(
            f"{path} cannot be written ({error.strerror}). Check its permissions, or choose "
            "another --out."
        ) from None
