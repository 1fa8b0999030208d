"""Runs on remote storage: s3://bucket/run, gs://, or any URL that fsspec supports.

The work is done in a local copy in the cache folder. Each file is uploaded when it is complete, the
manifest after the files that it lists; files are downloaded on first use. So a run can be resumed
on any machine, and workers on several machines need no shared disk. There is no locking across
machines: two that write the same URL at once are not detected.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditor.errors import RunError
from auditor.runs.manifest import MANIFEST
from auditor.system.atomic_files import LOCK, is_inside, locked, make_private, part_name

_URL = re.compile(r"[a-z][a-z0-9+.-]*(::|://)", re.IGNORECASE)


def is_url(path: str | os.PathLike) -> bool:
    """Whether a run is given as a URL rather than a folder.

    >>> is_url("s3://bucket/run"), is_url("runs/x"), is_url("C:/runs")
    (True, False, False)
    """
    return _URL.match(os.fspath(path)) is not None


@dataclass(frozen=True)
class Remote:
    """A run's folder on remote storage and its local copy; made by `open_remote`."""

    url: str
    here: Path
    storage: Any  # fsspec's file system
    root: str

    def push(self, name: str) -> None:
        """Upload a file of the copy, atomically."""
        there = f"{self.root}/{name}"
        scratch = f"{self.root}/{part_name(Path(name)).as_posix()}"
        if "file" in self.storage.protocol:  # other storage has its own access control
            make_private(Path(self.root))
        with _trouble(self.url):
            self.storage.makedirs(there.rpartition("/")[0], exist_ok=True)
            self.storage.put_file(str(self.here / name), scratch)
            self.storage.mv(scratch, there)

    def pull(self, name: str) -> bool:
        """Download a file into the copy; False if it does not exist."""
        place = self.here / name
        with _trouble(self.url):
            if not self.storage.exists(f"{self.root}/{name}"):
                return False
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            scratch = part_name(place)
            with suppress(FileNotFoundError):
                scratch.unlink()
            os.close(os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
            self.storage.get_file(f"{self.root}/{name}", str(scratch))
            os.replace(scratch, place)
        return True

    def remove(self, name: str) -> None:
        """Delete a remote file if it exists."""
        with _trouble(self.url), suppress(FileNotFoundError):
            self.storage.rm_file(f"{self.root}/{name}")

    def has_other_files(self) -> bool:
        """Whether the remote folder has files but no run."""
        with _trouble(self.url):
            if not self.storage.exists(self.root) or self.storage.exists(f"{self.root}/{MANIFEST}"):
                return False
            return bool(self.storage.ls(self.root, detail=False))


def open_remote(url: str) -> Remote:
    """Open the run at a URL: fetch its manifest and delete outdated files of the copy."""
    import fsspec

    from auditor.system.cache_folder import cache_folder

    with _trouble(url):
        storage, root = fsspec.core.url_to_fs(url)
    root = root.rstrip("/")
    parent, _, name = url.rstrip("/").rpartition("/")
    here = cache_folder() / "runs" / hashlib.sha256(parent.encode()).hexdigest()[:16] / name
    make_private(here)
    found = Remote(url.rstrip("/"), here, storage, root)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(here))
        except RunError:  # another local process is updating the copy
            return found
        before = _shards(here / MANIFEST)
        if not found.pull(MANIFEST):
            _empty(here)
            return found
        after = _shards(here / MANIFEST)
        for name, facts in before.items():
            if after.get(name) != facts:
                (here / name).unlink(missing_ok=True)
    return found


def _shards(manifest: Path) -> dict[str, dict[str, Any]]:
    """A manifest's file entries; empty if it cannot be read, which is reported elsewhere."""
    with suppress(OSError, ValueError, AttributeError):
        known = json.loads(manifest.read_bytes()).get("shards", {})
        return {name: facts for name, facts in known.items() if is_inside(name)}
    return {}


def _empty(here: Path) -> None:
    """Delete the copy of a run that no longer exists, except its lock, which may be in use."""
    for path in here.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


@contextmanager
def _trouble(url: str) -> Iterator[None]:
    """Turn any error of the storage library into a RunError."""
    try:
        yield
    except RunError:
        raise
    except ImportError as error:
        raise RunError(f"{url} needs a package that is not installed ({error}).") from None
    except Exception as error:
        why = " ".join(str(error).split())[:200] or "no reason given"
        raise RunError(
            f"{url} cannot be read or written ({why}). Check the URL, the network and the "
            "credentials. Finished work is kept; repeat the command to resume."
        ) from None
