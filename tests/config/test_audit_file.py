"""The identity of a config, and its round trip through an audit file."""

import re
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.audit import reporting
from auditor.config.audit import PRESETS, AuditConfig, Decoding, Prompts, Strategy, make_config
from auditor.config.audit_file import to_toml

PREFIXES = {"prompts": {"corpus": ["own.txt"]}}


def made(**settings):
    return make_config({"model": "gpt2", **settings})


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
    "index": "folder",
    "text_field": "body",
    "strict": True,
    "top": 99,
    "min_match_tokens": 33,
    "min_match_chars": 101,
    "normalize": ["case"],
    "dtype": "float32",
    "bos": "<s>",
    "pll": "original",
    "truth": "truth.parquet",
    "controls": ["held-out"],
    "fdr": 0.1,
    "names": "en_core_web_sm",
    "canaries": "canaries.json",
    "shard_size": 511,
    "offline": True,
    "workers": 4,
    "ray": "auto",
    "batch_size": 3,
    "device": "cpu",
    "out": "elsewhere",
    "yes": True,
    "price_per_hour": 2.5,
    "reveal": True,
    "gates": {"max_verified": 3},
    "notify": {"command": ["true"]},
    "schedule": {"cron": "0 3 * * 1"},
    "served": {"served_model": "other", "tokenizer": "t"},
}
SERVED = {"served_model": "one", "tokenizer": "t"}
HOW_IT_IS_MADE = {"workers", "ray", "price_per_hour", "yes"} | {
    *("offline", "batch_size", "device", "out", "reveal", "gates", "notify", "schedule")
}


def test_the_digest_test_knows_every_setting():
    assert set(OTHER) == set(AuditConfig.model_fields)


@pytest.mark.parametrize("field", sorted(AuditConfig.model_fields))
def test_the_digest_stands_for_the_content_alone(field):
    # An index stands in place of a corpus, so it is tried beside none; a rate needs controls.
    beside = {"index": {"corpus": []}, "fdr": {"controls": ["held-out"]}}
    beside["served"] = {"model": "http://localhost/v1", "served": SERVED}
    start = {**BASE, **beside.get(field, {})}
    base, other = make_config(start), make_config({**start, field: OTHER[field]})
    assert (base.digest == other.digest) == (field in HOW_IT_IS_MADE)


@pytest.mark.parametrize(
    ("changed", "is_same"),
    [
        ({"concurrency": 9, "max_requests": 5, "max_cost": 2, "price_per_million_input": 1}, True),
        ({"chat": True}, False),
        ({"tokenizer": "other"}, False),
    ],
)
def test_how_a_server_is_asked_is_not_part_of_the_digest(changed, is_same):
    start = {**BASE, "model": "http://localhost/v1"}
    one, other = (make_config({**start, "served": {**SERVED, **c}}) for c in ({}, changed))
    assert (one.digest == other.digest) == is_same
    assert make_config(tomllib.loads(to_toml(other))).digest == other.digest


PARTS = {
    "prompts": {
        "kind": "bos",
        "corpus": ["b"],
        "text_field": "body",
        "min_tokens": 4,
        "max_tokens": 11,
        "template": "t",
        "examples": "e",
        "shots": 4,
        "words": ["w"],
        "repeats": 51,
        "samples_per_prompt": 2,
        "chat_template": True,
        "fill_gap": False,
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
        "chain": "metropolis-hastings",
        "sweeps": 4,
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
def test_a_config_round_trips_through_an_audit_file(settings):
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


def test_an_audit_file_made_of_a_config_keeps_gates_and_leaves_out_addresses_and_machine():
    config = made(
        gates={"max_verified": 3},
        corpus=["text"],
        notify={"webhook": "https://example.org/token", "command": ["curl", "token"]},
        workers=2,
        device="cpu",
        out="runs/a",
    )
    assert again(config).gates == config.gates
    assert set(tomllib.loads(to_toml(config))) == {"model", "corpus", "gates", "strategies"}


def test_the_page_shows_that_audit_file():
    assert reporting.to_toml is to_toml
