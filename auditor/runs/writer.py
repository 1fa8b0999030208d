"""A run's folder, opened for writing by one process: atomic files, and resuming."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from auditor.config.audit import AuditConfig
from auditor.errors import AuditError
from auditor.runs.manifest import AUDIT_FILE, MANIFEST, FileEntry, Manifest, read_manifest
from auditor.runs.remote import is_url, open_remote
from auditor.runs.result_folder import foreign_folder, refuse_other, write_json
from auditor.runs.run import Run
from auditor.system.atomic_files import LOCK, disk_trouble, owned, write_atomically


class RunWriter(Run):
    """A run's folder, open for writing by one process."""

    def write(self, name: str, table: pa.Table | pd.DataFrame, **facts: Any) -> None:
        """Write a Parquet file atomically and add it to the manifest."""
        self.register({name: self.write_table(name, table, **facts)})

    def write_bytes(self, name: str, raw: bytes, **facts: Any) -> None:
        """Write a file atomically and add it to the manifest."""
        self.register({name: self._write_file(name, raw, **facts)})

    def write_table(self, name: str, table: pa.Table | pd.DataFrame, **facts: Any) -> FileEntry:
        """Write a Parquet file atomically; returns its manifest entry.

        Does not touch the manifest, so other threads may call it.
        """
        if isinstance(table, pd.DataFrame):
            table = pa.Table.from_pandas(table, preserve_index=False)
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
        return self._write_file(name, sink.getvalue(), rows=table.num_rows, **facts)

    def _write_file(self, name: str, raw: bytes, **facts: Any) -> FileEntry:
        self.put(self.place(name), raw)
        return FileEntry(sha256=hashlib.sha256(raw).hexdigest(), bytes=len(raw), **facts)

    def register(self, files: dict[str, FileEntry]) -> None:
        """Add written files to the manifest."""
        self.manifest.shards |= files
        self.save()

    def put(self, path: Path, raw: bytes) -> None:
        """Write a file atomically."""
        write_atomically(path, raw)
        self.send(path)

    def send(self, path: Path) -> None:
        """Upload a file of a remote run."""
        if self.remote is not None:
            self.remote.push(path.relative_to(self.path).as_posix())

    def forget(self, *prefixes: str) -> None:
        """Remove files from the manifest, so that their stage runs again."""
        shards = self.manifest.shards
        for name in [n for n in shards if n.startswith(prefixes)]:
            del shards[name]

    def save(self) -> None:
        """Write the manifest."""
        write_json(self.path / MANIFEST, self.manifest.model_dump())
        self.send(self.path / MANIFEST)


@contextmanager
def open_for_writing(path: str | Path, config: AuditConfig) -> Iterator[RunWriter]:
    """Open a run's folder for this config, new or resumed, locked against other processes.

    A run at a URL is written through its local copy; the lock covers this machine only. Raises a
    RunError if the folder has other content or another config's run, or is in use.
    """
    there = open_remote(str(path)) if is_url(path) else None
    if there is not None and there.has_other_files():
        raise foreign_folder(path, "a run")
    path = Path(path) if there is None else there.here
    _refuse_other(path, config)
    with disk_trouble(path):
        is_new = not path.exists()
    with owned(path):
        # Check again under the lock: another process may have written meanwhile.
        _refuse_other(path, config)
        manifest = read_manifest(path)
        new = Manifest(config=config, digest=config.digest, shards={}, stages={}, complete=False)
        run = RunWriter(path, manifest or new, there)
        run.save()
        try:
            yield run
        except AuditError:
            if manifest is None:
                _delete_empty_run(path, is_new)
                if there is not None and not (path / MANIFEST).exists():
                    there.remove(MANIFEST)
                    there.remove(AUDIT_FILE)
            raise


def _refuse_other(path: Path, config: AuditConfig) -> None:
    manifest = read_manifest(path)
    there = None if manifest is None else manifest.config.identity()
    refuse_other(path, MANIFEST, "a run", there, config.identity())


def _delete_empty_run(path: Path, is_new: bool) -> None:
    """Remove a new folder if nothing was written, as after a misspelt model."""
    with suppress(OSError):
        written = {MANIFEST, AUDIT_FILE, LOCK}
        if {p.name for p in path.iterdir()} <= written:
            for name in written:
                (path / name).unlink(missing_ok=True)
            if is_new:
                path.rmdir()
