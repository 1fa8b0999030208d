"""Exposure of canaries under models with known probabilities."""

from __future__ import annotations

import math
import stat

import numpy as np
import pandas as pd
import pytest
import torch

from attacks.scores.token_stats import TokenStats
from attacks.statistics.exposure import expected_exposure
from auditor.canaries.canaries import make_canaries
from auditor.canaries.exposure import exposure_by_repeats, measure_canaries
from auditor.canaries.secrets import Encoded, encode_secrets, extracts, score_secrets
from auditor.cli.command import VERBS
from auditor.errors import ConfigError
from tests.planted import Ids, PlantedModel, recites, tiny_model
from tests.tiny import command, save_tiny_model

LETTERS = "\0 .:0123456789abcdefghijklmnopqrstuvwxyzPIN"


class Characters(Ids):
    """A vocabulary of single characters; token 0 is BOS."""

    def encode_after(self, prompts, texts):
        return tuple([[LETTERS.index(c) for c in t] for t in some] for some in (prompts, texts))

    def decode(self, ids, after=()):
        return "".join(LETTERS[i] for i in ids)


class Reciter(PlantedModel):
    """A planted model that also judges text, one token after the other."""

    notes = ()

    def __init__(self, rule, *, context=None, bos_id=0):
        super().__init__(rule, len(LETTERS), context=context)
        self.vocabulary = Characters(bos_id)

    def token_stats(self, texts, prefixes, *, progress=None, note=None):
        rows = []
        for prefix, text in zip(prefixes, texts, strict=True):
            whole = [*prefix, *text]
            logits = [self.rule(tuple(whole[:i])) for i in range(len(prefix), len(whole))]
            logits = torch.tensor(np.array(logits)).log_softmax(-1).numpy()
            rows.append([float(row[t]) for row, t in zip(logits, text, strict=True)])
        if progress:
            progress(len(texts))
        return TokenStats.from_lists(texts, rows, [[0] * len(t) for t in texts])


def said(text: str) -> list[int]:
    return [LETTERS.index(c) for c in text]


def knows(canary) -> Reciter:
    return Reciter(recites(said(canary.prefix + canary.secret), len(LETTERS)))


def begins_alike(one: str, other: str) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b), len(one))


# Three digits: one secret is the recited one; 9 share its first two digits; 90 its first; 900 none.
# Ties count against a secret, so these have the ranks 1, 10, 100 and 1,000 of 1,000.
BY_HAND = {3: 0.0, 2: math.log2(10), 1: math.log2(100), 0: math.log2(1000)}


def test_exposure_of_a_planted_secret_equals_the_hand_computed_value():
    made = make_canaries("PIN: {digits:3}.", count=40, controls=200, seed=2)
    planted = made.canaries[7]
    frame = measure_canaries(knows(planted), made)
    assert len(frame) == 240
    assert set(frame["method"]) == {"enumerated"}
    for row in frame.itertuples():
        lost = BY_HAND[begins_alike(row.secret, planted.secret)]
        assert row.exact == pytest.approx(math.log2(1000) - lost)
        assert row.rank == pytest.approx(2**lost)
        assert row.exposure == row.exact
    assert frame.loc[frame["greedy"] == True, "secret"].tolist() == [planted.secret]  # noqa: E712
    assert frame.loc[frame["role"] == "control", "greedy"].isna().all()


def test_total_log_probability_equals_the_hand_computed_value():
    made = make_canaries("PIN: {digits:3}", count=1, controls=30, seed=0)
    planted = made.canaries[0]
    frame = measure_canaries(knows(planted), made).set_index("secret")
    n = len(LETTERS)
    right = 10 - math.log(math.exp(10) + n - 1)
    wrong = -math.log(math.exp(10) + n - 1)
    assert frame.loc[planted.secret, "logprob"] == pytest.approx(3 * right, rel=1e-5)
    for secret in (control.secret for control in made.controls):
        if begins_alike(secret, planted.secret) == 0:
            assert frame.loc[secret, "logprob"] == pytest.approx(wrong - 2 * math.log(n), rel=1e-6)


def test_without_enumeration_rank_is_among_the_controls():
    made = make_canaries("PIN: {digits:3}.", count=3, controls=100, seed=2)
    planted = made.canaries[1]
    frame = measure_canaries(knows(planted), made, enumerate_up_to=999).iloc[:3]
    for row in frame.itertuples():
        own = begins_alike(row.secret, planted.secret)
        rank = 1 + sum(begins_alike(c.secret, planted.secret) >= own for c in made.controls)
        assert row.interpolated == pytest.approx(math.log2(101) - math.log2(rank))
    assert frame["exact"].isna().all()
    assert frame["rank"].isna().all()
    assert frame["interpolated_most"].tolist() == pytest.approx([math.log2(101)] * 3)
    # No control is as likely, and three heaps of values are no skew-normal law.
    assert frame.loc[1, "ks_p"] < 0.05
    assert frame.loc[1, ["method", "exposure"]].tolist() == ["at least", math.log2(101)]
    assert frame.loc[0, "method"] == "interpolated"


def test_each_prefix_has_its_own_candidates():
    made = make_canaries("PIN {n}: {digits:2}", count=4, controls=20, seed=3)
    planted = made.canaries[2]
    frame = measure_canaries(knows(planted), made).set_index("canary_id")
    assert frame.loc[planted.canary_id, "exact"] == pytest.approx(math.log2(100))
    for other in made.canaries:
        if other is not planted:  # off the recited text all secrets are alike
            assert frame.loc[other.canary_id, "exact"] == 0.0
            assert not frame.loc[other.canary_id, "greedy"]
    assert frame.loc[planted.canary_id, "greedy"]
    # A control's figures are means over the four prefixes, three of which tell it from no other.
    begun = [begins_alike(control.secret, planted.secret) for control in made.controls]
    assert {0, 1} <= set(begun)
    for control, alike in zip(made.controls, begun, strict=True):
        lost = {1: math.log2(10), 0: math.log2(100)}[alike]
        exact = frame.loc[control.canary_id, "exact"]
        assert exact == pytest.approx((math.log2(100) - lost) / 4)


def hashed(tokens: tuple[int, ...]) -> np.ndarray:
    """Logits that look random, the same for the same sequence."""
    return np.random.default_rng([*tokens, 5]).normal(size=len(LETTERS))


def test_untrained_controls_have_the_theoretical_exposure():
    made = make_canaries("PIN: {digits:3}", count=100, controls=900, seed=0)
    frame = measure_canaries(Reciter(hashed), made)
    # All 1,000 secrets of the space, so no chance is left but ties, of which there are none.
    assert frame["exact"].mean() == pytest.approx(expected_exposure(1000), abs=1e-9)
    controls = frame[frame["role"] == "control"]
    assert controls["exact"].mean() == pytest.approx(1.44, abs=0.1)
    assert controls["extrapolated"].mean() == pytest.approx(1.44, abs=0.15)
    by_repeats = exposure_by_repeats(frame)
    assert by_repeats["n"].tolist() == [100, 900]
    assert by_repeats["exposure"].tolist() == pytest.approx(
        [frame["exact"][:100].mean(), frame["exact"][100:].mean()]
    )


def test_beyond_the_controls_a_fitted_distribution_extrapolates():
    made = make_canaries("PIN: {digits:6}", count=1, controls=300, seed=0)
    planted = said(made.canaries[0].prefix + made.canaries[0].secret)

    def rule(tokens):
        at = len(tokens) - 1
        logits = hashed(tokens)
        if at < len(planted) and list(tokens[1:]) == planted[:at]:
            logits[planted[at]] += 6
        return logits

    row = measure_canaries(Reciter(rule), made, enumerate_up_to=0).iloc[0]
    assert row["ks_p"] > 0.05
    assert row["method"] == "extrapolated"
    assert math.log2(301) < row["exposure"] <= math.log2(10**6)
    few = measure_canaries(Reciter(rule), made, enumerate_up_to=0, controls=10).iloc[0]
    assert "20 values or more; got 10" in few["withheld"]
    assert few["method"] == "at least"
    assert few["exposure"] == pytest.approx(math.log2(11))


# ----------------------------------------------------------------------------- tokens and cuts
@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    from auditor.models.loading import load_vocabulary

    return load_vocabulary(str(save_tiny_model(tmp_path_factory.mktemp("model") / "tiny")))


@pytest.mark.parametrize("prefix", ["the quick ", "the qu", "", "over the lazy d"])
@pytest.mark.parametrize(
    "secrets",
    [["brown", "fox jumps", "1234", "ick", "og and", " runs", "é"], ["0123", "0456"], ["0"]],
)
def test_all_secrets_are_tokenized_whole_from_the_same_position(vocabulary, prefix, secrets):
    encoded = encode_secrets(vocabulary, prefix, secrets)
    assert prefix.startswith(vocabulary.decode(encoded.prompt))
    assert encoded.prompt[0] == vocabulary.bos_id
    for rest, secret in zip(encoded.rests, secrets, strict=True):
        assert vocabulary.decode(encoded.prompt + rest) == prefix + secret
        assert [vocabulary.bos_id, *vocabulary.encode(prefix + secret)] == encoded.prompt + rest


def test_what_is_too_long_for_the_context_is_refused():
    made = make_canaries("PIN: {digits:9}", count=1, controls=1)
    # BOS, five characters and nine digits are 15 tokens.
    model = Reciter(hashed, context=15)
    assert len(measure_canaries(model, made)) == 2
    model.context = 14
    with pytest.raises(ConfigError, match=r"canary-0001: .* context of planted, 14 tokens; got 15"):
        measure_canaries(model, made)


def test_a_secret_without_a_prefix_is_refused():
    made = make_canaries("{digits:9}", count=1, controls=1)
    with pytest.raises(ConfigError, match="must have text before its secret"):
        measure_canaries(Reciter(hashed, bos_id=None), made)


def test_beam_search_finds_the_likeliest_secret():
    model = tiny_model(n_vocab=len(LETTERS), seed=4)
    model.vocabulary = Characters(0)
    prompt = [0, *said("PIN: ")]
    n = len(LETTERS)
    pairs = [[a, b] for a in range(1, n) for b in range(1, n)]
    logprob = score_secrets(model, Encoded(prompt, pairs), "all").logprob
    order = np.argsort(-logprob)
    asked = Encoded(prompt, [pairs[order[0]], pairs[order[1]], pairs[order[-1]]])
    # As many beams as tokens: after two steps nothing has been dropped.
    assert extracts(model, asked, beams=n).tolist() == [True, False, False]
    first = [
        max(range(n), key=lambda t: score_secrets(model, Encoded(prompt, [[t]]), "").logprob[0])
    ]
    greedy = Encoded(prompt, [first, [first[0] % (n - 1) + 1]])
    assert extracts(model, greedy).tolist() == [True, False]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"enumerate_up_to": -1}, "--enumerate-up-to must be at least 0; got -1"),
        ({"controls": 3}, "--controls must be at most 2"),
        ({"controls": 0}, "--controls must be at least 1"),
        ({"beams": 0}, "--beams must be at least 1; got 0"),
    ],
)
def test_numbers_out_of_range_are_refused(options, sentence):
    made = make_canaries("PIN: {digits:3}", count=1, controls=2)
    with pytest.raises(ConfigError, match=sentence):
        measure_canaries(Reciter(hashed), made, **options)


# -------------------------------------------------------------------------------- the command
@pytest.fixture
def verbs(monkeypatch):
    monkeypatch.setitem(VERBS, "canaries", ("auditor.cli.canaries", "Canaries."))


def test_the_command_makes_inserts_and_measures(tmp_path, verbs):
    model = save_tiny_model(tmp_path / "model")
    manifest, source, out = (tmp_path / name for name in ("c.json", "a.txt", "b.txt"))
    source.write_text("the quick brown fox\n" * 9)
    made = command(
        *("canaries", "create", "--template", "the {n} {digits:2}", "--count", 2, "--controls", 30),
        *("--repeats", 1, "--repeats", 3, "--out", manifest),
    )
    assert made.code == 0
    assert "2 canaries and 30 controls from a space of 100 secrets (6.6 bits)." in made.out
    put = command("canaries", "insert", manifest, "--corpus", source, "--out", out)
    assert put.code == 0
    assert "4 copies of 2 canaries inserted: " in put.out
    assert "% of the characters" in put.out
    assert "more than 1 %" in put.err
    table = tmp_path / "m.parquet"
    found = command("canaries", "measure", manifest, "--model", model, "--out", table)
    assert found.code == 0, found.err
    assert "30 controls (enumerated)" in found.out
    assert stat.S_IMODE(table.stat().st_mode) == 0o600
    assert len(pd.read_parquet(table)) == 32
    assert pd.read_parquet(table)["secret"].str.fullmatch(r"\d\d").all()
    for flags, form in ((), "••"), (("--reveal",), r"\d\d"):
        csv = tmp_path / f"m{len(flags)}.csv"
        command("canaries", "measure", manifest, "--model", model, "--out", csv, *flags)
        assert pd.read_csv(csv, dtype=str)["secret"].str.fullmatch(form).all()
    told = command("canaries", "measure", manifest, "--model", model, "--json")
    assert '"space_size": "100"' in told.out
    assert "prefix" not in told.out


def test_invalid_commands_give_one_line_errors(tmp_path, verbs):
    manifest = tmp_path / "c.json"
    for args, code, sentence in (
        (("create", "--format", "pinn", "--out", manifest), 2, "Did you mean 'pin'"),
        (("create", "--out", manifest), 2, "one of --template and --format"),
        (("create", "--format", "pin", "--repeats", "0", "--out", manifest), 2, "--repeats must"),
        (("measure", manifest, "--model", "x"), 1, "cannot be read"),
        (("insert", manifest, "--corpus", "x", "--out", "y"), 1, "cannot be read"),
    ):
        ended = command("canaries", *args)
        assert ended.code == code
        assert sentence in ended.err
        assert "Traceback" not in ended.err
    assert not manifest.exists()
