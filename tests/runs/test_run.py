"""The run folder: atomic, private to its owner, one writer, one-line errors."""

import ctypes
import errno
import fcntl
import json
import os
import subprocess
import sys

import pytest

from auditor.errors import ModelError, RunError
from auditor.runs.manifest import differences
from auditor.runs.run import load_run
from auditor.runs.writer import open_for_writing
from tests.histories import TABLE, asked
from tests.tiny import failing


def mode(path):
    return path.stat().st_mode & 0o777


def names(path):
    return sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())


@pytest.fixture
def tiny_disk(tmp_path):
    """A real file system of 64 kB, where this machine lets us mount one."""
    libc = ctypes.CDLL(None, use_errno=True)
    place = tmp_path / "disk"
    place.mkdir()
    arguments = (b"tmpfs", os.fsencode(place), b"tmpfs", 0, b"size=64k")
    if sys.platform != "linux" or libc.mount(*arguments):
        pytest.skip("NOT TESTED on a real full disk: no right to mount one here")
    yield place
    libc.umount2(os.fsencode(place), 2)


def test_a_full_disk_is_reported_and_the_run_can_be_resumed(tiny_disk):
    path = tiny_disk / "run"
    with open_for_writing(path, asked()) as run:
        run.write("samples/top-n-00000.parquet", TABLE)
        with pytest.raises(RunError, match="The disk is full"):
            run.write_bytes("samples/top-n-00001.parquet", os.urandom(200_000))
    found = load_run(path)
    assert found.samples()["sample_id"].tolist() == ["a", "b"]
    assert names(path) == [".lock", "manifest.json", "samples/top-n-00000.parquet"]


# --------------------------------------------------------------------------------- rights
def test_a_run_is_readable_by_its_owner_only(made):
    old = os.umask(0)
    try:
        with open_for_writing(made, asked()) as run:
            run.write("scores/top-n-00000.parquet", TABLE)
            run.write_bytes("report.html", b"page")
    finally:
        os.umask(old)
    assert {mode(p) for p in made.rglob("*") if p.is_dir()} | {mode(made)} == {0o700}
    assert {mode(p) for p in made.rglob("*") if p.is_file()} == {0o600}


def test_an_existing_empty_folder_is_restricted_to_its_owner(tmp_path):
    path = tmp_path / "run"
    path.mkdir(mode=0o755)
    with open_for_writing(path, asked()):
        assert mode(path) == 0o700


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_is_a_one_line_error(tmp_path, monkeypatch, code):
    path = tmp_path / "run"
    path.mkdir()
    with monkeypatch.context() as broken:
        broken.setattr(os, "open", failing(code))
        with (
            pytest.raises(RunError, match=r"cannot be written.*--out"),
            open_for_writing(path, asked()),
        ):
            pass


# --------------------------------------------------------------------------------- resume
def test_opening_a_run_again_finds_its_files(made):
    with open_for_writing(made, asked()) as run:
        assert run.has("samples/top-n-00000.parquet")
        assert not run.has("samples/top-n-00001.parquet")


def test_execution_settings_may_change_when_resuming(made):
    with open_for_writing(made, asked(batch_size=3, device="cpu", out=str(made))) as run:
        assert run.has("samples/top-n-00000.parquet")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"seed": 7}, "seed is 0 stored, 7 requested"),
        ({"samples": 5}, "samples is 4 stored, 5 requested"),
        ({"corpus": ["x"]}, r'corpus is \[\] stored, \["x"\] requested'),
        ({"references": ["r=s"]}, 'references.r is null stored, "s" requested'),
        ({"decoding": {"top_k": 9}}, "strategy top-n.decoding.top_k is 40 stored, 9 requested"),
        ({"strategies": ["pure"]}, "strategy top-n differs"),
        ({"model": "m" * 80}, "model differs"),
    ],
)
def test_another_config_is_refused_and_what_differs_is_said(made, changed, says):
    before = (made / "manifest.json").read_bytes()
    with (
        pytest.raises(RunError, match=f"holds another run: .*{says}.*--out"),
        open_for_writing(made, asked(**changed)),
    ):
        pass
    assert (made / "manifest.json").read_bytes() == before


def test_strategies_in_another_order_are_reported():
    one = asked(strategies=["top-n", "pure"]).identity()
    two = asked(strategies=["pure", "top-n"]).identity()
    assert differences(one, two) == ["the strategies are in another order"]
    assert differences(one, one) == []


def test_a_run_that_failed_before_anything_was_made_leaves_nothing(tmp_path):
    path = tmp_path / "runs" / "run"
    with pytest.raises(ModelError), open_for_writing(path, asked()):
        raise ModelError("no such model")
    assert not path.exists()


def test_a_run_that_failed_later_keeps_what_it_has(tmp_path):
    path = tmp_path / "run"

    def unlucky():
        with open_for_writing(path, asked()) as run:
            run.write("samples/top-n-00000.parquet", TABLE)
            raise ModelError("out of luck")

    with pytest.raises(ModelError):
        unlucky()
    assert len(load_run(path).samples()) == 2


def test_an_interrupted_run_can_be_resumed_even_if_it_has_nothing(tmp_path):
    path = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt), open_for_writing(path, asked()):
        raise KeyboardInterrupt
    assert load_run(path).config == asked()


# ------------------------------------------------------------------- what is no run's folder
def refused(path, config=None):
    with pytest.raises(RunError) as caught, open_for_writing(path, config or asked()):
        pass
    return str(caught.value)


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    assert "is not a run's folder" in refused(tmp_path)
    assert names(tmp_path) == ["thesis.tex"]


def test_a_file_is_no_run_folder(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    assert "is not a run's folder" in refused(file)
    with pytest.raises(RunError, match=r"is not a run folder.*manifest\.json"):
        load_run(file)


def test_a_run_killed_while_it_began_can_be_started_again(tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    (path / ".lock").touch()
    (path / ".manifest.json.part").write_text('{"format"')
    with open_for_writing(path, asked()):
        pass
    assert load_run(path).config == asked()


def test_a_missing_folder_is_no_run(tmp_path):
    with pytest.raises(RunError, match="is not a run folder"):
        load_run(tmp_path / "nowhere")


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b'{"format": 1', b'{"format": 1}', b"[]"])
def test_a_damaged_manifest_is_a_one_line_error_for_reader_and_writer(made, raw):
    (made / "manifest.json").write_bytes(raw)
    with pytest.raises(RunError, match=r"damaged|another version"):
        load_run(made)
    assert "damaged" in refused(made) or "another version" in refused(made)
    assert (made / "manifest.json").read_bytes() == raw


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"shards": {"a": {"sha256": "x", "bytes": True}}}, "shards.a.bytes is True"),
        ({"shards": {"a": {"sha256": "x"}}}, "shards.a.bytes is missing"),
        ({"stages": {"score": {"seconds": "3"}}}, "stages.score.seconds is '3'"),
        ({"corpus": 3}, "corpus is 3"),
        ({"notes": [{"stage": "score", "sentence": 3}]}, "notes[0].sentence is 3"),
    ],
)
def test_a_manifest_of_another_form_is_reported_with_its_place(made, change, told):
    manifest = json.loads((made / "manifest.json").read_text())
    (made / "manifest.json").write_text(json.dumps(manifest | change))
    with pytest.raises(RunError) as caught:
        load_run(made)
    assert f"is not valid: {told}. The run's folder is damaged" in str(caught.value)


def test_a_manifest_keeps_unknown_keys_and_lone_surrogates(made):
    file = made / "manifest.json"
    more = {"later": {"x": [1]}, "prompts": {"source": "caf\udce9.txt"}}
    file.write_text(json.dumps(json.loads(file.read_text()) | more))
    assert load_run(made).manifest.later == more["later"]
    with open_for_writing(made, asked()) as run:
        run.save()
    assert json.loads(file.read_text()) | more == json.loads(file.read_text())


def test_another_format_is_reported_with_both_numbers(made):
    manifest = json.loads((made / "manifest.json").read_text())
    (made / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(
        RunError, match=r"another version of auditor \(format 99; this version reads 1\)"
    ):
        load_run(made)


# ---------------------------------------------------------------------------- one writer
def test_a_second_writer_is_locked_out_in_the_same_process(made):
    with open_for_writing(made, asked()):
        assert "another process" in refused(made)
    with open_for_writing(made, asked()):
        pass


def test_a_second_process_is_locked_out(made):
    code = (
        "import fcntl, sys\n"
        "lock = open(sys.argv[1], 'r+')\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, made / ".lock"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with other:
        assert other.stdout.readline() == "held\n"
        assert "being written by another process" in refused(made)
        other.kill()
    with open_for_writing(made, asked()) as run:  # a killed process holds nothing
        assert run.has("samples/top-n-00000.parquet")


def test_a_lock_in_a_deleted_folder_is_not_held(tmp_path, monkeypatch):
    path, lock = tmp_path / "run", fcntl.flock

    def late(descriptor, how):
        (path / ".lock").unlink()
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    assert "another process" in refused(path)


def test_readers_need_no_lock(made):
    with open_for_writing(made, asked()):
        assert len(load_run(made).samples()) == 2
