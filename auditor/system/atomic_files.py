"""Files that are whole or not there, folders that one process writes, trouble told in a sentence.

What a run, an index, a fine-tuning or a report writes goes through here: under a temporary name
first, forced onto the disk, then renamed. All of it is its owner's alone, since it may hold
personal data. Each function takes the kind of error that its caller tells trouble with.
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
    """Trouble with the disk, while this file or folder is written, as one sentence.

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
                f"The disk is full: {path.name} could not be written. What was written before is "
                "whole; free some space and start the same command again to go on."
            ) from None
        raise kind(
            f"{path} cannot be written ({error.strerror}). Check its permissions, or choose "
            "another --out."
        ) from None


@contextmanager
def locked(folder: Path, kind: Kind = RunError) -> Iterator[None]:
    """A folder that is there, for this process alone.

    The kernel lets go of the lock even if the process is killed. Readers need none.

    Raises
    ------
    AuditError
        Of that kind, if another process has it, or the lock cannot be made.
    """
    with disk_trouble(folder, kind):
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        with disk_trouble(folder, kind):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_ours = os.fstat(descriptor).st_nlink > 0  # 0: just taken back by its owner
            except BlockingIOError:
                is_ours = False
        if not is_ours:
            raise kind(
                f"{folder} is being written by another process. Wait for it, or choose another "
                "--out."
            )
        yield
    finally:
        os.close(descriptor)


def make_own(folder: Path, kind: Kind = RunError) -> None:
    """A folder that is its owner's alone from now on, made if need be, whatever the umask.

    Raises
    ------
    AuditError
        Of that kind, if it cannot be made.
    """
    with disk_trouble(folder, kind):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)


@contextmanager
def owned(folder: Path, kind: Kind = RunError) -> Iterator[None]:
    """The folder, made if need be, for this user and this process alone."""
    make_own(folder, kind)
    with locked(folder, kind):
        yield


def is_free(folder: Path, manifest: str) -> bool:
    """Whether nothing is there but what a process leaves that is killed before its manifest."""
    begun = {LOCK, part_name(folder / manifest).name}
    return not folder.exists() or (
        folder.is_dir() and all(path.name in begun for path in folder.iterdir())
    )


def part_name(path: Path) -> Path:
    """The name that a file has until it is whole.

    >>> part_name(Path("RUN/report.html")).name
    '.report.html.part'
    """
    return path.with_name(f".{path.name}.part")


@contextmanager
def written_part(path: Path, kind: Kind = RunError) -> Iterator[BinaryIO]:
    """A file, open for writing, under its temporary name: on the disk at the end, or gone.

    `publish` then gives it its lasting name.
    """
    scratch = part_name(path)
    with disk_trouble(path, kind):
        try:
            # What a killed process left there goes, a link that leads elsewhere as well.
            scratch.unlink(missing_ok=True)
            how = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            descriptor = os.open(scratch, how, 0o600)
            with os.fdopen(descriptor, "wb") as sink:
                yield sink
                sink.flush()
                os.fsync(sink.fileno())
        except BaseException:
            with suppress(OSError):  # what went wrong first is what is told
                scratch.unlink()
            raise


def publish(path: Path, kind: Kind = RunError) -> None:
    """Give a file that is whole under its temporary name its lasting one, in place of any other."""
    scratch = part_name(path)
    with disk_trouble(path, kind):
        try:
            os.replace(scratch, path)
        except BaseException:
            with suppress(OSError):
                scratch.unlink()
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_atomically(path: Path, raw: bytes, kind: Kind = RunError) -> None:
    """All of the bytes under that name, or the file as it was before; its folder is made.

    Raises
    ------
    AuditError
        Of that kind, if the disk is full or the folder cannot be written.
    """
    with disk_trouble(path, kind):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with written_part(path, kind) as sink:
        sink.write(raw)
    publish(path, kind)


def is_inside(name: str) -> bool:
    """Whether a file's name, as a manifest has it, stays within the manifest's own folder.

    >>> is_inside("samples/top-n-00000.parquet"), is_inside("../x"), is_inside("/etc/passwd")
    (True, False, False)
    """
    path = PurePosixPath(name)
    parts = path.parts
    return bool(parts) and not path.is_absolute() and ".." not in parts and "\0" not in name
