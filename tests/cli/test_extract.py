"""`auditor extract`: its four kinds of input, and one-line errors."""

import json

import numpy as np
import pytest

from auditor.cli.command import VERBS
from auditor.corpus.reading import read_corpus
from auditor.extraction.benchmark_files import Examples
from auditor.matching.index import build_index
from tests.benchmark_folder import write_examples
from tests.tiny import WORDS, command, save_tiny_model


@pytest.fixture(autouse=True)
def the_verb_is_known(monkeypatch):
    monkeypatch.setitem(VERBS, "extract", ("auditor.cli.extract", "Discoverable extraction."))


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """A folder with a model, a text and the benchmark's arrays."""
    folder = tmp_path_factory.mktemp("there")
    save_tiny_model(folder / "model")
    (folder / "text.txt").write_text(WORDS, encoding="utf-8")
    rows = np.random.default_rng(0).integers(0, 300, (4, 8)).astype(np.uint16)
    write_examples(folder, Examples(rows[:, :5], rows[:, 5:]))
    return folder


def extract(there, *args):
    return command("extract", "--model", there / "model", *args)


TOO_LONG = (
    "--prefix-tokens must be between 1 and 14 (context 64 minus suffix 50); got 1000. "
    "Lower --prefix-tokens or --suffix-tokens."
)
SHORT = ("--prefix-tokens", 4, "--suffix-tokens", 4)


def test_a_corpus_is_reported_in_a_headline_and_two_tables(there):
    ended = extract(there, "--corpus", there / "text.txt", *SHORT, "--p", 0.9)
    assert ended.code == 0, ended.err
    assert "given 4 tokens: greedy decoding reproduces the next 4 tokens in none of 1" in ended.out
    assert "n=100 p=0.9" in ended.out
    assert "Log-linear laws" in ended.out
    assert WORDS[:20] not in ended.out


@pytest.mark.parametrize(
    ("what", "table"),
    [("--corpus", "summary"), ("--document", "coverage"), ("--benchmark", "scores")],
)
def test_json_is_json_and_nothing_else(there, tmp_path, what, table):
    source = there if what == "--benchmark" else there / "text.txt"
    lengths = SHORT[2:] if what == "--benchmark" else SHORT  # arrays bring their prefixes
    ended = extract(there, what, source, *lengths, "--json", "--out", tmp_path / "out")
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert told["headline"]
    assert told[table]
    assert (tmp_path / "out" / "extraction.json").exists()


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        ((), 2, "Give one of --corpus, --index, --document and --benchmark; got none"),
        (("--corpus", "a", "--document", "b"), 2, "got --corpus, --document"),
        (("--corpus", "{}/text.txt", "--prefix-tokens", 1000), 2, TOO_LONG),
        (("--corpus", "{}/text.txt", "--top-p", 7), 2, "--top-p"),
        (("--corpus", "{}/no-such-file.txt"), 1, "no-such-file.txt"),
        (("--corpus", "{}/text.txt", "--prefix-tokens", 5), 1, "at least 55 tokens"),
        (("--document", "{}/text.txt", "--stride", 0, *SHORT), 2, "--stride must be at least 1"),
        (("--document", "{}/text.txt", *SHORT, "--prefix-tokens", 9), 2, "one --prefix-tokens"),
        (("--document", "{}/text.txt", "--examples", 9), 2, "--examples is for --corpus and --ind"),
        (("--index", "{}/i", "--text-field", "a"), 2, "--text-field is for --corpus; got --index"),
        (("--corpus", "{}/text.txt", "--split", "val"), 2, "--split is for --benchmark; got --co"),
        (("--benchmark", "{}", "--with-bos"), 2, "--with-bos is for"),
        (("--benchmark", "{}", "--split", "val"), 1, "has no val_prefix.npy"),
        (("--benchmark", "{}", "--out", "{}"), 1, "not an extraction's folder"),
        (("--benchmark", "{}", "--model", "other"), 2, "takes one --model"),
    ],
)  # fmt: skip
def test_invalid_input_is_a_one_line_error(there, args, code, told):
    filled = [str(arg).replace("{}", str(there)) for arg in args]
    ended = extract(there, *filled)
    assert ended.code == code
    assert told in " ".join(ended.err.split())
    assert "Traceback" not in ended.err


def test_an_index_gives_the_same_answers_as_its_text(there, tmp_path):
    build_index(read_corpus([there / "text.txt"]), tmp_path / "index")
    told = [
        json.loads(extract(there, *source, *SHORT, "--json").out)
        for source in (("--corpus", there / "text.txt"), ("--index", tmp_path / "index"))
    ]
    assert told[0] == told[1]


def test_help_waits_for_no_model_library():
    import subprocess
    import sys

    code = (
        "import sys, auditor.cli.extract, auditor.extraction; "
        "sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_broken_line_is_reported_and_an_error_with_strict(there, tmp_path):
    lines = tmp_path / "text.jsonl"
    lines.write_text(json.dumps({"text": WORDS}) + "\n{broken\n")
    ended = extract(there, "--corpus", lines, *SHORT)
    assert ended.code == 0
    assert "line 2 is not JSON" in ended.err
    ended = extract(there, "--corpus", lines, *SHORT, "--strict")
    assert (ended.code, ended.out) == (1, "")
    assert "line 2 is not JSON" in ended.err


def test_a_document_s_table_has_room_on_a_terminal(there):
    ended = extract(there, "--document", there / "text.txt", *SHORT, "--stride", 4)
    assert ended.code == 0, ended.err
    [head] = [line for line in ended.out.splitlines() if "longest run" in line and "p_z" in line]
    assert [name.strip() for name in head.strip("┃ ").split("┃")] == [
        *("p_z", "characters", "share", "longest run", "with prefixes")
    ]
    [half] = [line for line in ended.out.splitlines() if "0.5 " in line and "│" in line]
    assert half.count("0.0 %") == 2
