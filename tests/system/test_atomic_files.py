"""Atomic files, one writer per folder, and one-line errors."""

import errno
import os

import pytest

from auditor.errors import CorpusError, RunError
from auditor.system.atomic_files import locked, publish, write_atomically, written_part
from tests.tiny import failing


def names(path):
    return sorted(p.name for p in path.iterdir())


@pytest.mark.parametrize("kind", [RunError, CorpusError])
@pytest.mark.parametrize("step", ["fsync", "replace", "open"])
@pytest.mark.parametrize(
    ("code", "says"),
    [
        (errno.ENOSPC, "The disk is full: file could not be written.*complete.*same command"),
        (errno.EDQUOT, "The disk is full"),
        (errno.EROFS, "file cannot be written.*Read-only.*--out"),
        (errno.EACCES, "file cannot be written.*Permission denied.*--out"),
    ],
)
def test_a_write_that_fails_leaves_the_old_file_and_no_litter(
    tmp_path, monkeypatch, kind, step, code, says
):
    file = tmp_path / "file"
    write_atomically(file, b"old")
    with monkeypatch.context() as broken:
        broken.setattr(os, step, failing(code))
        with pytest.raises(kind, match=says):
            write_atomically(file, b"new", kind)
    assert file.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_an_interrupted_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    file = tmp_path / "file"
    write_atomically(file, b"old")

    def interrupted(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_atomically(file, b"new")
    assert file.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_partial_files_of_a_killed_write_are_ignored(tmp_path):
    (tmp_path / ".file.part").write_bytes(b"half of some")
    write_atomically(tmp_path / "file", b"new")
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_part_has_no_lasting_name_until_it_is_published(tmp_path):
    file = tmp_path / "file"
    with written_part(file) as sink:
        sink.write(b"one ")
        sink.write(b"two")
    assert not file.exists()
    publish(file)
    assert (names(tmp_path), file.read_bytes()) == (["file"], b"one two")
    assert file.stat().st_mode & 0o777 == 0o600


def test_one_holder_at_a_time_and_the_kind_of_error_is_the_callers(tmp_path):
    with (
        locked(tmp_path),
        pytest.raises(CorpusError, match="being written by another process"),
        locked(tmp_path, CorpusError),
    ):
        pass
    with locked(tmp_path, CorpusError):
        pass


def test_a_folder_that_is_missing_cannot_be_locked(tmp_path):
    with pytest.raises(RunError, match=r"cannot be written.*No such file"), locked(tmp_path / "no"):
        pass
