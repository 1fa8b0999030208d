"""A run's folder, open for writing by one process: files whole or not at all, and resuming."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from auditor.config.audit import AuditConfig, make_config
from auditor.errors import AuditError, RunError
from auditor.runs.manifest import FORMAT, MANIFEST, differences, read_manifest
from auditor.runs.remote import is_url, open_elsewhere
from auditor.runs.run import Run
from auditor.system.atomic_files import (
    LOCK,
    disk_trouble,
    locked,
    make_own,
    part_name,
    write_atomically,
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
