"""Runs on other storage: s3://bucket/run, gs://, any URL that fsspec opens.

Work is done in a copy in the cache folder. Each file goes to the other storage as soon as it is
whole, the manifest after what it tells of, and comes from there when it is asked for. So a run
goes on wherever its URL is given, and workers on many machines need no disk that all of them see.
Storage of this kind knows no locks: of two machines that write one URL at once nothing warns.
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
from auditor.system.atomic_files import LOCK, is_inside, locked, make_own, part_name

_URL = re.compile(r"[a-z][a-z0-9+.-]*(::|://)", re.IGNORECASE)


def is_url(path: str | os.PathLike) -> bool:
    """Whether a run is named by a URL and not by a folder.

    >>> is_url("s3://bucket/run"), is_url("runs/x"), is_url("C:/runs")
    (True, False, False)
    """
    return _URL.match(os.fspath(path)) is not None


@dataclass(frozen=True)
class Elsewhere:
    """A run's folder on other storage and its copy here; made by `open_elsewhere`."""

    url: str
    here: Path
    storage: Any  # fsspec's file system
    root: str

    def push(self, name: str) -> None:
        """Send a file of the copy, whole or not at all."""
        there = f"{self.root}/{name}"
        scratch = f"{self.root}/{part_name(Path(name)).as_posix()}"
        if "file" in self.storage.protocol:  # elsewhere the storage's own rules say who may read
            make_own(Path(self.root))
        with _trouble(self.url):
            self.storage.makedirs(there.rpartition("/")[0], exist_ok=True)
            self.storage.put_file(str(self.here / name), scratch)
            self.storage.mv(scratch, there)

    def pull(self, name: str) -> bool:
        """Fetch a file into the copy; False if there is none."""
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
        """Take a file away there, if it is there."""
        with _trouble(self.url), suppress(FileNotFoundError):
            self.storage.rm_file(f"{self.root}/{name}")

    def holds_other_files(self) -> bool:
        """Whether something is there that is no run."""
        with _trouble(self.url):
            if not self.storage.exists(self.root) or self.storage.exists(f"{self.root}/{MANIFEST}"):
                return False
            return bool(self.storage.ls(self.root, detail=False))


def open_elsewhere(url: str) -> Elsewhere:
    """The run at a URL, its manifest fetched; what the copy had of another state is gone.

    Raises
    ------
    RunError
        If fsspec knows no such storage, what it needs is not installed, or it is out of reach.
    """
    import fsspec

    from auditor.system.cache_folder import cache_folder

    with _trouble(url):
        storage, root = fsspec.core.url_to_fs(url)
    root = root.rstrip("/")
    parent, _, name = url.rstrip("/").rpartition("/")
    here = cache_folder() / "runs" / hashlib.sha256(parent.encode()).hexdigest()[:16] / name
    make_own(here)
    found = Elsewhere(url.rstrip("/"), here, storage, root)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(here))
        except RunError:  # another process of this machine keeps the copy as it should be
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
    """What a manifest knows of files; nothing if it cannot be read, which is told elsewhere."""
    with suppress(OSError, ValueError, AttributeError):
        known = json.loads(manifest.read_bytes()).get("shards", {})
        return {name: facts for name, facts in known.items() if is_inside(name)}
    return {}


def _empty(here: Path) -> None:
    """A copy of what is not there any more goes; the lock stays, as another may hold it."""
    for path in here.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


@contextmanager
def _trouble(url: str) -> Iterator[None]:
    """Whatever a storage's own library raises, as one sentence."""
    try:
        yield
    except RunError:
        raise
    except ImportError as error:
        raise RunError(f"{url} needs a package that is not installed ({error}).") from None
    except Exception as error:
        told = " ".join(str(error).split())[:200] or type(error).__name__
        raise RunError(
            f"{url} cannot be reached or written ({told}). Check the URL, the network and what "
            "gives access; what was finished before is kept, and the same command goes on."
        ) from None
