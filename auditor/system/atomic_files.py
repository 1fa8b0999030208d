"""Atomic file writes, folder locks, and disk errors as single sentences.

Files are written under a temporary name, synced to disk, then renamed. Only their owner can read
them, because they may contain personal data. `kind` is the class of error to raise.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from auditor.errors import AuditError, RunError

LOCK = ".lock"

Kind = type[AuditError]


@contextmanager
def disk_trouble(path: Path, kind: Kind = RunError) -> Iterator[None]:
    """Raise an OSError while writing a file or folder as one sentence.

    >>> with disk_trouble(Path("RUN/report.html")):
    ...     raise OSError(errno.EROFS, "Read-only file system")
    Traceback (most recent call last):
    auditor.errors.RunError: RUN/report.html cannot be written (Read-only file system). Check its \
permissions, or choose another --out.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise kind(
                f"The disk is full: {path.name} could not be written. Files written before it are "
                "complete; free some space and run the same command again to resume."
            ) from None
        raise kind(
            f"{path} cannot be written ({error.strerror}). Check its permissions, or choose "
            "another --out."
        ) from None


@contextmanager
def locked(folder: Path, kind: Kind = RunError) -> Iterator[None]:
    """Lock an existing folder for writing by this process.

    The kernel releases the lock even if the process is killed. Readers need no lock.
    """
    with disk_trouble(folder, kind):
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        with disk_trouble(folder, kind):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_ours = os.fstat(descriptor).st_nlink > 0  # 0: just deleted by its owner
            except BlockingIOError:
                is_ours = False
        if not is_ours:
            raise kind(
                f"{folder} is being written by another process. Wait for it to finish, or choose "
                "another --out."
            )
        yield
    finally:
        os.close(descriptor)


def make_private(folder: Path, kind: Kind = RunError) -> None:
    """Create a folder if needed and restrict it to its owner, whatever the umask."""
    with disk_trouble(folder, kind):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)


@contextmanager
def owned(folder: Path, kind: Kind = RunError) -> Iterator[None]:
    """Create the folder if needed; restrict it to this user and lock it for this process."""
    make_private(folder, kind)
    with locked(folder, kind):
        yield


def is_free(folder: Path, manifest: str) -> bool:
    """Whether a folder is missing, empty, or has only leftovers from before its manifest."""
    begun = {LOCK, part_name(folder / manifest).name}
    return not folder.exists() or (
        folder.is_dir() and all(path.name in begun for path in folder.iterdir())
    )


def part_name(path: Path) -> Path:
    """The temporary name of a file until it is complete.

    >>> part_name(Path("RUN/report.html")).name
    '.report.html.part'
    """
    return path.with_name(f".{path.name}.part")


@contextmanager
def written_part(path: Path, kind: Kind = RunError) -> Iterator[BinaryIO]:
    """Open a file for writing under its temporary name; sync it on exit, delete it on error.

    Call `publish` to rename it.
    """
    scratch = part_name(path)
    with disk_trouble(path, kind), _deleted_on_error(scratch):
        # Remove leftovers of a killed process, including symbolic links.
        scratch.unlink(missing_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(scratch, flags, 0o600)
        with os.fdopen(descriptor, "wb") as sink:
            yield sink
            sink.flush()
            os.fsync(sink.fileno())


@contextmanager
def _deleted_on_error(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):  # report the first error
            path.unlink()
        raise


def publish(path: Path, kind: Kind = RunError) -> None:
    """Rename a complete file from its temporary name, replacing any existing file."""
    scratch = part_name(path)
    with disk_trouble(path, kind):
        with _deleted_on_error(scratch):
            os.replace(scratch, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_atomically(path: Path, raw: bytes, kind: Kind = RunError) -> None:
    """Write a file completely or leave it unchanged; creates its folder."""
    with disk_trouble(path, kind):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with written_part(path, kind) as sink:
        sink.write(raw)
    publish(path, kind)


def is_inside(name: str) -> bool:
    """Whether a file name from a manifest stays within the manifest's folder.

    >>> is_inside("samples/top-n-00000.parquet"), is_inside("../x"), is_inside("/etc/passwd")
    (True, False, False)
    """
    path = PurePosixPath(name)
    is_relative = bool(path.parts) and not path.is_absolute()
    return is_relative and ".." not in path.parts and "\0" not in name
