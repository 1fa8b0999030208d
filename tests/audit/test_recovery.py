"""A run that is killed and resumed ends in the same bytes; a full disk loses nothing."""

import json
import os
import signal
import subprocess
import sys

import pytest

from auditor.audit.pipeline import run_audit
from auditor.errors import RunError
from auditor.runs.run import load_run

# Dies by SIGKILL at the n-th write, with half of the bytes under the temporary name.
_DYING = """
import json, os, signal, sys
from auditor.runs import writer as runs_writer
from auditor.audit.pipeline import run_audit

n, given = int(sys.argv[1]), json.loads(sys.argv[2])
calls, whole = 0, runs_writer.write_atomically

def dying(path, raw):
    global calls
    calls += 1
    if calls == n:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f".{path.name}.part").write_bytes(raw[: len(raw) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    whole(path, raw)

runs_writer.write_atomically = dying
run_audit(**given)
"""

_RESULTS = (
    *("candidates.csv", "summary.csv", "strategies.csv", "discovery.csv", "comparisons.csv"),
    *("candidates.parquet", "matches/matches.parquet"),
)


def _settings(bed, out):
    return {
        "model": bed.target,
        "references": bed.references,
        "strategies": ["top-n", "internet"],
        "prompts": {"corpus": [str(bed.heldout)]},
        "decoding": {"max_new_tokens": 48},
        "samples": 20,
        "top": 8,
        "shard_size": 8,
        "corpus": [str(bed.corpus)],
        "out": str(out),
    }


@pytest.fixture(scope="module")
def whole(bed, tmp_path_factory):
    """An uninterrupted run, and its number of writes."""
    from auditor.runs import writer as runs_writer

    writes = []
    patch = pytest.MonkeyPatch()
    original = runs_writer.write_atomically
    patch.setattr(
        runs_writer, "write_atomically", lambda p, raw: (writes.append(p), original(p, raw))
    )
    run = run_audit(**_settings(bed, tmp_path_factory.mktemp("whole") / "run"))
    patch.undo()
    return run, writes


@pytest.mark.parametrize("share", [0.1, 0.35, 0.6, 0.8, 0.95])
def test_a_run_killed_during_a_write_resumes_to_the_same_bytes(bed, whole, tmp_path, share):
    run, writes = whole
    given = _settings(bed, tmp_path / "run")
    n = max(1, round(share * len(writes)))
    command = [sys.executable, "-c", _DYING, str(n), json.dumps(given)]
    dead = subprocess.run(command, capture_output=True, text=True, env={**os.environ})
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    assert not load_run(tmp_path / "run").complete
    again = run_audit(**given)
    assert again.complete
    for name in _RESULTS:
        assert (again.path / name).read_bytes() == (run.path / name).read_bytes(), name
    assert list(again.path.rglob("*.part")) == []


def test_a_full_disk_is_a_one_line_error_and_keeps_written_files(bed, whole, tmp_path, monkeypatch):
    """Once writes of more than a manifest fail, and later there is room again."""
    run, _ = whole
    real, room = os.replace, [2]  # for two shards

    def full(source, target):
        room[0] -= str(target).endswith(".parquet")
        if room[0] < 0:
            raise OSError(28, "No space left on device", str(target))
        real(source, target)

    given = _settings(bed, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(RunError, match=r"disk is full.*run the same command again"):
            run_audit(**given)
    kept = sorted((tmp_path / "run" / "samples").glob("*.parquet"))
    assert kept
    again = run_audit(**given)
    assert (again.path / "candidates.csv").read_bytes() == (
        run.path / "candidates.csv"
    ).read_bytes()


def test_a_damaged_shard_is_named_and_recreated_once_deleted(bed, whole, tmp_path):
    given = _settings(bed, tmp_path / "run")
    run_audit(**given, until="score")
    shard = tmp_path / "run" / "samples" / "top-n-00001.parquet"
    raw = bytearray(shard.read_bytes())
    raw[len(raw) // 2] ^= 1
    shard.write_bytes(bytes(raw))
    with pytest.raises(RunError, match=r"top-n-00001\.parquet is not what this run wrote"):
        run_audit(**given)
    shard.unlink()
    again = run_audit(**given)
    run, _ = whole
    assert (again.path / "candidates.csv").read_bytes() == (
        run.path / "candidates.csv"
    ).read_bytes()


def test_a_resumed_run_may_lower_the_batch_size_only(bed, tmp_path):
    """What a machine without memory needs; a larger one would change bytes in bfloat16."""
    given = _settings(bed, tmp_path / "run") | {"strategies": ["top-n"], "shard_size": 10}
    given |= {"decoding": {"max_new_tokens": 4}}
    for asked, fitted in ((8, 8), (3, 3), (12, 3), (None, 3)):
        run = run_audit(**given, batch_size=asked, until="sample")
        assert run.manifest.batch_size == {"top-n": fitted}
        (run.path / "samples" / "top-n-00001.parquet").unlink()
