"""Membership verdicts, corrections for multiple tests, and the set test."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from attacks.statistics.membership_test import evaluate
from attacks.statistics.set_test import set_test


def sides(seed, shift, n=150, m=150):
    rng = np.random.default_rng(seed)
    return rng.normal(shift, 1, n), rng.normal(0, 1, m)


# ------------------------------------------------------------------------------- verdicts
def test_a_claim_needs_a_lead_over_every_baseline():
    attacks = {"loss": sides(0, 1.0)}
    weak, strong = {"length": sides(1, 0.0)}, {"dates": sides(2, 1.0)}
    assert evaluate(attacks, weak).verdict.claim
    assert not evaluate(attacks, weak | strong).verdict.claim
    assert evaluate(attacks, weak | strong).attacks[0].blind == "dates"


def test_a_strong_attack_is_claimed_beside_a_weaker_confound_which_is_reported():
    made = evaluate({"loss": sides(0, 2.0)}, {"dates": sides(1, 0.6)}).verdict
    assert (made.kind, made.guard_fires) == ("claim", False)
    assert "partly separates the sets without the model" in made.sentence


def spread(seed, shift, n=60):
    """Normal quantiles, shifted for members, in an order of their own: an AUC known beforehand."""
    rng, quantile = np.random.default_rng(seed), NormalDist().inv_cdf
    values = np.array([quantile((i + 0.5) / n) for i in range(n)])
    return rng.permutation(values + shift), rng.permutation(values)


def test_an_attack_that_is_not_clearly_above_a_baseline_stays_undecided():
    """AUCs of about 0.64 and 0.57, each known to 0.05: only the first is above chance, and the
    difference of 0.07 is known to 0.07."""
    made = evaluate({"loss": spread(0, 0.5)}, {"length": spread(1, 0.25)})
    assert made.attacks[0].auc.low > 0.5 > made.blinds[0].auc.low
    assert (made.verdict.kind, made.verdict.claim, made.verdict.guard_fires) == (
        "undecided",
        False,
        False,
    )
    apart = made.attacks[0].auc.value - made.blinds[0].auc.value
    assert f"the AUCs differ by {apart:+.3f} (-0." in made.verdict.sentence


def test_without_baselines_nothing_is_claimed():
    made = evaluate({"loss": sides(0, 3.0)}).verdict
    assert (made.kind, made.claim, made.blind) == ("unchecked", False, "")
    assert made.sentence.endswith("No membership claim follows.")


def test_a_reversed_attack_is_not_claimed():
    """Higher means a member: scores that are lower for members claim nothing, however far apart."""
    made = evaluate({"nll": sides(0, -3.0)}, {"length": sides(1, 0.0)})
    assert made.verdict.kind == "nothing"
    assert made.attacks[0].p_corrected == 1


def test_false_claims_are_rarer_than_alpha_though_there_are_many_attacks():
    claims = 0
    for seed in range(80):
        attacks = {f"score {i}": sides([seed, i], 0.0, 40, 40) for i in range(6)}
        claims += evaluate(attacks, {"length": sides([seed, 99], 0.0, 40, 40)}).verdict.claim
    # 5 % of 80 are 4; 9 is 2.6 standard deviations above.
    assert claims <= 9


def test_guard_on_random_splits_fires_rarely():
    fired = 0
    for seed in range(80):
        blinds = {f"blind {i}": sides([seed, i], 0.0, 40, 40) for i in range(4)}
        fired += evaluate({"loss": sides([seed, 99], 0.0, 40, 40)}, blinds).verdict.guard_fires
    assert fired <= 9


def test_p_values_are_corrected_for_all_attacks():
    alone = evaluate({"loss": sides(0, 0.3)}).attacks[0]
    among = evaluate({"loss": sides(0, 0.3), **{f"x{i}": sides(i, 0.0) for i in range(1, 10)}})
    assert among.attacks[0].p_corrected == pytest.approx(min(1, 10 * alone.auc.p_value))


def test_a_claim_is_no_more_certain_than_either_of_its_halves():
    made = evaluate({"loss": sides(0, 0.5), "zlib": sides(1, 0.4)}, {"length": sides(2, 0.0)})
    halves = [max(result.above_blind.p_value, result.auc.p_value) for result in made.attacks]
    for result, half in zip(made.attacks, halves, strict=True):
        assert result.p_claim >= half
    # Holm's correction for two: the smaller counts double.
    assert min(result.p_claim for result in made.attacks) == pytest.approx(2 * min(halves))


def test_undecidable_comparisons_are_withheld_with_a_reason():
    flat = np.ones(150), np.ones(150)
    made = evaluate({"flat": flat, "loss": sides(0, 1.0)}, {"dates": flat, "length": sides(1, 0.0)})
    assert made.attacks[0].withheld.startswith("scores must not all be equal; got 1")
    assert made.attacks[0].auc is None
    assert np.isnan(made.attacks[0].p_corrected)
    assert made.verdict.claim
    with pytest.raises(ValueError, match="flat: scores must not all be equal"):
        evaluate({"flat": flat})
    with pytest.raises(ValueError, match="there must be 1 or more scores; got none"):
        evaluate({})


def test_undefined_scores_are_counted_and_compared_where_both_are_defined():
    attack = sides(0, 1.0)
    attack[0][:7] = np.nan
    made = evaluate({"loss": attack}, {"length": sides(1, 0.0)}).attacks[0]
    assert (made.auc.n_members, made.auc.n_undefined) == (143, 7)


# ------------------------------------------------------------------------------ a whole set
def weak_scores(seed, shift, n=200):
    """Three scores, none of which tells a single text."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(shift, 1, n) for name in ("loss", "zlib", "min_k")}


def test_a_baseline_that_is_flat_where_the_attack_has_values_is_at_chance_there():
    """Dates of texts that the attack leaves undefined vary, the others have none."""
    rng = np.random.default_rng(3)
    attack = [np.append(rng.normal(mean, 1, 60), [np.nan] * 20) for mean in (2, 0)]
    dates = [np.append(np.full(60, 0.5), rng.random(20)) for _ in range(2)]
    (result,) = evaluate({"surp": attack}, {"dates": dates}).attacks
    assert result.auc is not None
    assert (result.blind, result.above_blind.value) == ("dates", result.auc.value - 0.5)
    assert result.above_blind.p_value == result.auc.p_value
    with pytest.raises(ValueError, match="must be of the same texts"):
        evaluate({"surp": attack}, {"dates": (dates[0][:-1], dates[1])})


def test_a_set_that_was_trained_on_is_reported_where_single_texts_are_not():
    found = [set_test(weak_scores([s, 0], 0.25), weak_scores([s, 1], 0.0)) for s in range(20)]
    assert np.mean([made.p_value <= 0.05 for made in found]) >= 0.7


def test_a_set_that_was_not_is_reported_as_often_as_chance_has_it():
    p = [
        set_test(weak_scores([s, 0], 0.0, 60), weak_scores([s, 1], 0.0, 60), n_permutations=199)
        for s in range(120)
    ]
    # 5 % of 120 are 6, give or take 2.4; 13 is three standard deviations above.
    assert sum(made.p_value <= 0.05 for made in p) <= 13


def test_the_tested_half_is_not_the_fitted_half():
    """Twenty scores of noise fit any 30 texts; tested on the same they would always be told."""
    rng = np.random.default_rng(0)
    p = []
    for _ in range(40):
        a, b = ({f"x{i}": rng.normal(size=30) for i in range(20)} for _ in range(2))
        p.append(set_test(a, b, n_permutations=199).p_value)
    assert np.mean(np.array(p) <= 0.05) <= 0.2


def test_permutation_p_is_that_of_all_deals_where_they_can_be_counted():
    from itertools import combinations

    from attacks.statistics.resampling import label_permutation_p

    high, low = np.array([3.0, 1.5, 2.5]), np.array([1.0, 2.0, 0.5])
    pooled = [*high, *low]
    deals = [sum(chosen) for chosen in combinations(pooled, 3)]
    exact = np.mean([deal >= high.sum() for deal in deals])
    made = label_permutation_p(high, low, greater=True, draws=20_000)
    assert made == pytest.approx(exact, abs=0.01)


def test_an_outlier_does_not_decide_the_set_test():
    """One infinite score among members is one high rank, no more."""
    a, b = weak_scores(0, 0.0), weak_scores(1, 0.0)
    before = set_test(a, b).p_value
    a["loss"][0] = np.inf
    assert set_test(a, b).p_value == pytest.approx(before, abs=0.15)


def test_set_test_says_what_it_rests_on_and_what_it_used():
    a, b = weak_scores(0, 0.5, 41), weak_scores(1, 0.0, 31)
    a["loss"][3] = np.nan
    made = set_test(a, b)
    assert (made.n_fitted, made.n_tested, made.n_undefined) == ((21, 16), (20, 15), 1)
    assert set(made.weights) == {"loss", "zlib", "min_k"}
    assert "independent draws" in made.assumptions


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ({"loss": np.arange(7.0)}, {"loss": np.arange(9.0)}, "the set must have 8 or more texts"),
        ({"loss": np.arange(9.0)}, {"zlib": np.arange(9.0)}, "differing ones: loss, zlib"),
        ({}, {}, "got differing ones: none at all"),
        ({"loss": np.ones(9)}, {"loss": np.ones(9)}, "two different values .* got none in loss"),
    ],
)
def test_sets_that_cannot_be_tested_are_refused(a, b, message):
    with pytest.raises(ValueError, match=message):
        set_test(a, b)
