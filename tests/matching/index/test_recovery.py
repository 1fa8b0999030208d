"""The corpus index: damage, interrupted builds and changed corpora."""

import signal
import subprocess
import sys

import numpy as np
import pytest

from auditor.corpus.reading import read_corpus
from auditor.errors import CorpusError
from auditor.matching.index import build_index, open_index
from tests.indexed import count_shards_made, documents, files_of, two_files

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


# -------------------------------------------------------------------------------------- damage
def test_every_flipped_byte_is_detected_before_a_result(tmp_path):
    corpus = documents("to be or not to be", "", "é漢🙂 let it be")
    index = build_index(corpus, tmp_path / "i", shard_bytes=24)

    def answers():
        index = open_index(tmp_path / "i")
        found = [
            (index.count(q), index.count_documents(q), index.find(q)) for q in ["be", "t", "漢"]
        ]
        return found, index.longest("or let it").tolist(), [d.text for d in index]

    def is_noticed():
        try:
            return answers() != wanted and "wrong"
        except CorpusError as error:
            return str(tmp_path / "i") in str(error)

    wanted = answers()
    assert len(index.shards) > 1
    for file in sorted((tmp_path / "i").iterdir()):
        raw = file.read_bytes()
        noticed = []
        for at in range(len(raw)):
            file.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
            noticed.append(is_noticed())
        file.write_bytes(raw)
        if file.name == "index.json":
            # Its white space may change, and nothing else would.
            assert "wrong" not in noticed
            assert all(n or b <= 33 for n, b in zip(noticed, raw, strict=True))
        else:
            assert noticed == [True] * len(raw)
    assert answers() == wanted


def test_a_block_is_checked_before_its_bytes_are_used(tmp_path):
    """In a shard of several blocks, damage far from the question does not hinder it."""
    rng = np.random.default_rng(1)
    text = "".join(rng.choice(list("abcdefgh"), 100_000))
    build_index(documents(text), tmp_path / "i")
    file = tmp_path / "i/00000.shard"
    raw = bytearray(file.read_bytes())
    at = text.index("abc", 50_000)
    raw[at] ^= 1
    file.write_bytes(raw)
    index = open_index(tmp_path / "i")
    assert index.shards[0].read(0, 100) == text[:100].encode()
    with pytest.raises(CorpusError, match="is damaged"):
        index.shards[0].read(at, at + 1)
    with pytest.raises(CorpusError, match="is damaged"):
        index.verify()


@pytest.mark.parametrize("name", ["00001.shard", "repeats"])
def test_a_file_that_is_gone_or_damaged_is_rebuilt_and_only_it(name, tmp_path, monkeypatch):
    corpus = read_corpus(two_files(tmp_path))
    build_index(corpus, tmp_path / "i", shard_bytes=20)
    whole = files_of(tmp_path / "i")
    (tmp_path / "i" / name).unlink()
    with pytest.raises(CorpusError, match="cannot be read"):
        open_index(tmp_path / "i").count_documents("e")
    made = count_shards_made(monkeypatch)
    build_index(corpus, tmp_path / "i")
    assert made == [name] * name.endswith("shard")
    assert files_of(tmp_path / "i") == whole
    open_index(tmp_path / "i").verify()


def test_damaged_files_beside_a_missing_shard_are_rebuilt(tmp_path, monkeypatch):
    corpus = read_corpus(two_files(tmp_path))
    build_index(corpus, tmp_path / "i", shard_bytes=20)
    whole = files_of(tmp_path / "i")
    (tmp_path / "i/00000.shard").unlink()
    raw = whole["00002.shard"]
    (tmp_path / "i/00002.shard").write_bytes(raw[:7] + bytes([raw[7] ^ 1]) + raw[8:])
    made = count_shards_made(monkeypatch)
    build_index(corpus, tmp_path / "i")
    assert made == ["00000.shard", "00002.shard"]
    assert files_of(tmp_path / "i") == whole


def test_a_file_of_another_size_is_noticed_at_once(tmp_path):
    build_index(documents("abc"), tmp_path / "i")
    file = tmp_path / "i/00000.shard"
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(CorpusError, match="bytes; the index wrote"):
        open_index(tmp_path / "i")


def test_verifying_reports_progress(tmp_path):
    index = build_index(documents("abc", "def"), tmp_path / "i", shard_bytes=4)
    told = []
    index.verify(told.append)
    assert (
        told[-1]
        == index.n_file_bytes
        == sum(len(raw) for name, raw in files_of(tmp_path / "i").items() if name[0] in "0r")
    )


# ----------------------------------------------------------------------------- going on, changes
# Kills itself at the nth call of one of the module's functions, before or after the call.
KILLED = """
import os, signal, sys
from auditor.matching.index import build as building
from auditor.corpus.reading import read_corpus
out, name, after, nth, *files = sys.argv[1:]
real, calls = getattr(building, name), []
def planted(*args):
    calls.append(1)
    if len(calls) == int(nth) and after == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = real(*args)
    if len(calls) == int(nth):
        os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(building, name, planted)
building.build_index(read_corpus(files), out, shard_bytes=20)
"""


@pytest.mark.parametrize(
    ("name", "when", "nth", "n_whole"),
    [
        ("write_plan", "before", 1, 0),
        ("write_shard", "before", 1, 0),
        ("write_shard", "after", 3, 2),
        ("write_plan", "after", 3, 2),  # entered, and not yet named
        ("publish", "after", 2, 2),
        ("write_atomically", "before", 1, 4),
        ("write_plan", "before", 6, 4),
    ],
)
def test_a_killed_build_resumes_to_the_same_bytes(name, when, nth, n_whole, tmp_path, monkeypatch):
    files = two_files(tmp_path)
    build_index(read_corpus(files), tmp_path / "whole", shard_bytes=20)
    wanted = files_of(tmp_path / "whole")
    out = tmp_path / "killed"
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, out, name, when, str(nth), *files], check=False
    )
    assert ended.returncode == -signal.SIGKILL
    with pytest.raises(CorpusError, match=r"is not finished|no index.json"):
        open_index(out)
    made = count_shards_made(monkeypatch)
    build_index(read_corpus(files), out, shard_bytes=20)
    assert len(made) == 4 - n_whole
    assert files_of(out) == wanted
    assert open_index(out).count("the") == 2


def test_building_again_does_nothing(tmp_path, monkeypatch):
    files = two_files(tmp_path)
    build_index(read_corpus(files), tmp_path / "i", shard_bytes=20)
    build_index(documents("a", "b"), tmp_path / "j", shard_bytes=2)
    made = count_shards_made(monkeypatch)
    assert build_index(read_corpus(files), tmp_path / "i").count("fight") == 1
    assert build_index(documents("a", "b"), tmp_path / "j").count("a") == 1
    assert made == []


def test_a_build_with_a_changed_corpus_is_refused(tmp_path):
    files = two_files(tmp_path)
    build_index(read_corpus(files), tmp_path / "i", shard_bytes=20)
    with pytest.raises(CorpusError, match=r"files was 2, now 1"):
        build_index(read_corpus(files[:1]), tmp_path / "i")
    with pytest.raises(CorpusError, match="begun with shards of 20 bytes; got 21"):
        build_index(read_corpus(files), tmp_path / "i", shard_bytes=21)
    files[1].write_text("two live men")
    with pytest.raises(CorpusError, match=r"two\.txt has other content"):
        build_index(read_corpus(files), tmp_path / "i")
    assert open_index(tmp_path / "i").count("dead") == 1


def test_a_corpus_that_changes_while_it_is_indexed_is_noticed(tmp_path):
    corpus = read_corpus(two_files(tmp_path))
    late = [False]

    def change(n_bytes):
        if not late[0]:
            (tmp_path / "two.txt").write_text("two live men")
            late[0] = True

    with pytest.raises(CorpusError, match="changed while it was indexed"):
        build_index(corpus, tmp_path / "i", shard_bytes=20, progress=change)
    with pytest.raises(CorpusError, match="not finished"):
        open_index(tmp_path / "i")


def test_too_many_shards_for_the_system_are_an_error(tmp_path):
    build_index(documents("x" * 40), tmp_path / "i", shard_bytes=1)
    code = """
import resource, sys
from auditor.matching.index import open_index
resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
try:
    open_index(sys.argv[1])
except Exception as error:
    print(error)
"""
    command = [sys.executable, "-c", code, tmp_path / "i"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "more shards than this process may open files" in ended.stdout


@pytest.mark.parametrize("other", [("abc", "deX"), ("abc",), ("abc", "def", "ghi")])
def test_a_build_with_other_documents_is_refused(other, tmp_path):
    build_index(documents("abc", "def"), tmp_path / "i", shard_bytes=4)
    with pytest.raises(CorpusError, match="has changed since"):
        build_index(documents(*other), tmp_path / "i")
    assert [d.text for d in open_index(tmp_path / "i")] == ["abc", "def"]


def test_progress_counts_every_byte_of_text(tmp_path):
    told = []
    corpus = documents("é" * 50, "", "abc")
    build_index(corpus, tmp_path / "i", shard_bytes=16, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 103
