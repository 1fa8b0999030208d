"""Runs at a URL: the same bytes, on whichever machines they are started and finished."""

import errno
import os
import stat
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from auditor.audit.pipeline import run_audit, verify_again
from auditor.audit.workers.shard_worker import ShardWorker
from auditor.audit.workers.tasks import Settings, Task
from auditor.config.audit import make_config
from auditor.errors import RunError
from auditor.runs.remote import is_url, open_remote
from auditor.runs.run import load_run
from auditor.runs.writer import open_for_writing
from tests.tiny import WORDS, save_texts, save_tiny_model


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A folder with a model, a text and a run in it."""
    folder = tmp_path_factory.mktemp("elsewhere")
    save_tiny_model(folder / "model")
    save_texts(folder / "text.jsonl", [WORDS])
    run_audit(**settings(folder, out=str(folder / "alone")))
    return folder


def settings(folder, **changes):
    return {
        "model": str(folder / "model"),
        "decoding": {"max_new_tokens": 12, "top_k": 5},
        "samples": 12,
        "shard_size": 6,
        "top": 4,
        "min_match_chars": 2,
        "corpus": [str(folder / "text.jsonl")],
        **changes,
    }


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Go to a machine by name: each has a cache folder of its own."""

    def go(name):
        monkeypatch.setenv("AUDITOR_CACHE", str(tmp_path / name))
        return tmp_path / name

    go("first")
    return go


def url(tmp_path, name="run"):
    return (tmp_path / "far" / name).as_uri()


def bytes_of(folder, *, but=("manifest.json", ".lock", "report.html", "report.md")):
    """The files of a run's folder, without timestamps."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in Path(folder).rglob("*")
        if path.is_file() and path.name not in but
    }


def test_a_run_elsewhere_holds_the_bytes_of_one_here(alone, tmp_path, machine):
    run = run_audit(**settings(alone, out=url(tmp_path)))
    there = tmp_path / "far" / "run"
    assert bytes_of(there) == bytes_of(alone / "alone")
    assert (there / "report.html").read_bytes() == run.report.read_bytes()
    assert (there / "manifest.json").read_bytes() == (run.path / "manifest.json").read_bytes()
    assert stat.S_IMODE(there.stat().st_mode) == 0o700
    assert run.complete


def test_a_run_started_on_one_machine_can_be_finished_on_another(alone, tmp_path, machine):
    run_audit(**settings(alone, out=url(tmp_path)), until="sample")
    machine("second")
    before = (tmp_path / "far/run/samples/top-n-00001.parquet").stat().st_mtime_ns
    run_audit(**settings(alone, out=url(tmp_path)))
    assert (tmp_path / "far/run/samples/top-n-00001.parquet").stat().st_mtime_ns == before
    assert bytes_of(tmp_path / "far" / "run") == bytes_of(alone / "alone")


def test_a_copy_follows_what_another_machine_has_changed(alone, tmp_path, machine):
    run_audit(**settings(alone, out=url(tmp_path)))
    machine("second")
    verify_again(url(tmp_path), {"min_match_chars": 40})
    changed = load_run(url(tmp_path)).summary()
    machine("first")
    assert load_run(url(tmp_path)).summary().equals(changed)
    assert not load_run(alone / "alone").summary().equals(changed)


def test_files_are_fetched_when_they_are_requested(alone, tmp_path, machine):
    run_audit(**settings(alone, out=url(tmp_path)))
    machine("second")
    run = load_run(url(tmp_path))
    assert [path.name for path in run.path.rglob("*.parquet")] == []
    assert run.summary().equals(load_run(alone / "alone").summary())
    assert [path.name for path in run.path.rglob("*.parquet")] == ["summary.parquet"]


def test_a_worker_needs_no_disk_that_the_caller_sees(alone, tmp_path, machine):
    config = make_config(settings(alone, out=url(tmp_path)))
    with open_for_writing(url(tmp_path), config) as run:
        machine("second")
        told = Settings(url(tmp_path), config.model_dump(mode="json"), {}, 0, 1)
        outcome = ShardWorker(told).do(Task("sample", "top-n", "top-n-00000", 0, 6))
        assert outcome.error is None
        run.manifest.shards |= outcome.files
        assert not (run.path / "samples").exists()
        alike = load_run(alone / "alone").read("samples/top-n-00000.parquet")
        assert run.read("samples/top-n-00000.parquet").equals(alike)


def test_processes_share_a_run_elsewhere(alone, tmp_path, machine):
    run_audit(**settings(alone, out=url(tmp_path), workers=2))
    assert bytes_of(tmp_path / "far" / "run") == bytes_of(alone / "alone")


def test_a_remotely_changed_file_is_rejected(alone, tmp_path, machine):
    run_audit(**settings(alone, out=url(tmp_path)))
    file = tmp_path / "far/run/summary.parquet"
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    machine("second")
    with pytest.raises(RunError, match=r"summary\.parquet is not what this run wrote"):
        load_run(url(tmp_path)).read("summary.parquet")


def test_a_copy_of_a_deleted_remote_run_is_not_a_run(alone, tmp_path, machine):
    run = run_audit(**settings(alone, out=url(tmp_path)))
    (tmp_path / "far/run").rename(tmp_path / "moved")
    with pytest.raises(RunError, match="is not a run folder"):
        load_run(url(tmp_path))
    assert not run.report.exists()


def test_another_audit_and_other_files_are_refused_and_kept(alone, tmp_path, machine):
    run_audit(**settings(alone, out=url(tmp_path)), until="sample")
    before = bytes_of(tmp_path / "far", but=())
    with pytest.raises(RunError, match="holds another run: seed is 0 stored, 9 requested"):
        run_audit(**settings(alone, out=url(tmp_path), seed=9))
    with pytest.raises(RunError, match="is not a run's folder"):
        run_audit(**settings(alone, out=(tmp_path / "far").as_uri()))
    assert bytes_of(tmp_path / "far", but=()) == before


def test_a_misspelt_model_leaves_no_remote_files(alone, tmp_path, machine):
    with pytest.raises(Exception, match="nowhere"):
        run_audit(**settings(alone, out=url(tmp_path), model=str(alone / "nowhere")))
    assert not (tmp_path / "far/run/manifest.json").exists()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nothing-known://x/run", "Protocol not known: nothing-known"),
        ("memory://x/run", "is not a run folder"),
    ],
)
def test_what_cannot_be_opened_is_reported_in_one_sentence(name, told, machine):
    with pytest.raises(RunError, match=told):
        load_run(name)


def test_a_storage_that_fails_keeps_what_was_finished(alone, tmp_path, machine, monkeypatch):
    run_audit(**settings(alone, out=url(tmp_path)), until="sample")
    before = bytes_of(tmp_path / "far", but=())

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(LocalFileSystem, "put_file", refuse)
    with pytest.raises(RunError, match=r"cannot be read or written .*Permission denied"):
        run_audit(**settings(alone, out=url(tmp_path)))
    assert bytes_of(tmp_path / "far", but=()) == before
    monkeypatch.undo()
    machine("second")
    run_audit(**settings(alone, out=url(tmp_path)))
    assert bytes_of(tmp_path / "far" / "run") == bytes_of(alone / "alone")


def test_a_remote_manifest_cannot_name_outside_files(tmp_path, machine):
    here = machine("first") / "kept"
    here.parent.mkdir()
    here.write_text("mine")
    fs = fsspec.filesystem("memory")
    for shards in ('{"../../kept": {"sha256": "0"}}', "{}"):
        fs.pipe_file("/y/run/manifest.json", f'{{"shards": {shards}}}'.encode())
        open_remote("memory://y/run")
    assert here.read_text() == "mine"


def test_urls_are_distinguished_from_folders():
    assert is_url("s3://bucket/run")
    assert is_url("simplecache::gs://bucket/run")
    assert not is_url("runs/s3")
    assert not is_url(Path("runs"))
