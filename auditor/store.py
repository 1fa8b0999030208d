"""A run's folder: shards, manifest, resume."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from auditor.claim_tables import ClaimTables
from auditor.config import AuditConfig, make_config
from auditor.damage import altered
from auditor.elsewhere import Elsewhere, is_url, open_elsewhere
from auditor.errors import AuditError, RunError
from auditor.frames import read_columns, read_frame
from auditor.manifest import FORMAT, MANIFEST, differences, read_manifest
from auditor.storage import LOCK, disk_trouble, locked, make_own, part_name, write_atomically
from reports import schema


class Run(ClaimTables):
    """A run's folder, open for reading; `auditor.load_run(path)` makes one.

    `samples()`, `scores()`, `candidates()`, `summary()` and `matches()` are DataFrames whose
    columns docs/columns.md explains; where a stage has not run yet they raise a RunError. Given
    `columns` (names, or patterns as `rank:*`), they read no others from the disk. A file that is
    read whole is checked against the sha256 that the manifest has of it, columns by the checksums
    of their pages. `manifest` says what was asked and what ran.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], elsewhere: Elsewhere | None = None):
        self.path, self.manifest, self.elsewhere = path, manifest, elsewhere

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

    def samples(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Every sample: text, prompt, tokens and their log-probabilities."""
        return read_frame(self, schema.SAMPLES, columns)

    def scores(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Every sample's scores, higher = more likely memorized."""
        return read_frame(self, schema.SCORES, columns)

    def candidates(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The short lists' samples, one row each, with scores, ranks and verdict."""
        return read_frame(self, schema.CANDIDATES, columns)

    def summary(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Precision of each strategy and score (the paper's Table 2), one row each."""
        return read_frame(self, schema.SUMMARY, columns)

    def matches(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Every maximal verbatim overlap of a candidate with the training text."""
        return read_frame(self, schema.MATCHES, columns)

    def _repr_html_(self) -> str:
        """What Jupyter shows of a run."""
        from auditor.run_card import run_card

        return run_card(self)

    def exposure(self) -> pd.DataFrame:
        """How exposed the audit's canaries are: a row a canary and control, no secrets."""
        if self.config.canaries is None:
            raise RunError(
                f"{self.path} has no exposure: it was given no canaries. Start another run with "
                "--canaries FILE."
            )
        if "exposure.parquet" not in self.manifest["shards"]:
            raise RunError(
                f"{self.path} has no exposure yet. Finish the run with: auditor audit --resume "
                f"{self.path}."
            )
        return self.read("exposure.parquet").to_pandas()

    def notes(self) -> list[str]:
        """What a user should know of how it went: memory that ran out, lines that were skipped."""
        told = [note["sentence"] for note in self.manifest.get("notes", [])]
        for score, reasons in self.undefined().items():
            why = "; ".join(f"{n:,}: {reason}" for reason, n in reasons.items())
            told.append(f"{score} is undefined for {sum(reasons.values()):,} samples ({why}).")
        return told

    def undefined(self) -> dict[str, dict[str, int]]:
        """How many samples have no value of a score, by reason: {score: {reason: count}}."""
        total: dict[str, dict[str, int]] = {}
        for facts in self.manifest["shards"].values():
            for score, reasons in facts.get("undefined", {}).items():
                known = total.setdefault(score, {})
                for reason, n in reasons.items():
                    known[reason] = known.get(reason, 0) + n
        return total

    def has(self, name: str) -> bool:
        """Whether a file of the run is there as the manifest knows it (by its size)."""
        known = self.manifest["shards"].get(name)
        if known is None:
            return False
        with suppress(OSError):
            if (self.path / name).stat().st_size == known["bytes"]:
                return True
        if self.elsewhere is None or not self.elsewhere.pull(name):
            return False
        return (self.path / name).stat().st_size == known["bytes"]

    def read(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """A Parquet file of the run, or some columns of it; checked as `Run` says."""
        if columns is not None and self.has(name):
            place = self.place(name)
            # A page with another checksum than its own: the whole file is read, to say what it is.
            with suppress(OSError, ValueError, pa.ArrowException):
                return read_columns(place, columns)
        self.has(name)  # a run elsewhere fetches it
        known = self.manifest["shards"].get(name)
        try:
            raw = self.place(name).read_bytes()
        except OSError as error:
            raise RunError(
                f"{self.path / name} cannot be read ({error.strerror}). If it is gone, it is made "
                f"anew by: auditor audit --resume {self.path}"
            ) from None
        if known is None or hashlib.sha256(raw).hexdigest() != known["sha256"]:
            raise RunError(altered(self.path / name, raw, known))
        try:
            return pq.read_table(io.BytesIO(raw), columns=columns)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self.unreadable(name, error) from None

    def fetch(self) -> None:
        """Bring every file of a run that lies elsewhere into its copy here."""
        if self.elsewhere is not None:
            for name in self.manifest["shards"]:
                self.has(name)

    def place(self, name: str) -> Path:
        """Where a file of the run lies. No link leads out of the run's folder."""
        path = self.path / name
        try:
            real = path.resolve()
            is_inside = real.is_relative_to(self.path.resolve())
        except (OSError, RuntimeError):  # links that go round in a circle
            real, is_inside = path, False
        if not is_inside:
            raise RunError(
                f"{path} leads out of the run's folder, to {real}. Put the file itself in its "
                "place, or use another --out."
            )
        return path

    def unreadable(self, name: str, error: Exception) -> RunError:
        """The error that tells of a file that is whole and yet no table."""
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        return RunError(
            f"{self.path / name} is no Parquet that can be read ({why}). Delete that file and "
            "start the run again: it is made anew."
        )


class RunWriter(Run):
    """A run's folder, open for writing by one process."""

    def write(self, name: str, table: pa.Table | pd.DataFrame, **facts: Any) -> None:
        """A Parquet file, whole or not at all, entered into the manifest."""
        self.enter({name: self.lay(name, table, **facts)})

    def write_bytes(self, name: str, raw: bytes, **facts: Any) -> None:
        """A file of any kind, whole or not at all, entered into the manifest."""
        self.enter({name: self._lay_bytes(name, raw, **facts)})

    def lay(self, name: str, table: pa.Table | pd.DataFrame, **facts: Any) -> dict[str, Any]:
        """A Parquet file, whole or not at all, and what the manifest is to know of it.

        Touches no manifest: another thread may call it.
        """
        if isinstance(table, pd.DataFrame):
            table = pa.Table.from_pandas(table, preserve_index=False)
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
        return self._lay_bytes(name, sink.getvalue(), rows=table.num_rows, **facts)

    def _lay_bytes(self, name: str, raw: bytes, **facts: Any) -> dict[str, Any]:
        self.put(self.place(name), raw)
        return {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw), **facts}

    def enter(self, files: dict[str, dict[str, Any]]) -> None:
        """Files that are laid, into the manifest."""
        self.manifest["shards"] |= files
        self.save()

    def put(self, path: Path, raw: bytes) -> None:
        """The bytes under that name, whole or not at all."""
        write_atomically(path, raw)
        self.send(path)

    def send(self, path: Path) -> None:
        """A file that is written goes to where the run lies, if that is elsewhere."""
        if self.elsewhere is not None:
            self.elsewhere.push(path.relative_to(self.path).as_posix())

    def forget(self, *prefixes: str) -> None:
        """Take files out of the manifest, so that their stage runs again."""
        shards = self.manifest["shards"]
        for name in [n for n in shards if n.startswith(prefixes)]:
            del shards[name]

    def save(self) -> None:
        """The manifest, as it stands."""
        raw = json.dumps(self.manifest, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
        # A lone surrogate (from a file's name that is not UTF-8) becomes its JSON escape.
        write_atomically(self.path / MANIFEST, raw.encode("utf-8", "backslashreplace"))
        self.send(self.path / MANIFEST)


def load_run(path: str | Path) -> Run:
    """Open a run's folder for reading.

    Parameters
    ----------
    path : the folder that holds manifest.json, or a URL of one (s3://bucket/run)

    Returns
    -------
    Run

    Raises
    ------
    RunError
        If there is none, it is damaged, or it was written by another version.
    """
    there = open_elsewhere(str(path)) if is_url(path) else None
    folder = Path(path) if there is None else there.here
    manifest = read_manifest(folder)
    if manifest is None:
        raise RunError(f"{path} is no run folder: it has no {MANIFEST}. Give the folder of a run.")
    return Run(folder, manifest, there)


@contextmanager
def open_for_writing(path: str | Path, config: AuditConfig) -> Iterator[RunWriter]:
    """A run's folder for this config, new or to be resumed, locked against a second process.

    A URL is written by way of its copy here; the lock keeps out processes of this machine alone.

    Raises
    ------
    RunError
        If the folder holds something else, another config's run, or is in use.
    """
    there = open_elsewhere(str(path)) if is_url(path) else None
    if there is not None and there.holds_other_files():
        raise RunError(_not_a_run(path))
    path = Path(path) if there is None else there.here
    _refuse_other(path, config)
    with disk_trouble(path):
        is_new = not path.exists()
    make_own(path)
    with locked(path):
        # Once more, now that nobody else can write: another process may have been faster.
        _refuse_other(path, config)
        manifest = read_manifest(path)
        begun = manifest or {
            "format": FORMAT,
            "config": config.identity(),
            "digest": config.digest,
            "shards": {},
            "stages": {},
            "complete": False,
        }
        run = RunWriter(path, begun, there)
        run.save()
        try:
            yield run
        except AuditError:
            if manifest is None:
                _leave_nothing(path, is_new)
                if there is not None and not (path / MANIFEST).exists():
                    there.remove(MANIFEST)
            raise


def _refuse_other(path: Path, config: AuditConfig) -> None:
    """An error unless the folder is free, or holds a run of this config."""
    manifest = read_manifest(path)
    with disk_trouble(path):
        if manifest is None and path.exists() and (not path.is_dir() or _visible(path)):
            raise RunError(_not_a_run(path))
    # A setting that came after the run was begun has its default there.
    there = config.identity() if manifest is None else make_config(manifest["config"]).identity()
    if different := differences(there, config.identity()):
        raise RunError(
            f"--out {path} holds another run: {'; '.join(different)}. Choose another --out, ask "
            "for the same again to resume it, or delete the folder."
        )


def _not_a_run(path: str | Path) -> str:
    return f"--out {path} exists and is not a run's folder. Choose another --out, or empty it."


def _leave_nothing(path: Path, is_new: bool) -> None:
    """Take back a folder in which nothing was made yet, as after a misspelt model."""
    with suppress(OSError):
        if {p.name for p in path.iterdir()} == {MANIFEST, LOCK}:
            (path / MANIFEST).unlink()
            (path / LOCK).unlink()
            if is_new:
                path.rmdir()


def _visible(path: Path) -> bool:
    """Whether a folder holds more than what a run that was killed at once leaves."""
    begun = {LOCK, part_name(path / MANIFEST).name}
    return any(p.name not in begun for p in path.iterdir())
