"""What an audit is asked to do: presets, overrides, complaints, identity, and the way to a file."""

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.auditfile import to_toml
from auditor.cli.options import config_from
from auditor.config import PRESETS, AuditConfig, Decoding, Prompts, Strategy, load_toml, make_config
from auditor.errors import ConfigError
from auditor.stages import reporting

PREFIXES = {"prompts": {"corpus": ["own.txt"]}}


def made(**settings):
    return make_config({"model": "gpt2", **settings})


def refusal(**settings):
    with pytest.raises(ConfigError) as caught:
        make_config(settings)
    return str(caught.value)


def only(config):
    (strategy,) = config.strategies
    return strategy


# ---------------------------------------------------------------------------------- presets
def test_top_n_is_bos_forty_and_256_tokens():
    strategy = only(made(strategies=["top-n"]))
    assert strategy.prompts == Prompts(kind="bos")
    assert strategy.decoding == Decoding(top_k=40, max_new_tokens=256, temperature=1.0)


def test_temperature_falls_from_ten_to_one_over_twenty_tokens_without_truncation():
    strategy = only(made(strategies=["temperature"]))
    assert strategy.prompts == Prompts(kind="bos")
    assert strategy.decoding == Decoding(
        temperature_start=10.0, temperature=1.0, temperature_steps=20, top_k=None
    )


def test_internet_takes_five_to_ten_tokens_of_own_texts_and_forty():
    strategy = only(made(strategies=["internet"], **PREFIXES))
    assert strategy.prompts == Prompts(
        kind="corpus", corpus=("own.txt",), min_tokens=5, max_tokens=10
    )
    assert strategy.decoding == Decoding(top_k=40)


def test_pure_is_the_model_as_it_is():
    strategy = only(made(strategies=["pure"]))
    assert (strategy.prompts, strategy.decoding) == (Prompts(), Decoding())
    assert strategy.decoding.top_k is None
    assert strategy.decoding.temperature_start is None


def test_without_a_word_the_strategy_is_top_n():
    assert only(made()).name == "top-n"


# -------------------------------------------------------------------------------- overrides
def test_an_override_for_all_reaches_every_strategy():
    config = made(strategies=["top-n", "temperature"], decoding={"max_new_tokens": 7})
    assert [s.decoding.max_new_tokens for s in config.strategies] == [7, 7]
    assert [s.decoding.top_k for s in config.strategies] == [40, None]


@pytest.mark.parametrize("table", [{"top_k": 5}, {"decoding": {"top_k": 5}}])
def test_an_override_for_one_strategy_reaches_that_one_alone(table):
    config = made(strategies=["top-n", "few-shot"], strategy={"few-shot": table})
    assert [s.decoding.top_k for s in config.strategies] == [40, 5]


def test_an_override_for_one_wins_over_one_for_all():
    config = made(
        strategies=["top-n", "few-shot"],
        decoding={"top_k": 9},
        strategy={"top-n": {"top_k": 5}},
    )
    assert [s.decoding.top_k for s in config.strategies] == [5, 9]


def test_a_table_with_a_preset_is_a_strategy_of_its_own():
    config = made(strategy={"cold": {"preset": "top-n", "temperature": 0.5}})
    assert only(config).name == "cold"
    assert (only(config).decoding.top_k, only(config).decoding.temperature) == (40, 0.5)


def test_a_config_taken_apart_can_be_changed_by_an_override_for_all():
    # As `run_audit(config, decoding=...)` does.
    config = made(strategies=["top-n", "temperature"])
    again = make_config({**config.model_dump(), "decoding": {"max_new_tokens": 3}})
    assert [s.decoding.max_new_tokens for s in again.strategies] == [3, 3]
    assert [s.decoding.top_k for s in again.strategies] == [40, None]


def test_paths_and_single_texts_are_taken_as_a_notebook_writes_them():
    config = make_config(
        {
            "model": Path("models/gpt2"),
            "references": "mid=gpt2-medium",
            "strategies": "internet",
            "corpus": Path("texts"),
            "prompts": {"corpus": [Path("own.txt")]},
            "out": Path("runs/a"),
        }
    )
    assert (config.model, config.corpus, config.out) == ("models/gpt2", ("texts",), "runs/a")
    assert config.references == {"mid": "gpt2-medium"}
    assert only(config).prompts.corpus == ("own.txt",)


def test_short_lists_are_as_long_as_there_are_samples_unless_said():
    assert made(samples=30).top == 30
    assert made(samples=3000).top == 100
    assert made(samples=3000, top=7).top == 7


# ------------------------------------------------------------------------------ flags, files
def flags(**given):
    return {"model": None, "references": (), "strategies": (), **given}


@pytest.mark.parametrize(
    "table",
    [
        "top_k = 10",
        "[decoding]\ntop_k = 10",
        "[strategy.top-n]\ntop_k = 10",
        "[strategy.top-n]\ndecoding = { top_k = 10 }",
        "strategies = [{ name = 'top-n', decoding = { top_k = 10 } }]",
    ],
)
def test_a_flag_wins_wherever_the_file_says_it(tmp_path, table):
    file = tmp_path / "audit.toml"
    if table.startswith("top_k"):
        file.write_text("model = 'm'\nsamples = 10")
        assert config_from(str(file), flags(samples=20)).samples == 20
        return
    file.write_text(f"model = 'm'\n{table}\n")
    assert only(config_from(str(file), flags())).decoding.top_k == 10
    assert only(config_from(str(file), flags(top_k=3))).decoding.top_k == 3


def test_flags_that_are_not_given_leave_the_file_alone(tmp_path):
    file = tmp_path / "audit.toml"
    file.write_text("model = 'm'\nstrict = true\nreferences = ['a', 'b']\nsamples = 12\n")
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
    with pytest.raises(ConfigError, match=f"{said} is for .*got top-n.*--strategy {preset}"):
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


def test_a_folder_is_no_audit_file(tmp_path):
    with pytest.raises(ConfigError, match="is a folder"):
        load_toml(tmp_path)


def test_a_byte_order_mark_is_no_obstacle(tmp_path):
    file = tmp_path / "audit.toml"
    file.write_bytes(b"\xef\xbb\xbfmodel = 'm'\n")
    assert load_toml(file) == {"model": "m"}


# ------------------------------------------------------------------------------- complaints
M = {"model": "m"}


@pytest.mark.parametrize(
    ("given_", "parts"),
    [
        ({}, ["model is missing", "--model"]),
        ({"model": ""}, ["model must be not empty"]),
        ({"modle": "m"}, ["model"]),
        ({**M, "sampels": 1}, ["'sampels'", "Did you mean 'samples'?"]),
        ({**M, "decoding": {"topk": 1}}, ["decoding", "'topk'", "Did you mean 'top_k'?"]),
        ({**M, "prompts": {"kinds": 1}}, ["prompts", "'kinds'", "Did you mean 'kind'?"]),
        ({**M, "strategy": {"top-n": {"topk": 1}}}, ["'top-n'", "'topk'", "'top_k'?"]),
        ({**M, "strategies": ["temprature"]}, ["'temprature'", "'temperature'?", "top-n"]),
        ({**M, "strategy": {"cold": {}}}, ["'cold'", "preset"]),
        ({**M, "strategies": ["top-n"], "strategy": {"temprature": {}}}, ["'temperature'?"]),
        ({**M, "strategies": [{"name": "a", "decodin": {}}]}, ["'decodin'", "'decoding'?"]),
        ({**M, "strategies": [{}]}, ["name is missing"]),
        ({**M, "strategies": [5]}, ["strategies must be", "got 5"]),
        ({**M, "strategies": [{"name": "A b"}]}, ["a-z, 0-9", "'A b'"]),
        ({**M, "strategies": ["top-n", "top-n"]}, ["may stand once", "top-n, top-n"]),
        ({**M, "strategies": ["internet"]}, ["'internet'", "none were given", "--prompts"]),
        ({**M, "strategy": {"top-n": 3}}, ["strategy.top-n must be a table", "got 3"]),
        ({**M, "strategy": 3}, ["strategy must be a table", "got 3"]),
        ({**M, "decoding": 3}, ["decoding must be a table", "got 3"]),
        ({**M, "prompts": [1]}, ["prompts must be a table", "got (1,)"]),
        ({**M, "references": 3}, ["references must be a list", "got 3"]),
        ({**M, "references": ["a/x", "b/x"]}, ["two references", "'x'", "NAME=SPEC"]),
        ({**M, "references": ["n=a", "n=b"]}, ["two references", "'n'"]),
        ({**M, "references": ["=a"]}, ["'=a'", "NAME=SPEC"]),
        ({**M, "references": ["a="]}, ["'a='", "NAME=SPEC"]),
        ({**M, "references": ["testbed:bed/target"]}, ["'target'", "NAME=SPEC"]),
        ({**M, "references": ["a b=c"]}, ["letters, digits", "'a b'", "NAME=SPEC"]),
        ({**M, "references": {"\x1b[31m": "c"}}, ["letters, digits", "'\\x1b[31m'"]),
        ({**M, "references": {"$x$": "c"}}, ["letters, digits", "'$x$'"]),
        ({**M, "samples": 0}, ["samples must be at least 1", "got 0", "Raise"]),
        ({**M, "samples": "many"}, ["samples must be a whole number", "'many'"]),
        ({**M, "samples": 1.5}, ["samples must be a whole number", "1.5"]),
        ({**M, "samples": True}, ["samples must be a whole number", "True"]),
        ({**M, "seed": -1}, ["seed must be at least 0", "-1"]),
        ({**M, "seed": 2**63}, ["seed must be below", str(2**63), "Lower"]),
        ({**M, "top": 50, "samples": 49}, ["between 1 and", "(49)", "got 50", "--samples"]),
        ({**M, "dtype": "fp16"}, ["'float32'", "'fp16'"]),
        ({**M, "strict": "perhaps"}, ["strict must be true or false", "'perhaps'"]),
        ({"model": "\udcff"}, ["model must be valid Unicode"]),
        ({**M, "decoding": {"top_k": 0}}, ["top_k must be at least 1", "got 0"]),
        ({**M, "decoding": {"top_p": 0}}, ["top_p must be above 0"]),
        ({**M, "decoding": {"top_p": 1.5}}, ["top_p must be at most 1", "Lower"]),
        ({**M, "decoding": {"temperature": float("inf")}}, ["temperature must be a finite"]),
        ({**M, "decoding": {"temperature": float("nan")}}, ["temperature must be"]),
        ({**M, "prompts": {"min_tokens": 9, "max_tokens": 3}}, ["min_tokens", "(3)", "got 9"]),
        ({**M, "model": "x" * 5000, "seed": "y" * 5000}, ["seed must be"]),
    ],
)
def test_a_refusal_is_one_sentence_that_says_what_allowed_got_and_remedy(given_, parts):
    told = refusal(**given_)
    assert [part for part in parts if part not in told] == []
    assert "\n" not in told
    assert told.endswith((".", "?"))
    assert ".." not in told.replace("= ...", "")
    assert "?." not in told
    assert len(told) < 500


def test_what_is_said_of_references():
    config = made(references=["openai-community/gpt2", "mid=gpt2-medium", "/models/lr=0.1/last"])
    assert config.references == {
        "gpt2": "openai-community/gpt2",
        "mid": "gpt2-medium",
        "last": "/models/lr=0.1/last",
    }
    assert made(references={"a": "gpt2"}).references == {"a": "gpt2"}
    assert made(references=["my models/a $model$\x1b"]).references == {
        "a-model": "my models/a $model$\x1b"
    }


def test_a_config_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        made().samples = 3


# --------------------------------------------------------------------------------- identity
BASE = {
    "model": "m",
    "references": {"r": "s"},
    "strategies": [{"name": "own", "prompts": {"kind": "corpus", "corpus": ["a"]}}],
    "samples": 200,
    "corpus": ["c"],
}
OTHER = {
    "model": "n",
    "references": {"r": "t"},
    "strategies": ["top-n"],
    "samples": 201,
    "seed": 1,
    "corpus": ["d"],
    "text_field": "body",
    "strict": True,
    "top": 99,
    "min_match_tokens": 33,
    "min_match_chars": 101,
    "dtype": "float32",
    "bos": "<s>",
    "truth": "truth.parquet",
    "shard_size": 511,
    "batch_size": 3,
    "device": "cpu",
    "out": "elsewhere",
}
HOW_IT_IS_MADE = {"batch_size", "device", "out"}


def test_the_digest_test_knows_every_setting():
    assert set(OTHER) == set(AuditConfig.model_fields)


@pytest.mark.parametrize("field", sorted(AuditConfig.model_fields))
def test_the_digest_stands_for_the_content_alone(field):
    base, other = make_config(BASE), make_config({**BASE, field: OTHER[field]})
    assert (base.digest == other.digest) == (field in HOW_IT_IS_MADE)


PARTS = {
    "prompts": {
        "kind": "bos",
        "corpus": ["b"],
        "min_tokens": 4,
        "max_tokens": 11,
        "template": "t",
        "examples": "e",
        "shots": 4,
        "words": ["w"],
        "repeats": 51,
        "samples_per_prompt": 2,
    },
    "decoding": {
        "max_new_tokens": 255,
        "temperature": 0.9,
        "temperature_start": 2.0,
        "temperature_steps": 19,
        "top_k": 39,
        "top_p": 0.9,
        "min_p": 0.1,
        "typical_p": 0.8,
        "repetition_penalty": 1.1,
        "stop_at_eos": True,
        "beams": 2,
    },
}


@pytest.mark.parametrize(
    ("part", "field"),
    [("prompts", name) for name in Prompts.model_fields]
    + [("decoding", name) for name in Decoding.model_fields],
)
def test_the_digest_stands_for_every_setting_of_a_strategy(part, field):
    changed = make_config({**BASE, part: {field: PARTS[part][field]}})
    assert changed.digest != make_config(BASE).digest


def test_the_digest_does_not_depend_on_how_the_same_is_said():
    spelt = {"kind": "bos", **{k: v for k, v in Prompts().model_dump().items() if k != "kind"}}
    said = made(decoding={"top_k": 10}, references=["b=2", "a=1"])
    same = made(
        strategies=[
            {"name": "top-n", "prompts": spelt, "decoding": {"top_k": 10, "temperature": 1}}
        ],
        references={"a": "1", "b": "2"},
        samples=1000,
        top=100,
    )
    assert said.digest == same.digest


def test_a_digest_is_twelve_hex_digits():
    assert re.fullmatch(r"[0-9a-f]{12}", made().digest)


def test_files_whose_names_are_not_utf8_have_their_digests():
    names = ["a", "b\udcff", "b\udcfe"]
    assert len({made(corpus=[name]).digest for name in names}) == 3


# ------------------------------------------------------------------------------ to and from TOML
def again(config):
    return make_config(tomllib.loads(to_toml(config)))


ALL = sorted(PRESETS)


@pytest.mark.parametrize(
    "settings",
    [
        *({"strategies": [name], **PREFIXES} for name in ALL),
        {"strategies": ALL, **PREFIXES},
        {"samples": 7},
        {"references": {"x_y": "a b", "x.y": 'quote"d'}},
        {"corpus": ["naïve\tpath", "back\\slash", "\x7f", "\u2028"]},
        {"decoding": {"max_new_tokens": 8, "top_p": 0.5}, "strategies": ["top-n", "pure"]},
        {"strategy": {"cold": {"preset": "top-n", "temperature": 0.5}}},
        {"strategy": {"hot": {"preset": "temperature", "temperature_start": 3.0}}},
        {"strategy": {"own": {"preset": "pure", "stop_at_eos": True}}},
        {"strategy": {"own": {"preset": "internet", "corpus": ["x"]}}},
        {"strategies": ["internet"], "strategy": {"internet": {"kind": "bos"}}},
        {"strategies": ["few-shot"], "strategy": {"few-shot": {"kind": "repeat"}}},
        {"strategies": [Strategy(name="top-n", decoding=Decoding(top_k=None))]},
        {"strategies": [Strategy(name="temperature", decoding=Decoding())]},
        {"strategies": [Strategy(name="mine", decoding=Decoding(top_k=None, top_p=0.9))]},
        {"strict": True, "bos": "<s>", "truth": "t", "seed": 5, "dtype": "bfloat16"},
    ],
    ids=repr,
)
def test_an_audit_file_made_of_a_config_gives_it_back(settings):
    config = made(**settings)
    assert again(config).digest == config.digest


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
NAME = st.from_regex(r"[a-z0-9][a-z0-9-]{0,8}", fullmatch=True) | st.sampled_from(ALL)
DECODING = st.builds(
    Decoding,
    max_new_tokens=st.integers(1, 2000),
    temperature=st.floats(0.01, 100),
    temperature_start=st.none() | st.floats(0.01, 100),
    top_k=st.none() | st.integers(1, 10**6),
    top_p=st.none() | st.floats(0.01, 1),
    stop_at_eos=st.booleans(),
)
PROMPTS = st.builds(
    Prompts,
    kind=st.sampled_from(["bos", "corpus", "few-shot", "repeat"]),
    corpus=st.lists(TEXT, min_size=1, max_size=2).map(tuple),
    template=st.none() | TEXT,
    words=st.lists(TEXT, max_size=2).map(tuple),
)
STRATEGIES = st.lists(
    st.builds(Strategy, name=NAME, prompts=PROMPTS, decoding=DECODING),
    min_size=1,
    max_size=3,
    unique_by=lambda s: s.name,
)


@given(strategies=STRATEGIES, corpus=st.lists(TEXT, max_size=2), model=TEXT)
def test_any_config_can_be_written_as_an_audit_file(strategies, corpus, model):
    config = make_config({"model": model, "strategies": strategies, "corpus": corpus})
    assert again(config).digest == config.digest


def test_the_page_shows_that_audit_file():
    assert reporting.to_toml is to_toml
