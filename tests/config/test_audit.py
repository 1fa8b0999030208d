"""Audit configs: presets, overrides, errors, identity, and conversion to a file."""

from pathlib import Path

import numpy as np
import pytest

from auditor.config.audit import Decoding, Prompts, changed, make_config
from auditor.errors import ConfigError

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
    again = changed(config, {"decoding": {"max_new_tokens": 3}})
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


def test_shortlists_default_to_at_most_the_number_of_samples():
    assert made(samples=30).top == 30
    assert made(samples=3000).top == 100
    assert made(samples=3000, top=7).top == 7


@pytest.mark.parametrize("samples", ["30", 30.0, np.int64(30)])
def test_numpy_integers_are_accepted_as_numbers_of_samples(samples):
    assert (made(samples=samples).samples, made(samples=samples).top) == (30, 30)


def test_defaults_are_recomputed_when_a_config_is_changed():
    few = made(samples=30, controls=["held-out"])
    assert changed(few, {"samples": 3000}).top == 100
    assert changed(made(), {"samples": 30}).top == 30
    assert changed(few, {"controls": ()}).fdr is None
    kept = changed(made(samples=30, top=7, controls=["a"], fdr=0.1), {"samples": 3000})
    assert (kept.top, kept.fdr, kept.controls) == (7, 0.1, ("a",))
    assert changed(few, {}) == few


@pytest.mark.parametrize(
    ("flags", "same"),
    [
        ({"max_new_tokens": 12, "top_k": 4}, {"decoding": {"max_new_tokens": 12, "top_k": 4}}),
        ({"max-new-tokens": 12}, {"decoding": {"max_new_tokens": 12}}),
        ({"top_k": 4, "decoding": {"top_p": 0.5}}, {"decoding": {"top_k": 4, "top_p": 0.5}}),
        ({"reference": "r=s"}, {"references": ["r=s"]}),
        ({"reference": ["r=s", "t"]}, {"references": ["r=s", "t"]}),
        ({"strategy": "pure"}, {"strategies": ["pure"]}),
        ({"strategy": ["pure", "top-n"]}, {"strategies": ["pure", "top-n"]}),
        (
            {"strategy": "internet", "prompts": "a.txt"},
            {"strategies": ["internet"], "prompts": {"corpus": ["a.txt"]}},
        ),
        (
            {"strategy": "repeat", "word": "poem"},
            {"strategies": ["repeat"], "prompts": {"words": ["poem"]}},
        ),
        ({"samples_per_prompt": 2}, {"prompts": {"samples_per_prompt": 2}}),
    ],
)
def test_the_names_of_flags_work_as_settings(flags, same):
    assert made(**flags) == made(**same)
    assert made(**flags) != made()


def test_a_table_of_one_strategy_takes_precedence_over_a_setting_of_all():
    one = {"cold": {"preset": "top-n", "top_k": 3}}
    strategies = made(top_k=7, strategies=["cold", "top-n"], strategy=one).strategies
    assert [s.decoding.top_k for s in strategies] == [3, 7]


# ------------------------------------------------------------------------------- complaints
M = {"model": "m"}


@pytest.mark.parametrize(
    ("given_", "parts"),
    [
        ({}, ["model is missing", "--model"]),
        ({"model": ""}, ["model must be not empty"]),
        ({"modle": "m"}, ["Unknown setting modle", "Did you mean 'model'?"]),
        ({**M, "frobnicate": 1}, ["Unknown setting frobnicate", "Known: model, references"]),
        ({**M, "max_verified": 1}, ["max_verified", "belongs in the table [gates]"]),
        ({**M, "webhook": "x"}, ["webhook", "belongs in the table [notify]"]),
        ({**M, "gates": {"samples": 1}}, ["gates.samples", "at the top of the file"]),
        ({**M, "gates": {"top_k": 1}}, ["gates.top_k", "belongs in the table [decoding]"]),
        ({**M, "strategy": {"top-n": {"samples": 1}}}, ["'samples'", "at the top of the file"]),
        ({**M, "top_k": 1, "decoding": {"top_k": 2}}, ["top_k", "[decoding]", "Remove one"]),
        ({**M, "strategy": "pure", "strategies": ["pure"]}, ["strategy and strategies", "both"]),
        ({**M, "top_k": 0}, ["top_k must be at least 1", "got 0"]),
        ({**M, "sampels": 1}, ["setting sampels", "Did you mean 'samples'?"]),
        ({**M, "decoding": {"topk": 1}}, ["decoding", "decoding.topk", "Did you mean 'top_k'?"]),
        ({**M, "prompts": {"kinds": 1}}, ["prompts", "kinds", "Did you mean 'kind'?"]),
        ({**M, "strategy": {"top-n": {"topk": 1}}}, ["'top-n'", "'topk'", "'top_k'?"]),
        ({**M, "strategies": ["temprature"]}, ["'temprature'", "'temperature'?", "top-n"]),
        ({**M, "strategy": {"cold": {}}}, ["'cold'", "preset"]),
        ({**M, "strategies": ["top-n"], "strategy": {"temprature": {}}}, ["'temperature'?"]),
        ({**M, "strategies": [{"name": "a", "decodin": {}}]}, ["decodin", "'decoding'?"]),
        ({**M, "strategies": [{}]}, ["name is missing"]),
        ({**M, "strategies": [5]}, ["strategies must be", "got 5"]),
        ({**M, "strategies": [{"name": "A b"}]}, ["a-z, 0-9", "'A b'"]),
        ({**M, "strategies": ["top-n", "top-n"]}, ["may be given once", "top-n, top-n"]),
        ({**M, "strategies": ["internet"]}, ["'internet'", "got none", "--prompts"]),
        ({**M, "strategy": {"top-n": 3}}, ["strategy.top-n must be a table", "got 3"]),
        ({**M, "strategy": 3}, ["strategies must be a list of names", "got 3"]),
        ({**M, "decoding": 3}, ["decoding must be a table", "got 3"]),
        ({**M, "prompts": [1]}, ["prompts.corpus must be text", "got 1"]),
        ({**M, "references": 3}, ["references must be a list", "got 3"]),
        ({**M, "references": ["a/x", "b/x"]}, ["two references", "'x'", "NAME=SPEC"]),
        ({**M, "references": ["n=a", "n=b"]}, ["two references", "'n'"]),
        ({**M, "references": ["=a"]}, ["'=a'", "NAME=SPEC"]),
        ({**M, "references": ["a="]}, ["'a='", "NAME=SPEC"]),
        ({**M, "references": ["testbed:bed/target"]}, ["'target'", "NAME=SPEC"]),
        ({**M, "references": ["a b=c"]}, ["letters, digits", "'a b'", "NAME=SPEC"]),
        ({**M, "references": {"\x1b[31m": "c"}}, ["letters, digits", "'\\x1b[31m'"]),
        ({**M, "references": {"$x$": "c"}}, ["letters, digits", "'$x$'"]),
        ({**M, "corpus": ["c"], "index": "i"}, ["--corpus or --index", "c and i", "Remove one"]),
        ({**M, "index": "i", "normalize": ["case"]}, ["--normalize", "--index", "got case"]),
        ({**M, "normalize": ["accents"]}, ["normalize must be", "'accents'", "Choose"]),
        ({**M, "samples": 0}, ["samples must be at least 1", "got 0", "Raise"]),
        ({**M, "samples": "many"}, ["samples must be a whole number", "'many'"]),
        ({**M, "samples": 1.5}, ["samples must be a whole number", "1.5"]),
        ({**M, "samples": True}, ["samples must be a whole number", "True"]),
        ({**M, "seed": -1}, ["seed must be at least 0", "-1"]),
        ({**M, "seed": 2**63}, ["seed must be below", str(2**63), "Lower"]),
        ({**M, "top": 50, "samples": 49}, ["between 1 and", "(49)", "got 50", "--samples"]),
        ({**M, "dtype": "int8"}, ["'float32'", "'int8'"]),
        ({**M, "decoding": {"temperature": 0}}, ["temperature must be above 0", "--top-k 1"]),
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
def test_an_error_states_what_allowed_got_and_remedy(given_, parts):
    told = refusal(**given_)
    assert [part for part in parts if part not in told] == []
    assert "\n" not in told
    assert told.endswith((".", "?"))
    assert ".." not in told.replace("= ...", "")
    assert "?." not in told
    assert len(told) < 500


def test_invalid_references_are_refused():
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
