"""Canaries: templates are never evaluated, spaces are counted, manifests are verified."""

from __future__ import annotations

import json
import math
import re
import stat
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.canaries.canaries import Canaries, load_canaries, make_canaries
from auditor.canaries.templates import FORMATS, parse_template, template_of
from auditor.errors import AuditError, ConfigError, ModelError, RunError
from auditor.system.package_data import shipped
from tests.tiny import save_tiny_model

# What the numbers of secrets come to, by hand.
SIZES = {
    "{digits:6}": 10**6,
    "{digits}": 10**6,
    "{pin}": 10**4,
    "{card}": 10**15,
    "{phone}": 10**5,
    "{hex:3}": 16**3,
    "{uuid}": 2**122,
    "{word}": 256,
    "{words:3}": 2**24,
    "{word} {digits:6}": 256 * 10**6,
    "{pin}{pin}": 10**8,
}
SHAPES = {
    "{pin}": r"[0-9]{4}",
    "{card}": r"0[0-9]{3}( [0-9]{4}){3}",
    "{phone}": r"[0-9]{3}-555-01[0-9]{2}",
    "{hex:12}": r"[0-9a-f]{12}",
    "{words:3}": r"[a-z]{5} [a-z]{5} [a-z]{5}",
    "{word}-{digits:2}": r"[a-z]{5}-[0-9]{2}",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_tiny_model(tmp_path_factory.mktemp("model") / "tiny"))


def some(template="The PIN of {n} is {pin}.", **options) -> Canaries:
    return make_canaries(template, **{"count": 3, "controls": 5, **options})


# ------------------------------------------------------------------------------------- spaces
@pytest.mark.parametrize(("text", "size"), SIZES.items())
def test_a_space_has_the_size_that_is_counted_by_hand(text, size):
    assert parse_template(f"It is {text}!").space_size == size


@pytest.mark.parametrize("text", ["{digits:3}", "{hex:2}", "{word}", "{pin}", "a{digits:1}{hex:1}"])
def test_no_two_numbers_have_the_same_secret(text):
    template = parse_template(text)
    secrets = {template.secret(i) for i in range(template.space_size)}
    assert len(secrets) == template.space_size


@pytest.mark.parametrize(("text", "shape"), SHAPES.items())
def test_secrets_look_as_their_format_says(text, shape):
    made = make_canaries(f"It is {text}.", count=50, controls=50)
    for canary in (*made.canaries, *made.controls):
        assert re.fullmatch(shape, canary.secret)
        assert canary.text == f"It is {canary.secret}."


def test_an_id_is_a_uuid_of_version_4():
    for canary in some("{uuid}").canaries:
        found = uuid.UUID(canary.secret)
        assert (found.version, str(found)) == (4, canary.secret)


def test_shipped_words_have_the_stated_number_and_none_is_a_prefix():
    words = shipped("canaries/words.txt").read_text().split()
    assert len(set(words)) == 256
    assert {len(word) for word in words} == {5}
    assert all(word.isascii() and word.islower() and word.isalpha() for word in words)


def test_tokens_come_from_the_models_vocabulary(model):
    from auditor.models.loading import load_vocabulary

    vocabulary = load_vocabulary(model)
    made = some("Say {tokens:3}.", model=model)
    whole = [i for i, raw in enumerate(vocabulary.token_bytes) if re.match(rb" \w\w+$", raw)]
    assert made.space_size == len(whole) ** 3
    for canary in made.canaries:
        ids = vocabulary.encode(" " + canary.secret)
        assert len(ids) == 3
        assert set(ids) <= set(whole)


# ---------------------------------------------------------------------------------- templates
@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_format_has_a_ready_sentence(name):
    if name != "tokens":
        made = some(template_of(name))
        assert made.canaries[1].prefix.startswith("The ")
        assert " of account 2 is " in made.canaries[1].prefix


def test_a_secret_reaches_from_the_first_field_to_the_end_of_the_last():
    made = some("No {n}: {{{word}}} and {digits:2}! ({n})")
    first = made.canaries[0]
    assert first.prefix == "No 1: {"
    assert re.fullmatch(r"[a-z]{5}\} and \d\d", first.secret)
    assert first.suffix == "! (1)"


@pytest.mark.parametrize(
    "text",
    [
        "{0.__class__} {pin}",
        "{pin.__class__}",
        "{__import__('os')}",
        "{pin!r}",
        "{pin:{n}}",
        "{} {pin}",
        "{digits:1e3} ",
        "{digits:99999999999}",
        "{digits:٣}",
        "{digits:-1}",
        "{digits:0}",
        "{digits:}",
        "{uuid:3}",
        "{pin",
        "pin}",
        "{pin}\0",
        "{pin}\ud800",
        "{pin} {n} {pin}",
        "%s {pin:%s}",
    ],
)
def test_hostile_templates_are_refused_in_one_sentence(text):
    with pytest.raises(ConfigError) as told:
        parse_template(text)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 400


@pytest.mark.parametrize("text", ["$(touch x) {pin}", "%s %(a)s {pin}", "{{0.__class__}} {pin}"])
def test_unknown_braces_stay_text(text):
    canary = some(text).canaries[0]
    assert canary.prefix == text.replace("{{", "{").replace("}}", "}").removesuffix("{pin}")


@given(st.text(max_size=30))
@settings(max_examples=200)
def test_any_text_is_a_template_or_a_sentence(text):
    try:
        template = parse_template(text + "{pin}")
    except ConfigError:
        return
    assert template.space_size % 10**4 == 0
    assert template.secret(0) != template.secret(1)


def test_the_nearest_format_is_named():
    with pytest.raises(ConfigError, match=r"got 'digit:6'. Did you mean 'digits'"):
        parse_template("{digit:6}")
    with pytest.raises(ConfigError, match="Did you mean 'phone'"):
        template_of("phon")


def test_a_template_without_a_secret_is_refused():
    with pytest.raises(ConfigError, match="must have a secret"):
        parse_template("My password is {n}")


def test_tokens_need_a_model_and_a_space_behind_them(model):
    with pytest.raises(ConfigError, match="--model"):
        parse_template("{tokens:2}")
    with pytest.raises(ConfigError, match="followed by a letter"):
        some("{tokens:2}{word}", model=model)
    with pytest.raises(ModelError):
        some("{tokens:2}", model="./no-such-model")


# ----------------------------------------------------------------------------------- creation
def test_the_same_seed_draws_the_same_and_another_does_not():
    assert some(seed=4) == some(seed=4)
    assert some(seed=4).canaries != some(seed=5).canaries


@pytest.mark.parametrize("template", ["{digits:1}", "{digits:9}", "{uuid}"])
def test_all_secrets_differ_and_controls_are_never_inserted(template):
    made = make_canaries(template, count=4, controls=6, repeats=[1, 2, 4])
    secrets = [canary.secret for canary in (*made.canaries, *made.controls)]
    assert len(set(secrets)) == 10
    assert [canary.repeats for canary in made.canaries] == [1, 2, 4, 1]
    assert {control.repeats for control in made.controls} == {0}
    ids = made.frame()["canary_id"]
    assert ids.is_unique
    assert made.frame()["role"].tolist() == ["canary"] * 4 + ["control"] * 6


def test_every_secret_of_a_space_is_drawn_about_as_often():
    """A chi-square of 9 degrees of freedom: below 27.9 in 999 of 1,000 cases; seeds are fixed."""
    counts = [0] * 10
    for seed in range(400):
        counts[int(some("{digits:1}", count=1, controls=1, seed=seed).canaries[0].secret)] += 1
    assert sum((count - 40) ** 2 / 40 for count in counts) < 27.9


def test_large_spaces_are_drawn_from_evenly():
    made = make_canaries("{digits:12}", count=1000, controls=1000)
    first = [int(canary.secret[0]) for canary in (*made.canaries, *made.controls)]
    assert sum((first.count(d) - 200) ** 2 / 200 for d in range(10)) < 27.9


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"template": "{digits:1}", "count": 5, "controls": 6}, "has 10 secrets; 5 canaries and 6"),
        ({"count": 0}, "--count must be at least 1; got 0"),
        ({"repeats": [1, 0]}, "--repeats must be at least 1; got 0"),
        ({"repeats": []}, "--repeats must be given at least once"),
        ({"controls": 2}, r"--controls must be at least --count \(3\); got 2"),
        ({"seed": -1}, "--seed must be at least 0"),
    ],
)
def test_invalid_numbers_are_refused(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        some(**options)


# ----------------------------------------------------------------------------------- manifest
@pytest.mark.parametrize("template", ["The PIN of {n} is {pin}.", "é {uuid} \u2028\n"])
def test_a_manifest_round_trips(tmp_path, template):
    made = some(template, repeats=[1, 8], seed=3)
    path = made.save(tmp_path / "canaries.json")
    assert load_canaries(path) == made
    assert load_canaries(path).space_size == made.space_size


def test_a_manifest_is_complete_and_readable_by_its_owner_only(tmp_path):
    made = some("Id {n} is {uuid}")
    path = made.save(tmp_path / "canaries.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    told = json.loads(path.read_text())
    assert int(told["space_size"]) == 2**122
    assert told["space_bits"] == 122.0
    assert [row["secret"] for row in told["canaries"]] == [c.secret for c in made.canaries]
    assert {"prefix", "suffix", "repeats", "canary_id"} < set(told["controls"][0])


def test_a_manifest_is_never_overwritten(tmp_path):
    path = some().save(tmp_path / "canaries.json")
    before = path.read_bytes()
    with pytest.raises(RunError, match="exists already"):
        some(seed=1).save(path)
    assert path.read_bytes() == before


def test_every_flipped_bit_is_detected(tmp_path):
    made = some(count=1, controls=1)
    path = made.save(tmp_path / "canaries.json")
    raw = path.read_bytes()
    for at in range(len(raw)):
        for bit in (1, 16):
            path.write_bytes(raw[:at] + bytes([raw[at] ^ bit]) + raw[at + 1 :])
            try:
                found = load_canaries(path)
            except AuditError as error:
                assert "\n" not in str(error)  # noqa: PT017
            else:
                # White space between, or the log2 that is worked out anew.
                assert found == made


def test_other_versions_and_other_files_are_refused(tmp_path):
    path = some().save(tmp_path / "canaries.json")
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(RunError, match="of version 1; got 2"):
        load_canaries(path)
    with pytest.raises(RunError, match="cannot be read"):
        load_canaries(tmp_path / "none.json")
    for content in ("[]", "", "{", '"a"', "[" * 100_000, "\xff"):
        path.write_text(content, encoding="latin-1")
        with pytest.raises(RunError):
            load_canaries(path)


def test_the_bits_of_a_space_are_its_logarithm():
    assert some().space_bits == pytest.approx(math.log2(10**4))


def test_a_small_space_has_fewer_controls_by_default():
    made = make_canaries("It is {word}.", count=6)
    assert (made.space_size, len(made.controls)) == (256, 250)
    assert len(make_canaries("It is {pin}.", count=6).controls) == 512
    with pytest.raises(ConfigError, match="has 256 secrets; 6 canaries and 512 controls need 518"):
        make_canaries("It is {word}.", count=6, controls=512)
    with pytest.raises(ConfigError, match="200 canaries and 200 controls need 400"):
        make_canaries("It is {word}.", count=200)
