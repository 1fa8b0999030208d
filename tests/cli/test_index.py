"""`auditor index`: its output, exit codes and one-line errors."""

import json

import pytest

from auditor.cli.command import VERBS
from tests.tiny import command


@pytest.fixture(autouse=True)
def verb(monkeypatch):
    monkeypatch.setitem(VERBS, "index", ("auditor.cli.index", "An index of training text."))


@pytest.fixture
def text(tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text/a.txt").write_text("to be or not to be")
    (tmp_path / "text/b.txt").write_text("é let it be")
    return tmp_path / "text"


@pytest.fixture
def built(tmp_path, text):
    ended = command("index", "build", text, "--out", tmp_path / "i", "--shard-bytes", 20)
    assert ended.code == 0, ended.err
    return tmp_path / "i"


def is_one_sentence(ended, *words, code=1):
    lines = [line for line in ended.err.splitlines() if line]
    told = [line for line in lines if not line.startswith(("Usage:", "Try '", "checking:"))]
    assert (ended.code, ended.out, len(told)) == (code, "", 1), ended
    assert all(word in told[0] for word in words), told
    assert "Traceback" not in ended.err


def test_building_tells_what_there_is(built, text):
    ended = command("index", "build", text, "--out", built, "--json")
    told = json.loads(ended.out)
    # 18 ASCII characters, and 11 of which one takes 2 bytes; 19 + 13 do not fit into 20.
    assert (told["documents"], told["bytes"], told["shards"]) == (2, 30, 2)
    assert told["index"] == str(built)
    assert told["file_bytes"] == sum(p.stat().st_size for p in built.iterdir() if p.name[0] in "0r")
    ended = command("index", "build", text, "--out", built)
    assert ended.out.startswith(f"{built}: 2 documents, 30 bytes of text, 2 shards, ")


def test_counting(built):
    assert command("index", "count", built, "be").out == "3 occurrences in 2 documents\n"
    assert command("index", "count", built, "nowhere").out == "0 occurrences in 0 documents\n"
    assert command("index", "count", built, "let").out == "1 occurrence in 1 document\n"
    ended = command("index", "count", built, "be", "--json")
    assert json.loads(ended.out) == {"text": "be", "occurrences": 3, "documents": 2}


def test_finding_counts_characters(built):
    assert command("index", "find", built, "be").out == "a.txt\t3\na.txt\t16\nb.txt\t9\n"
    assert command("index", "find", built, "be", "--limit", 1).out == "a.txt\t3\n"
    assert command("index", "find", built, "nowhere").out == ""
    ended = command("index", "find", built, "let", "--json")
    assert json.loads(ended.out) == [{"doc_id": "b.txt", "offset": 2}]


def test_text_that_looks_like_a_flag(built):
    assert command("index", "count", built, "--", "--be").out == "0 occurrences in 0 documents\n"


def test_a_hostile_id_stays_text(tmp_path):
    row = {"id": "\x1b[31m\nx\ty", "text": "abc"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    command("index", "build", tmp_path / "rows.jsonl", "--out", tmp_path / "i")
    ended = command("index", "find", tmp_path / "i", "b")
    assert ended.code == 0
    assert "\x1b" not in ended.out
    assert ended.out.count("\n") == 1


def test_checking_a_whole_index(built, text):
    ended = command("index", "check", built, "--corpus", text)
    assert ended.code == 0, ended.err
    assert "2 documents" in ended.out
    assert json.loads(command("index", "check", built, "--json").out)["documents"] == 2


def test_checking_a_damaged_index(built):
    file = built / "00001.shard"
    raw = file.read_bytes()
    file.write_bytes(raw[:-1] + bytes([raw[-1] ^ 8]))
    is_one_sentence(command("index", "check", built), "00001.shard", "damaged", "build")
    is_one_sentence(command("index", "count", built, "be"), "00001.shard", "damaged", "build")


def test_checking_against_a_changed_corpus(built, text):
    (text / "b.txt").write_text("é let it go")
    is_one_sentence(command("index", "check", built, "--corpus", text), "b.txt has other content")
    is_one_sentence(command("index", "build", text, "--out", built), "b.txt has other content")
    assert command("index", "check", built).code == 0


def test_invalid_requests_are_one_line_errors(tmp_path, built, text):
    missing = tmp_path / "missing"
    is_one_sentence(command("index", "count", missing, "a"), "missing", "auditor index build")
    is_one_sentence(command("index", "find", text, "a"), "is no index", "auditor index build")
    is_one_sentence(command("index", "count", built, ""), "at least one character", code=2)
    is_one_sentence(command("index", "find", built, "a", "--limit", 0), "limit", code=2)
    is_one_sentence(command("index", "build", missing, "--out", tmp_path / "j"), "does not exist")
    is_one_sentence(command("index", "build", text, "--out", text), "exists and is no index")
    asked = ("index", "build", text, "--out", tmp_path / "j", "--shard-bytes", 0)
    is_one_sentence(command(*asked), "between 1 and", code=2)
    is_one_sentence(command("index", "build", "--out", tmp_path / "j"), "CORPUS", code=2)
    assert not (tmp_path / "j").exists()


def test_unreadable_input_is_reported(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "abc"}\nnot json\n')
    ended = command("index", "build", tmp_path / "rows.jsonl", "--out", tmp_path / "i")
    assert ended.code == 0
    assert "line 2 is not JSON" in ended.err
    asked = ("index", "build", tmp_path / "rows.jsonl", "--strict", "--out", tmp_path / "j")
    assert command(*asked).code == 1
    assert not (tmp_path / "j").exists()
