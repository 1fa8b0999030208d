"""Where the terminal is not UTF-8, every verb prints ASCII, or what the encoding has."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from auditor.cli.command import VERBS, cli
from tests.tiny import WORDS, command, save_texts

NAME = "dossier é–…→"  # of the folder with everything


@pytest.fixture(scope="module")
def place(base, tmp_path_factory, no_waiting_for_the_disk):
    """A folder whose name is not ASCII, with a model, texts and the results that verbs read."""
    place = tmp_path_factory.mktemp("encodings") / NAME
    shutil.copytree(base, place / "modèle")
    for name in ("in", "out"):
        lines = [f"“{WORDS}” – {name} {i} times, naïve … {i * i}" for i in range(30)]
        save_texts(place / f"{name}.jsonl", lines)
    (place / "audit.toml").write_text('model = "gpt2"\n', encoding="utf-8")
    for args in (
        audit(place, "run"),
        audit(place, "other", "--seed", "1"),
        ("canaries", "create", "--format", "pin", "--count", 2, "--out", place / "canaries.json"),
        ("index", "build", place / "in.jsonl", "--out", place / "text.index"),
    ):
        ended = command(*args)
        assert ended.code == 0, ended.err
    return place


def audit(place, out, *more):
    return (
        *("audit", "--model", place / "modèle", "--samples", 8, "--max-new-tokens", 6, *more),
        *("--corpus", place / "in.jsonl", "--min-match-chars", 4, "--out", place / out),
    )


def texts(place):
    return ("--texts", place / "in.jsonl", "--heldout", place / "out.jsonl", "--examples", 4)


# Verb -> its arguments, given the folder.
CASES = {
    "audit": lambda p: audit(p, "run")[1:],
    "init": lambda p: (p / "new.toml", "--overwrite"),
    "sample": lambda p: ("--resume", p / "run"),
    "score": lambda p: (
        *(p / "in.jsonl", "--model", p / "modèle", "--out", p / "scores.csv", "--overwrite"),
    ),
    "verify": lambda p: (p / "run", "--min-match-chars", 5),
    "report": lambda p: (p / "run",),
    "attention": lambda p: (p / "run", "--sample", "top-n-nowhere"),
    "demo": lambda p: (p / "demo", "--size", "tiny", "--samples", 4),
    "testbed": lambda p: (p / "demo" / "testbed", "--size", "tiny"),
    "models": lambda p: (),
    "models add": lambda p: ("é–",),
    "models remove": lambda p: ("é–",),
    "extract": lambda p: (
        *("--model", p / "modèle", "--corpus", p / "in.jsonl", "--examples", 4),
        *("--prefix-tokens", 8, "--suffix-tokens", 8, "--out", p / "extraction"),
    ),
    "members": lambda p: (
        *("--members", p / "in.jsonl", "--nonmembers", p / "out.jsonl"),
        *("--model", p / "modèle", "--out", p / "members", "--overwrite"),
    ),
    "references train": lambda p: (
        *("--model", p / "modèle", "--pool", p / "in.jsonl", "--models", 2),
        *("--out", p / "references", "--max-steps", 1, "--row-tokens", 16),
    ),
    "references score": lambda p: (p / "references",),
    "finetune": lambda p: (
        *("--model", p / "modèle", "--corpus", p / "in.jsonl", "--out", p / "tuned"),
        *("--max-steps", 2, "--row-tokens", 16),
    ),
    "compare": lambda p: (p / "run", p / "other"),
    "canaries create": lambda p: ("--format", "pin", "--out", p / "canaries.json"),
    "canaries insert": lambda p: (
        *(p / "canaries.json", "--corpus", p / "in.jsonl", "--out", p / "with.jsonl"),
    ),
    "canaries measure": lambda p: (p / "canaries.json", "--model", p / "modèle"),
    "index build": lambda p: (p / "in.jsonl", "--out", p / "text.index"),
    "index check": lambda p: (p / "text.index",),
    "index count": lambda p: (p / "text.index", "naïve …"),
    "index find": lambda p: (p / "text.index", "naïve …"),
    "runs": lambda p: (p,),
    "schedule": lambda p: (p / "audit.toml", "--cron", "@daily", "--print", "systemd"),
    "doctor": lambda p: (),
}
# These end with an error, which is a sentence as well.
REFUSED = {"attention", "models add", "models remove", "canaries create"}


def leaves(group, names=()):
    """Every command, by its words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        if not isinstance(found, click.Group) or found.invoke_without_command:
            yield " ".join((*names, name))
        if isinstance(found, click.Group):
            yield from leaves(found, (*names, name))


def test_every_verb_has_a_case():
    assert list(leaves(cli)) == sorted(CASES, key=list(leaves(cli)).index)


@pytest.mark.parametrize("verb", CASES)
def test_every_verb_prints_ascii(place, bed, verb):
    if verb in ("demo", "testbed") and not (place / "demo").exists():
        shutil.copytree(bed.folder, place / "demo" / "testbed")
    ended = command(*verb.split(), *CASES[verb](place), encoding="ascii")
    assert (ended.code != 0) == (verb in REFUSED), ended.err
    shown = ended.out + ended.err
    assert shown.isascii()
    assert shown.strip()
    assert "Traceback" not in shown


@pytest.mark.parametrize("verb", VERBS)
def test_every_help_is_ascii(verb):
    ended = command(verb, "--help", encoding="ascii")
    assert ended.code == 0
    assert ended.out.isascii()


def test_tables_are_drawn_in_ascii_and_sentences_use_the_nearest_characters(place):
    ended = command("report", place / "run", "--verbose", encoding="ascii")
    assert "+--" in ended.out
    assert "\\u25" not in ended.out  # no box of Unicode
    assert "\\u20" not in ended.out + ended.err  # dashes, quotes and dots
    assert '"Not found" means' in ended.err
    assert "dossier \\xe9-...->" in ended.out


def test_an_encoding_keeps_the_characters_that_it_has(place):
    ended = command("report", place / "run", encoding="latin-1")
    assert "dossier é-...->" in ended.out
    assert ended.code == 0


def test_utf8_is_printed_as_it_is(place):
    ended = command("report", place / "run", "--verbose")
    assert NAME in ended.out
    assert "“Not found” means" in ended.err


@pytest.mark.parametrize(
    "settings",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=repr,
)
def test_a_process_in_another_locale_prints_no_traceback(place, settings):
    words = [sys.executable, "-m", "auditor", "runs", str(place)]
    done = subprocess.run(
        words, cwd=Path(__file__).parents[2], env={**os.environ, **settings}, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"complete" in done.stdout
    assert b"\xe2" not in done.stdout  # no UTF-8
