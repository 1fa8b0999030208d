"""Blind baselines: they see a split by date, topic or length, and nothing in a random one."""

from __future__ import annotations

import numpy as np
import pytest

from attacks.statistics.blind_baselines import blind_scores, shared_texts
from attacks.statistics.membership_test import evaluate
from attacks.statistics.roc import auc

BASELINES = {"bag of words", "character n-grams", "length", "dates"}
WORDS = [f"{a}{b}" for a in ("ba", "ke", "lo", "mi", "nu", "ra", "so", "ti") for b in "bdgklmnprst"]


def text(rng, *, words=WORDS, length=40, year=None):
    said = list(rng.choice(words, length + int(rng.integers(10))))
    if year is not None:
        said.insert(int(rng.integers(length)), f"on {rng.integers(1, 29)} March {year},")
    return " ".join(said)


def texts(seed, n, **how):
    rng = np.random.default_rng(seed)
    return [text(rng, **how) for _ in range(n)]


def dated(seed, n, years):
    rng = np.random.default_rng(seed)
    return [text(rng, year=int(rng.choice(years))) for _ in range(n)]


def sees(scores):
    """Baselines whose AUC is above 0.5 beyond doubt; one that says the same of all sees nothing."""
    varied = {name: s for name, s in scores.items() if len({*s[0], *s[1]}) > 1}
    return {name for name, sides in varied.items() if auc(*sides).low > 0.6}


@pytest.fixture(scope="module")
def by_date():
    """Every text has a year that no other set has: 1950 to 1999 against 2000 to 2023."""
    members, nonmembers = dated(1, 100, range(1950, 2000)), dated(2, 100, range(2000, 2024))
    return blind_scores(members, nonmembers)


@pytest.fixture(scope="module")
def by_topic():
    members, nonmembers = texts(1, 80, words=WORDS[:60]), texts(2, 80, words=WORDS[28:])
    return blind_scores(members, nonmembers)


@pytest.fixture(scope="module")
def at_random():
    return blind_scores(texts(1, 120), texts(2, 120))


def attack(seed, shift, n):
    rng = np.random.default_rng(seed)
    return rng.normal(shift, 1, n), rng.normal(0, 1, n)


def of_sides(scores):
    """How many of each side, from any baseline."""
    return len(next(iter(scores.values()))[0])


# ------------------------------------------------------------------------------ baselines
def test_a_split_by_date_is_seen_by_the_dates_though_no_word_repeats(by_date):
    assert "dates" in sees(by_date)
    assert auc(*by_date["dates"]).value > 0.95


def test_a_split_by_topic_is_seen_by_words_and_characters(by_topic):
    assert {"bag of words", "character n-grams"} <= sees(by_topic)
    assert "dates" not in sees(by_topic)


def test_a_split_by_length_is_seen_by_the_length():
    scores = blind_scores(texts(1, 60, length=30), texts(2, 60, length=45))
    assert "length" in sees(scores)


def test_a_random_split_is_seen_by_none(at_random):
    assert set(at_random) == BASELINES
    assert sees(at_random) == set()
    for name in ("bag of words", "character n-grams", "length"):
        made = auc(*at_random[name])
        assert made.low < 0.5 < made.high


def test_swapped_sides_see_as_much():
    """Higher is more like a member, whichever side is called so."""
    a, b = texts(1, 60, words=WORDS[:60]), texts(2, 60, words=WORDS[28:])
    for one, other in ((a, b), (b, a)):
        assert auc(*blind_scores(one, other)["bag of words"]).value > 0.8


def test_no_text_is_scored_by_a_classifier_that_saw_it():
    """Words of one text tell nothing about others, however well that text can be learnt."""
    rng = np.random.default_rng(0)
    members, nonmembers = (
        [" ".join(f"w{n}" for n in rng.integers(0, 150, 6)) for _ in range(40)] for _ in range(2)
    )
    assert "bag of words" not in sees(blind_scores(members, nonmembers))


def test_equal_texts_stay_in_one_part():
    """Each text five times: memorizing them must not help, as it would across parts."""
    rng = np.random.default_rng(0)
    members, nonmembers = ([text(rng) for _ in range(24)] * 5 for _ in range(2))
    made = auc(*blind_scores(members, nonmembers)["character n-grams"])
    assert made.value < 0.75


def test_scores_are_decided_by_the_seed():
    sides = texts(1, 20), texts(2, 20)
    first, again, other = (blind_scores(*sides, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first["bag of words"][0], again["bag of words"][0])
    assert any(not np.array_equal(first[name][0], other[name][0]) for name in BASELINES)


@pytest.mark.parametrize(
    ("members", "nonmembers", "message"),
    [
        (["a", "b"], ["c", " b\n"], "no text may be on both sides; got 1 of 2 members"),
        (["a", "a"], ["c", "d"], "2 or more distinct texts per side, and 2 or more folds; got 1"),
        ([], ["c", "d"], "2 or more distinct texts per side"),
    ],
)
def test_sides_that_cannot_be_compared_are_refused(members, nonmembers, message):
    with pytest.raises(ValueError, match=message):
        blind_scores(members, nonmembers)


def test_texts_without_words_or_dates_tell_nothing():
    scores = blind_scores(["", "!", "??"], ["--", "...", ";"])
    assert set(scores) == BASELINES
    assert all(np.all(scores["dates"][side] == scores["dates"][side][0]) for side in (0, 1))


def test_shared_texts_are_found_by_their_words():
    assert list(shared_texts(["a  b", "c", "a b"], ["a\nb"])) == [0, 2]


# ----------------------------------------------------------------------------- the guard
@pytest.mark.parametrize("split", ["by_date", "by_topic"])
def test_guard_fires_where_the_split_shows_without_the_model(split, request):
    blinds = request.getfixturevalue(split)
    made = evaluate({"loss": attack(0, 1.0, of_sides(blinds))}, blinds).verdict
    assert (made.kind, made.claim, made.guard_fires) == ("confounded", False, True)
    assert "separates the sets without the model" in made.sentence
    assert made.sentence.endswith("No membership claim follows.")


def test_guard_fires_even_if_no_attack_sees_anything(by_topic):
    made = evaluate({"loss": attack(0, 0.0, 80)}, by_topic).verdict
    assert made.guard_fires


def test_guard_stays_silent_on_a_random_split_and_a_real_attack_is_claimed(at_random):
    made = evaluate({"loss": attack(0, 1.0, 120)}, at_random).verdict
    assert (made.kind, made.claim, made.guard_fires) == ("claim", True, False)
    assert "No membership claim" not in made.sentence


def test_guard_stays_silent_without_any_signal(at_random):
    made = evaluate({"loss": attack(0, 0.0, 120)}, at_random).verdict
    assert (made.kind, made.claim, made.guard_fires) == ("nothing", False, False)
