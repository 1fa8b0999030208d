"""Hostile model output is escaped in every report format."""

import csv
import io
import json
import unicodedata
from html.parser import HTMLParser

import numpy as np
import pytest

from auditor.models.interfaces import Samples
from auditor.runs.run import load_run
from reports.safe_text import restore, visible
from tests.tiny import candidates_in, command, save_tiny_model

# The words make each text its own, so that none is passed over as a duplicate.
SAID = [
    f"{text} alpha{i} beta{i} gamma{i} delta{i}"
    for i, text in enumerate(
        [
            "<script>alert(1)</script>",
            "</script><img src=x onerror=alert(1)>",
            "<!-- <script> -->",
            "\x1b[31mred\x1b]0;title\x07",
            "nul\x00nul",
            "lone\ud800surrogate",
            "\u202egnp.exe",
            "=cmd|'/C calc'!A0",
            "+1+1",
            "-2+3",
            "@SUM(1)",
            "\t=1",
            "long " + "x" * 20_000,
            "emoji 👩‍👩‍👧 \U000e0041",
            "line\nline\r\nline\u2028line",
            "{{ 7 * 7 }} {% raw %} ${x} %(y)s",
            '" onmouseover="alert(1)',
            "'; DROP TABLE samples; --",
            "\\x1b[31m backslash \\n",
            "[red]markup[/red] \x9b31m",
        ]
    )
]
WORD = "<b>\x1b[31mword"
DOCUMENT = "doc<script>\x1b[31m\u202e"


def heard(text):
    """What is left of a text that went through bytes, as a model's does: no lone surrogates."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def saying(texts):
    """A stand-in for `generate` whose sample i is text i, one token a byte."""

    def generate(model, prompts, sample_ids, **kwargs):
        token = {piece: i for i, piece in enumerate(model.vocabulary.token_bytes) if piece}
        rows = [
            [token[bytes([byte])] for byte in texts[i].encode("utf-8", "surrogatepass")]
            for i in sample_ids
        ]
        shape = (len(rows), max(map(len, rows)))
        ids, logprob = np.zeros(shape, np.int32), np.full(shape, -0.5, np.float32)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
            logprob[i] -= i / 100
        length = np.array([len(row) for row in rows], np.int32)
        rank = np.zeros(shape, np.int32)
        return Samples(ids, logprob, rank, length, np.zeros(len(rows), bool)), kwargs["n_slots"]

    return generate


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A finished audit of a model that says nothing but attacks, and how the command ended."""
    folder = tmp_path_factory.mktemp("hostile")
    model = save_tiny_model(folder / "model<i>\x1b[31m")
    lines = [json.dumps({"id": f"{DOCUMENT}{i}", "text": heard(t)}) for i, t in enumerate(SAID)]
    (folder / "training\x1b[31m.jsonl").write_text("\n".join([*lines[::2], "{broken \x1b[31m"]))
    settings = {
        "model": str(model),
        "references": [str(model)],
        "samples": len(SAID),
        "corpus": [str(folder / "training\x1b[31m.jsonl")],
        "min_match_chars": 20,
        "strategies": ["repeat"],
        "prompts": {"words": [WORD], "repeats": 1},
        "decoding": {"max_new_tokens": 32},
        "out": str(folder / "run\x1b[31m"),
    }
    toml = "".join(f"{key} = {in_line(value)}\n" for key, value in settings.items())
    (folder / "audit.toml").write_text(toml)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("auditor.sampling.generate.generate", saying(SAID))
        ended = command("audit", folder / "audit.toml")
    return folder / "run\x1b[31m", ended


def in_line(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {in_line(v)}" for k, v in value.items()) + "}"
    return json.dumps(value)


@pytest.fixture(scope="module")
def run(place):
    path, ended = place
    assert ended.code == 0, ended.err
    return load_run(path)


def is_hidden(char):
    return char != "\n" and unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")


def controls(text):
    """Control characters, separators, lone surrogates and marks that turn the reading round."""
    return {c for c in text if is_hidden(c) or "\u202a" <= c <= "\u202e"}


# -------------------------------------------------------------------------------- frames
def test_the_frames_contain_the_exact_texts(run):
    assert run.samples()["text"].tolist() == [heard(text) for text in SAID]
    assert set(run.samples()["prompt"]) == {WORD}
    assert set(run.candidates()["text"]) == {heard(text) for text in SAID}


def test_hostile_training_text_is_found(run):
    found = run.candidates().set_index("text")
    assert [found.loc[heard(t), "verdict"] for t in SAID[::2]] == ["verbatim"] * len(SAID[::2])
    assert set(found.loc[heard(SAID[2])][["doc_id"]]) == {f"{DOCUMENT}2"}


# ----------------------------------------------------------------------------------- CSV
@pytest.fixture(scope="module", params=["candidates.csv", "summary.csv"])
def table(request, run):
    return (run.path / request.param).read_bytes().decode("utf-8")


def test_no_cell_is_a_formula_or_holds_a_control_character(table):
    for row in csv.reader(io.StringIO(table)):
        for cell in row:
            assert not cell.startswith(("=", "+", "@", "\t", "\r"))
            assert not cell.startswith("-") or is_number(cell)
            assert "\n" not in cell
            assert controls(cell) == set()


def is_number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return True


def test_a_row_is_a_line(table):
    rows = list(csv.reader(io.StringIO(table)))
    assert len(table.splitlines()) == len(rows)
    assert len({len(row) for row in rows}) == 1


def test_the_csv_gives_the_texts_back(run):
    raw = (run.path / "candidates.csv").read_bytes().decode("utf-8")
    rows = list(csv.DictReader(io.StringIO(raw)))
    assert {restore(row["text"].removeprefix("'")) for row in rows} == {heard(t) for t in SAID}


# ---------------------------------------------------------------------------------- page
class Page(HTMLParser):
    """A page's elements, and what stands in its scripts and in its text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.scripts, self.words = [], [], []
        self._in_script = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self._in_script = True
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._in_script &= tag != "script"

    def handle_data(self, text):
        if self._in_script:
            self.scripts[-1] += text
        else:
            self.words.append(text)


@pytest.fixture(scope="module")
def page(run):
    return run.report.read_bytes().decode("utf-8")


def test_the_page_holds_no_control_character(page):
    assert controls(page) == set()


def test_no_text_becomes_an_element(page):
    parsed = Page(page)
    tags = {tag for tag, _ in parsed.elements}
    assert tags & {"img", "i", "u", "b", "iframe", "object", "embed", "form", "link"} == set()
    attributes = {name for _, attrs in parsed.elements for name in attrs}
    assert {name for name in attributes if name.startswith("on")} == set()
    assert len(parsed.scripts) == 2


def test_the_script_of_the_page_contains_no_text_of_the_run(page):
    _, code = Page(page).scripts  # the first is the compressed candidates
    assert "alert(" not in code
    assert not any(f"alpha{i}" in code for i in range(len(SAID)))


def test_the_page_shows_every_text_made_visible(page):
    expected = {visible(heard(t), keep_newlines=True, double_backslash=False) for t in SAID}
    assert set(candidates_in(page)["text"]) == expected


# ------------------------------------------------------------------------------- terminal
def test_the_terminal_gets_no_control_character_and_no_text(place):
    _, ended = place
    assert ended.code == 0
    assert controls(ended.out) | controls(ended.err) == set()
    assert "alpha" not in ended.out + ended.err
    assert "{broken" not in ended.err


@pytest.mark.parametrize("args", [["report"], ["report", "--json"], ["verify"]])
def test_a_run_shown_again_is_escaped_too(run, args):
    ended = command(*args, run.path)
    assert ended.code == 0, ended.err
    assert controls(ended.out) | controls(ended.err) == set()


def test_json_for_a_script_is_plain_ascii(run):
    told = command("report", run.path, "--json").out
    assert told.isascii()
    assert json.loads(told)["run"] == str(run.path)


# --------------------------------------------------------------- names that are not Unicode
def test_an_id_that_is_not_unicode_is_no_obstacle(tmp_path, monkeypatch):
    model = save_tiny_model(tmp_path / "model")
    text = "one text that stands in the training text as it is"
    (tmp_path / "corpus.jsonl").write_text('{"id": "\\ud800", "text": "' + text + '"}\n')
    monkeypatch.setattr("auditor.sampling.generate.generate", saying([text]))
    ended = command(
        *("audit", "--model", model, "--samples", 1, "--max-new-tokens", 32),
        *("--min-match-chars", 20, "--out", tmp_path / "run"),
        *("--corpus", tmp_path / "corpus.jsonl"),
    )
    assert ended.code == 0, ended.err
    assert load_run(tmp_path / "run").candidates()["verdict"].tolist() == ["verbatim"]


def test_a_file_whose_name_is_not_unicode_is_no_obstacle(tmp_path, monkeypatch):
    model = save_tiny_model(tmp_path / "model")
    text = "one text that stands in the training text as it is"
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "odd\udcff.txt").write_text(text)
    monkeypatch.setattr("auditor.sampling.generate.generate", saying([text]))
    ended = command(
        *("audit", "--model", model, "--samples", 1, "--max-new-tokens", 32),
        *("--min-match-chars", 20, "--out", tmp_path / "run"),
        *("--corpus", tmp_path / "corpus"),
    )
    assert ended.code == 0, ended.err
    assert load_run(tmp_path / "run").candidates()["verdict"].tolist() == ["verbatim"]
