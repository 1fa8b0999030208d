"""Flags and audit files: both reach the config, and flags override the file."""

import re

import pytest

from auditor.cli.audit import audit
from auditor.cli.options import config_from
from auditor.config.audit_file import load_toml
from auditor.errors import ConfigError
from tests.tiny import command

HEAVY = {"torch", "transformers", "pandas", "pyarrow", "pydantic", "rich", "numpy", "datasets"}
HOSTILE = set("\x1b\x07\x9b\u202e")


def only(config):
    (strategy,) = config.strategies
    return strategy


# ------------------------------------------------------------------------------ flags, files
def flags(**given):
    return {"model": None, "references": (), "strategies": (), **given}


@pytest.mark.parametrize(
    "table",
    [
        "top_k = 10",
        "top-k = 10",
        "[decoding]\ntop_k = 10",
        "[strategy.top-n]\ntop_k = 10",
        "[strategy.top-n]\ndecoding = { top_k = 10 }",
        "strategies = [{ name = 'top-n', decoding = { top_k = 10 } }]",
    ],
)
def test_a_flag_overrides_the_file(tmp_path, table):
    file = tmp_path / "audit.toml"
    file.write_text(f"model = 'm'\n{table}\n")
    assert only(config_from(str(file), flags())).decoding.top_k == 10
    assert only(config_from(str(file), flags(top_k=3))).decoding.top_k == 3


def test_an_option_of_the_command_line_alone_is_refused_in_a_file(tmp_path):
    file = tmp_path / "audit.toml"
    for name in ("json", "resume"):
        file.write_text(f"model = 'm'\n{name} = true\n")
        ended = command("audit", file)
        assert ended.code == 2
        assert f"cannot set {name}" in ended.err
        assert f"--{name}" in ended.err


def test_omitted_flags_do_not_change_the_file(tmp_path):
    file = tmp_path / "audit.toml"
    file.write_text("model = 'm'\nstrict = true\nreferences = ['a', 'b']\nsamples = 12\n")
    assert config_from(str(file), flags(samples=20)).samples == 20
    config = config_from(str(file), flags(strict=None, samples=None))
    assert (config.strict, config.samples, config.top) == (True, 12, 12)
    assert config.references == {"a": "a", "b": "b"}


def test_a_flag_can_switch_off_what_a_file_switches_on(tmp_path):
    file = tmp_path / "audit.toml"
    file.write_text("model = 'm'\nstrict = true\n[strategy.top-n]\nstop_at_eos = true\n")
    config = config_from(str(file), flags(strict=False, stop_at_eos=False))
    assert not config.strict
    assert not only(config).decoding.stop_at_eos


@pytest.mark.parametrize(
    ("flag", "said", "preset"),
    [
        ({"prompts": ("a.txt",)}, "--prompts", "internet"),
        ({"template": "t.txt"}, "--template", "few-shot"),
        ({"examples": "t.csv"}, "--examples", "few-shot"),
        ({"words": ("poem",)}, "--word", "repeat"),
    ],
)
def test_a_flag_that_no_strategy_reads_is_refused(flag, said, preset):
    with pytest.raises(
        ConfigError, match=f"{said} needs a strategy .*got top-n.*--strategy {preset}"
    ):
        config_from(None, flags(model="m", **flag))
    assert (
        config_from(None, flags(model="m", strategies=(preset,), prompts=("a",)))
        if (preset == "internet")
        else config_from(None, flags(model="m", strategies=(preset,), **flag))
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such audit file"),
        (b"model = ", "is not TOML"),
        (b"model = '\xff'", "is not UTF-8"),
    ],
)
def test_an_audit_file_that_cannot_be_read_is_named(tmp_path, content, says):
    file = tmp_path / "audit.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=f"{re.escape(str(file))}.*{says}"):
        load_toml(file)


def test_a_folder_is_not_an_audit_file(tmp_path):
    with pytest.raises(ConfigError, match="is a folder"):
        load_toml(tmp_path)


def test_a_byte_order_mark_is_accepted(tmp_path):
    file = tmp_path / "audit.toml"
    file.write_bytes(b"\xef\xbb\xbfmodel = 'm'\n")
    assert load_toml(file) == {"model": "m"}


# ---------------------------------------------------------------------------------- flags
# Every flag with a value, and where in a config it must show.
_URL = ("--model", "http://localhost/v1")
_SERVER = (*_URL, "--served-model", "n", "--tokenizer", "t")
FLAGS = {
    "--model": (["n"], "model", "n"),
    "--reference": (["r=s"], "references", {"r": "s"}),
    "--strategy": (["pure"], "strategies.0.name", "pure"),
    "--samples": (["500"], "samples", 500),
    "--corpus": (["c"], "corpus", ("c",)),
    "--index": (["i"], "index", "i"),
    "--text-field": (["body"], "text_field", "body"),
    "--strict": ([], "strict", True),
    "--prompts": (["p", "--strategy", "internet"], "strategies.0.prompts.corpus", ("p",)),
    "--template": (["t", "--strategy", "few-shot"], "strategies.0.prompts.template", "t"),
    "--examples": (["e", "--strategy", "few-shot"], "strategies.0.prompts.examples", "e"),
    "--word": (["w", "--strategy", "repeat"], "strategies.0.prompts.words", ("w",)),
    "--samples-per-prompt": (["2"], "strategies.0.prompts.samples_per_prompt", 2),
    "--fill-gap": (["--answer"], "strategies.0.prompts.fill_gap", False),
    "--max-new-tokens": (["3"], "strategies.0.decoding.max_new_tokens", 3),
    "--temperature": (["0.5"], "strategies.0.decoding.temperature", 0.5),
    "--temperature-start": (["4"], "strategies.0.decoding.temperature_start", 4.0),
    "--temperature-steps": (["5"], "strategies.0.decoding.temperature_steps", 5),
    "--top-k": (["6"], "strategies.0.decoding.top_k", 6),
    "--top-p": (["0.7"], "strategies.0.decoding.top_p", 0.7),
    "--min-p": (["0.1"], "strategies.0.decoding.min_p", 0.1),
    "--typical-p": (["0.9"], "strategies.0.decoding.typical_p", 0.9),
    "--repetition-penalty": (["1.2"], "strategies.0.decoding.repetition_penalty", 1.2),
    "--beams": (["2"], "strategies.0.decoding.beams", 2),
    "--chain": (
        ["metropolis-hastings"],
        "strategies.0.decoding.chain",
        "metropolis-hastings",
    ),
    "--sweeps": (["3"], "strategies.0.decoding.sweeps", 3),
    "--pll": (["original"], "pll", "original"),
    "--stop-at-eos": ([], "strategies.0.decoding.stop_at_eos", True),
    "--top": (["9"], "top", 9),
    "--min-match-tokens": (["8"], "min_match_tokens", 8),
    "--min-match-chars": (["7"], "min_match_chars", 7),
    "--chat-template": ([], "strategies.0.prompts.chat_template", True),
    "--normalize": (["case"], "normalize", ("case",)),
    "--truth": (["t"], "truth", "t"),
    "--reveal": ([], "reveal", True),
    "--canaries": (["c"], "canaries", "c"),
    "--controls": (["h"], "controls", ("h",)),
    "--names": (["en_core_web_sm"], "names", "en_core_web_sm"),
    "--fdr": (["0.1", "--controls", "h"], "fdr", 0.1),
    "--yes": ([], "yes", True),
    "--price-per-hour": (["2.5"], "price_per_hour", 2.5),
    "--seed": (["4"], "seed", 4),
    "--bos": (["<s>"], "bos", "<s>"),
    "--dtype": (["float32"], "dtype", "float32"),
    "--device": (["cpu"], "device", "cpu"),
    "--workers": (["4"], "workers", 4),
    "--ray": (["auto"], "ray", "auto"),
    "--batch-size": (["3"], "batch_size", 3),
    "--shard-size": (["2"], "shard_size", 2),
    "--out": (["o"], "out", "o"),
    "--served-model": (["n", *_URL, "--tokenizer", "t"], "served.served_model", "n"),
    "--tokenizer": (["t", *_URL, "--served-model", "n"], "served.tokenizer", "t"),
    "--api-key-env": (["KEY", *_SERVER], "served.api_key_env", "KEY"),
    "--chat": ([*_SERVER], "served.chat", True),
    "--concurrency": (["9", *_SERVER], "served.concurrency", 9),
    "--max-requests": (["9", *_SERVER], "served.max_requests", 9),
    "--max-cost": (["9", "--price-per-million-input", "1", *_SERVER], "served.max_cost", 9.0),
    "--price-per-million-input": (["2", *_SERVER], "served.price_per_million_input", 2.0),
    "--price-per-million-output": (["2", *_SERVER], "served.price_per_million_output", 2.0),
}


def test_the_flag_test_knows_every_flag():
    own = {"file", "as_json", "resume", "offline", "quiet", "verbose"}
    assert set(FLAGS) == {p.opts[0] for p in audit.params if p.name not in own}


@pytest.mark.parametrize("verb", ["audit", "sample"])
@pytest.mark.parametrize("flag", FLAGS)
def test_every_flag_reaches_the_config(monkeypatch, verb, flag):
    seen = []

    def caught(config, **kwargs):
        seen.append(config)
        raise KeyboardInterrupt

    # This one first: it is imported here, and must not take the caught one for its own.
    monkeypatch.setattr("auditor.gates.gated_audit.run_audit", caught)
    monkeypatch.setattr("auditor.audit.pipeline.run_audit", caught)
    values, path, expected = FLAGS[flag]
    model = [] if flag == "--model" else ["--model", "m"]
    assert command(verb, *model, flag, *values).code == 130
    found = seen[0].model_dump()
    for step in path.split("."):
        found = found[int(step) if step.isdigit() else step]
    assert found == expected
