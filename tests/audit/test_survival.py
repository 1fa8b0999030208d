"""Failures give a one-line error, keep finished work, and leave the run resumable."""

import contextlib
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from auditor.config.audit import make_config
from auditor.runs.run import load_run
from auditor.runs.writer import open_for_writing
from tests.tiny import WORDS, command, save_tiny_model

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """The words of a small audit, all but --out."""
    folder = tmp_path_factory.mktemp("survival")
    model = save_tiny_model(folder / "model")
    corpus = folder / "corpus.jsonl"
    corpus.write_text("\n".join(json.dumps({"text": f"{WORDS} {n}"}) for n in range(4)))
    return [
        *("audit", "--model", model, "--corpus", corpus, "--strategy", "top-n"),
        *("--strategy", "pure", "--samples", 12, "--shard-size", 4, "--top", 3),
        *("--max-new-tokens", 16, "--batch-size", 4, "--device", "cpu"),
    ]


@pytest.fixture(scope="module")
def whole(asked, tmp_path_factory):
    """The results of an undisturbed run."""
    path = tmp_path_factory.mktemp("whole") / "run"
    ended = command(*asked, "--out", path)
    assert ended.code == 0, ended.err
    return results(path)


def results(path):
    names = ["candidates.csv", "summary.csv", "candidates.parquet", "matches/matches.parquet"]
    shards = [p.relative_to(path).as_posix() for p in sorted(path.glob("s[ac]*/*.parquet"))]
    return {name: (path / name).read_bytes() for name in [*names, *shards]}


def the_sentence(ended, *parts):
    """The output of a failed command: one line, no traceback, with these words in order."""
    assert ended.code == 1
    (line,) = [x for x in ended.err.splitlines() if x.startswith("auditor: ")]
    assert "Traceback" not in ended.err
    assert re.search(".*".join(parts), line), line
    return line


def is_intact(path):
    """Every shard of the manifest is there with its sha256; how many of samples there are."""
    shards = json.loads((path / "manifest.json").read_text())["shards"]
    for name, facts in shards.items():
        assert hashlib.sha256((path / name).read_bytes()).hexdigest() == facts["sha256"], name
    return sum(name.startswith("samples/") for name in shards)


# ------------------------------------------------------------------------------- two processes
def test_a_second_process_reports_that_the_folder_is_in_use(asked, whole, tmp_path):
    """A first process holds the folder, with a shard written; the command is the second."""
    path = tmp_path / "run"
    started, ended = os.pipe(), os.pipe()
    config = make_config({"model": "gpt2"})
    first = os.fork()
    if not first:
        with open_for_writing(path, config):
            os.write(started[1], b"x")
            os.read(ended[0], 1)
        os._exit(0)
    assert os.read(started[0], 1) == b"x"
    before = (path / "manifest.json").read_bytes()
    told = command("audit", "--model", "gpt2", "--out", path)
    the_sentence(told, "is being written by another process", "Wait for it")
    assert (path / "manifest.json").read_bytes() == before
    os.write(ended[1], b"x")
    assert os.waitpid(first, 0)[1] == 0
    for end in (*started, *ended):
        os.close(end)


# ------------------------------------------------------------------------------------- disks
@pytest.fixture
def disk(tmp_path):
    """A disk of its own: a function that mounts it anew with other options."""
    if os.geteuid() or not may_mount():
        pytest.skip("NOT TESTED: a full disk and a read-only one. It takes the right to mount.")
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options):
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)

    mount("size=36k,mode=700")
    yield place, mount
    subprocess.run(["umount", place], check=True)


def may_mount():
    """Whether this process has CAP_SYS_ADMIN."""
    status = Path("/proc/self/status").read_text()
    return bool(int(re.search(r"CapEff:\s*(\w+)", status)[1], 16) >> 21 & 1)


def test_after_a_full_disk_the_run_can_be_resumed(asked, whole, disk):
    place, mount = disk
    the_sentence(
        command(*asked, "--out", place / "run"),
        r"disk is full: \S+ could not be written",
        "are complete",
        "free some space and run the same command again",
    )
    assert 0 < is_intact(place / "run") < 6
    assert not list(place.rglob("*.part"))
    mount("remount,size=16m")
    ended = command(*asked, "--out", place / "run")
    assert ended.code == 0, ended.err
    assert results(place / "run") == whole


def test_a_read_only_disk_is_a_one_line_error_without_loss(asked, whole, disk):
    place, mount = disk
    mount("remount,size=16m")
    sampled = ["sample", *asked[1:], "--out", place / "run"]
    assert command(*sampled).code == 0
    mount("remount,ro")
    the_sentence(command(*asked, "--out", place / "run"), "cannot be written", "Read-only")
    the_sentence(command(*asked, "--out", place / "other"), "cannot be written", "Read-only")
    assert is_intact(place / "run") == 6
    assert len(load_run(place / "run").samples()) == 24  # reading needs no writing
    mount("remount,rw")
    ended = command(*asked, "--out", place / "run")
    assert ended.code == 0, ended.err
    assert results(place / "run") == whole


# ------------------------------------------------------------------------------------- memory
def crowded(monkeypatch, most):
    """With more sequences in flight than that, or more texts in a batch, memory runs out."""
    from auditor.models.language_model import LanguageModel

    room, hidden = LanguageModel.session, LanguageModel.hidden_states

    def session(self, n_slots, capacity):
        if n_slots > most:
            raise torch.OutOfMemoryError("planted")
        return room(self, n_slots, capacity)

    def hidden_states(self, ids, **kwargs):
        if len(ids) > max(most, 2):  # a model is looked at with two short texts when it is loaded
            raise torch.OutOfMemoryError("planted")
        return hidden(self, ids, **kwargs)

    monkeypatch.setattr(LanguageModel, "session", session)
    monkeypatch.setattr(LanguageModel, "hidden_states", hidden_states)


def test_out_of_memory_halves_the_batch_and_is_reported(asked, whole, tmp_path, monkeypatch):
    crowded(monkeypatch, 2)
    ended = command(*asked, "--out", tmp_path / "run")
    assert ended.code == 0, ended.err
    assert "Out of memory; continuing with 2 concurrent sequences." in ended.err
    notes = load_run(tmp_path / "run").notes()
    assert any("Out of memory" in note for note in notes)
    drawn = load_run(tmp_path / "run").samples()["text"].tolist()
    assert len(drawn) == 24
    assert {n: r for n, r in results(tmp_path / "run").items() if n.startswith("samples/")}.keys()


def test_too_little_memory_for_one_sequence_is_an_error_and_the_run_can_be_resumed(
    asked, whole, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        crowded(patch, 0)
        told = command(*asked, "--out", tmp_path / "run")
        the_sentence(told, "one sequence of 16 new tokens does not fit into memory", "Lower")
    ended = command(*asked, "--out", tmp_path / "run")
    assert ended.code == 0, ended.err
    assert results(tmp_path / "run") == whole


@pytest.mark.parametrize("kind", [MemoryError, torch.OutOfMemoryError, RuntimeError])
def test_out_of_memory_elsewhere_is_a_one_line_error(asked, tmp_path, monkeypatch, kind):
    def full(*args, **kwargs):
        raise kind("planted: can't allocate memory")

    monkeypatch.setattr("auditor.audit.scoring.score", full)
    told = command(*asked, "--out", tmp_path / "run")
    the_sentence(told, "Out of memory", "is kept", "run the same command again")
    assert is_intact(tmp_path / "run") == 6


# ------------------------------------------------------------------------------ damaged folders
@pytest.mark.parametrize("name", ["samples/pure-00001.parquet", "scores/top-n-00002.parquet"])
def test_a_flipped_byte_is_detected_named_and_repaired(asked, whole, tmp_path, name):
    path = tmp_path / "run"
    assert command("sample", *asked[1:], "--out", path).code == 0
    if name.startswith("scores/"):
        assert command("score", path).code == 0
    raw = bytearray((path / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (path / name).write_bytes(raw)
    the_sentence(command(*asked, "--out", path), name, "sha256", "Delete that file", "rebuild it")
    (path / name).unlink()
    ended = command(*asked, "--out", path)
    assert ended.code == 0, ended.err
    assert results(path) == whole


def test_another_config_is_refused_with_the_differences(asked, whole, tmp_path):
    path = tmp_path / "run"
    assert command(*asked, "--out", path).code == 0
    told = command(*asked, "--seed", 5, "--out", path)
    the_sentence(told, "holds another run: seed is 0 stored, 5 requested", "Choose another --out")
    assert is_intact(path) == 6
    assert results(path) == whole


# ------------------------------------------------------------------------------------ kill test
def test_a_run_killed_at_random_moments_ends_in_the_same_bytes():
    """Twenty of the two hundred that are run by hand."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.killtest", "--kills", "20", "--seed", "1"],
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^20 kills, [1-9]\d* runs brought to their end, 0 wrong", done.stdout, re.M)


# --------------------------------------------------------------------------------------- secrets
@contextlib.contextmanager
def careless():
    """A umask under which new files are readable and writable by everyone."""
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


def modes(path):
    """Files and folders that others than their owner can access."""
    if stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0:
        return []  # nobody else comes past it
    return [str(p) for p in (path, *path.rglob("*")) if stat.S_IMODE(p.lstat().st_mode) & 0o077]


@pytest.mark.parametrize("is_there", [False, True])
def test_files_with_text_are_readable_by_their_owner_only(asked, tmp_path, is_there):
    """Whatever the umask, and in a folder that others could read before."""
    model, corpus = asked[2], asked[4]
    sizes = ("--prefix-tokens", 4, "--suffix-tokens", 4)
    unseen = tmp_path / "unseen.jsonl"
    unseen.write_text("\n".join(json.dumps({"text": f"{n} {WORDS}"}) for n in range(4)))
    sides = ("--members", corpus, "--nonmembers", unseen)
    outs = ["run", "extraction", "members", "index", "tuned", "comparison"]
    verbs = {
        "run": asked,
        "extraction": ["extract", "--model", model, "--corpus", corpus, *sizes],
        "members": ["members", *sides, "--model", model],
        "index": ["index", "build", corpus],
        "tuned": ["finetune", "--model", model, "--corpus", corpus, "--max-steps", 1],
        "comparison": [
            *("compare", "--base", model, "--tuned", tmp_path / "tuned", "--texts", corpus),
            *("--heldout", unseen, *sizes),
        ],
        "canaries.json": ["canaries", "create", "--format", "pin", "--count", 2, "--controls", 2],
        "with-canaries.jsonl": [
            "canaries",
            "insert",
            tmp_path / "canaries.json",
            "--corpus",
            corpus,
        ],
        "scores.csv": ["score", corpus, "--model", model],
    }
    with careless():
        for name, words in verbs.items():
            if is_there and name in outs:
                (tmp_path / name).mkdir()
            ended = command(*words, "--out", tmp_path / name)
            assert ended.code == 0, (name, ended.err)
    assert {name: found for name in verbs if (found := modes(tmp_path / name))} == {}
