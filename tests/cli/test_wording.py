"""One name and one help for one thing in all verbs, and errors without names of classes."""

import re
from pathlib import Path

import click
import pytest

from auditor.cli.command import cli
from auditor.config.audit import make_config
from auditor.config.finetuning import FinetuneConfig
from auditor.errors import ConfigError
from tests.tiny import command

ROOT = Path(__file__).parents[2]


def options():
    """Every option of every verb: (verb, option)."""

    def below(group, names):
        for name in group.list_commands(click.Context(group)):
            found = group.get_command(click.Context(group), name)
            if isinstance(found, click.Group):
                yield from below(found, (*names, name))
            for param in found.params:
                if isinstance(param, click.Option):
                    yield " ".join((*names, name)), param

    return list(below(cli, ()))


@pytest.mark.parametrize(
    "flag",
    ["--device", "--text-field", "--index", "--json", "--offline", "--reference", "--normalize"],
)
def test_an_option_has_one_help(flag):
    helps = {o.help.partition("  [default")[0] for _, o in options() if flag in o.opts}
    assert len(helps) == 1


@pytest.mark.parametrize(
    ("flag", "metavar"), [("--model", "SPEC"), ("--corpus", "SPEC"), ("--canaries", "FILE")]
)
def test_an_option_has_one_metavar(flag, metavar):
    assert {o.metavar for _, o in options() if flag in o.opts} == {metavar}


def test_old_names_are_hidden_and_work():
    shown = command("finetune", "--help").out
    assert "--batch-size" in shown
    assert "--dtype" in shown
    assert not re.search(r"--batch |--precision", shown)
    old = ("--batch", "0", "--precision", "float32")
    ended = command("finetune", "--model", "m", "--corpus", "c", "--out", "o", *old)
    assert ended.code == 2
    assert "--batch-size must be at least 1; got 0" in ended.err


@pytest.mark.parametrize(
    ("alias", "name"),
    [("fp16", "float16"), ("half", "float16"), ("bf16", "bfloat16"), ("fp32", "float32")],
)
def test_the_usual_names_of_number_formats_are_accepted(alias, name):
    assert make_config({"model": "m", "dtype": alias}).dtype == name
    assert make_config({"model": "m", "dtype": f"torch.{name}"}).dtype == name
    if name != "float16":
        assert FinetuneConfig(model="m", corpora=("c",), precision=alias).precision == name


def test_another_number_format_is_refused_with_those_that_are_allowed():
    with pytest.raises(ConfigError, match="'float32', 'bfloat16' or 'float16'; got 'int8'"):
        make_config({"model": "m", "dtype": "int8"})


@pytest.mark.parametrize("verb", ["audit", "sample"])
def test_a_temperature_of_zero_names_the_option_for_greedy_decoding(verb):
    ended = command(verb, "--model", "m", "--temperature", "0")
    assert ended.code == 2
    assert "temperature must be above 0; got 0.0" in ended.err
    assert "--top-k 1" in ended.err


@pytest.mark.parametrize("spec", ["nope.txt", "wikitex.txt", "./wikitex", "texts/wikitext"])
def test_a_missing_file_suggests_no_preset(spec):
    ended = command("index", "build", spec, "--out", "nowhere")
    assert f"{spec} does not exist" in ended.err
    assert "Did you mean" not in ended.err


@pytest.mark.parametrize(("spec", "preset"), [("wikitex", "wikitext"), ("glue/qnl", "glue/qnli")])
def test_a_name_close_to_a_preset_suggests_it(spec, preset):
    ended = command("index", "build", spec, "--out", "nowhere")
    assert f"Did you mean the preset {preset}?" in ended.err


def test_skipped_files_are_counted_in_one_line(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for i in range(12):
        (folder / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    (folder / "a.txt").write_text("some text")
    ended = command("index", "build", folder, "--out", tmp_path / "index")
    assert ended.code == 0
    assert "12 files were skipped (see --verbose)." in ended.err
    assert ".png" not in ended.err


def test_no_message_is_made_of_the_name_of_a_class():
    # Other processes and programs read the first two; the third only distinguishes errors.
    machine = {"audit/workers/shard_worker.py", "gates/gated_audit.py", "models/hub_download.py"}
    found = {
        path.relative_to(ROOT / "auditor").as_posix()
        for path in (ROOT / "auditor").rglob("*.py")
        if re.search(
            r"type\((error|exc|e)\)\.__name__|__class__\.__name__", path.read_text("utf-8")
        )
    }
    assert found == machine
