"""ROC, AUC, TPR at FPR and held-out thresholds: right against counting, and honest about doubt."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from attacks.roc import allowed, auc, compare_aucs, roc_curve, tpr_at_fpr
from attacks.thresholds import held_out_threshold
from attacks.two_classes import two_classes

# Few distinct values, so that ties abound.
SIDE = st.lists(st.integers(0, 5), min_size=2, max_size=12)


def both_vary(members, nonmembers):
    return len({*members, *nonmembers}) > 1


def normal(rng, n, shift=0.0):
    return rng.normal(shift, 1, n)


def counted_auc(members, nonmembers):
    """Pair by pair, exactly."""
    won = sum(Fraction(int(2 * (x > y) + (x == y)), 2) for x in members for y in nonmembers)
    return won / (len(members) * len(nonmembers))


# --------------------------------------------------------------------------------------- AUC
@given(SIDE, SIDE)
def test_auc_is_the_share_of_ordered_pairs_ties_counted_half(members, nonmembers):
    if both_vary(members, nonmembers):
        expected = counted_auc(members, nonmembers)
        assert auc(members, nonmembers).value == pytest.approx(float(expected), abs=1e-12)


@given(SIDE, SIDE)
def test_swapped_sides_give_the_mirrored_auc_and_interval(members, nonmembers):
    if both_vary(members, nonmembers):
        made, mirrored = auc(members, nonmembers), auc(nonmembers, members)
        assert (made.value, made.low, made.high) == pytest.approx(
            (1 - mirrored.value, 1 - mirrored.high, 1 - mirrored.low), abs=1e-9
        )


@given(SIDE, SIDE)
def test_the_interval_holds_the_auc_and_lies_in_0_to_1(members, nonmembers):
    if both_vary(members, nonmembers):
        made = auc(members, nonmembers)
        assert 0 <= made.low <= made.value + 1e-12 <= made.high + 2e-12 <= 1 + 3e-12
        assert made.low < made.high


def test_auc_depends_on_order_alone_infinities_included():
    rng = np.random.default_rng(0)
    members, nonmembers = normal(rng, 30, 1), normal(rng, 40)
    members[3], nonmembers[5] = np.inf, -np.inf
    first, again = auc(members, nonmembers), auc(np.arctan(members), np.arctan(nonmembers))
    assert (first.value, first.low, first.high, first.p_value) == pytest.approx(
        (again.value, again.low, again.high, again.p_value)
    )


def slow_delong_variance(members, nonmembers):
    """The structural components, one by one, as the paper defines them."""

    def wins(x, y):
        return float(x > y) + 0.5 * float(x == y)

    over = [np.mean([wins(x, y) for y in nonmembers]) for x in members]
    under = [np.mean([wins(x, y) for x in members]) for y in nonmembers]
    return np.var(over, ddof=1) / len(members) + np.var(under, ddof=1) / len(nonmembers)


def test_the_interval_is_delongs_on_the_logit_scale():
    rng = np.random.default_rng(1)
    members, nonmembers = normal(rng, 23, 0.8).round(1), normal(rng, 31).round(1)
    a = float(counted_auc(members, nonmembers))
    reach = 1.959963984540054 * math.sqrt(slow_delong_variance(members, nonmembers)) / (a * (1 - a))
    middle = math.log(a / (1 - a))
    made = auc(members, nonmembers)
    expected = [1 / (1 + math.exp(-(middle + end))) for end in (-reach, reach)]
    assert (made.low, made.high) == pytest.approx(expected, rel=1e-9)


def test_complete_separation_is_no_certainty():
    made = auc([3.0, 4.0, 5.0], [0.0, 1.0, 2.0, 2.5])
    # Worked by hand: three disjoint pairs in order have the chance AUC^3, so low^3 = 0.025.
    assert (made.value, made.low, made.high) == pytest.approx((1.0, 0.025 ** (1 / 3), 1.0))


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.5])
def test_intervals_hold_the_true_auc_as_often_as_they_say(shift):
    truth = 0.5 * (1 + math.erf(shift / 2))  # of two normals, shift / sqrt(2) standard deviations
    held = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        made = auc(normal(rng, 40, shift), normal(rng, 60))
        held += made.low <= truth <= made.high
    assert 0.92 * 300 <= held <= 0.99 * 300


def test_on_shuffled_labels_the_interval_holds_one_half():
    scores = np.random.default_rng(7).gamma(0.5, size=120).round(2)
    held = 0
    for seed in range(200):
        shuffled = np.random.default_rng(seed).permutation(scores)
        made = auc(shuffled[:50], shuffled[50:])
        held += made.low <= 0.5 <= made.high
    assert held >= 180


def test_p_values_of_shuffled_labels_are_uniform():
    scores = np.random.default_rng(8).normal(size=100).round(1)
    p = np.array(
        [
            auc(shuffled[:50], shuffled[50:]).p_value
            for shuffled in (np.random.default_rng(s).permutation(scores) for s in range(400))
        ]
    )
    for level in (0.05, 0.25, 0.5, 0.75):
        # Four standard deviations of a share of 400.
        assert abs(np.mean(p <= level) - level) < 4 * math.sqrt(level * (1 - level) / 400)


# --------------------------------------------------------------------------------- comparison
def test_comparison_is_the_difference_and_turns_with_its_sides():
    rng = np.random.default_rng(2)
    a = normal(rng, 40, 1), normal(rng, 50)
    b = a[0] + normal(rng, 40), a[1] + normal(rng, 50)
    made, turned = compare_aucs(a, b), compare_aucs(b, a)
    assert made.value == pytest.approx(auc(*a).value - auc(*b).value)
    assert (turned.value, turned.low, turned.high) == pytest.approx(
        (-made.value, -made.high, -made.low)
    )
    assert turned.p_value == pytest.approx(1 - made.p_value)


def test_comparison_uses_that_the_texts_are_the_same():
    """A score against itself and a little noise: the difference is known far better than either."""
    rng = np.random.default_rng(3)
    a = normal(rng, 200, 1), normal(rng, 200)
    b = a[0] + 0.05 * normal(rng, 200), a[1] + 0.05 * normal(rng, 200)
    made, alone = compare_aucs(a, b), auc(*a)
    assert made.high - made.low < (alone.high - alone.low) / 5


def test_comparison_of_equals_errs_as_often_as_it_says():
    below = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        shared = normal(rng, 60, 1), normal(rng, 60)
        a, b = (tuple(side + normal(rng, 60) for side in shared) for _ in range(2))
        below += compare_aucs(a, b).p_value <= 0.05
    assert below <= 0.09 * 400


def test_a_score_is_not_above_itself():
    score = [1.0, 2.0, 3.0], [0.0, 2.5]
    made = compare_aucs(score, score)
    assert (made.value, made.low, made.high, made.p_value) == (0, 0, 0, 1)


def test_separation_against_reversal_is_significant_only_as_texts_allow():
    high, low = np.array([3.0, 4.0, 5.0]), np.array([0.0, 1.0, 2.0])
    made = compare_aucs((high, low), (low, high))
    assert (made.value, made.p_value) == (1.0, 0.125)
    assert compare_aucs((low, high), (high, low)).p_value == 1


def test_comparison_leaves_out_what_either_score_leaves_undefined():
    a = [1.0, np.nan, 3.0, 9.0], [0.0, 2.0, 1.5]
    b = [1.0, 5.0, 2.0, 8.0], [np.nan, 2.0, 1.0]
    made = compare_aucs(a, b)
    assert (made.n_members, made.n_nonmembers) == (3, 2)


# -------------------------------------------------------------------------------- TPR at FPR
def slow_tpr(members, nonmembers, target):
    """Of all thresholds whose FPR does not exceed the target, the most members called."""
    called = []
    for threshold in [*members, *nonmembers, np.inf]:
        wrong = sum(y >= threshold for y in nonmembers)
        if Fraction(wrong, len(nonmembers)) <= target:
            called.append((sum(x >= threshold for x in members), wrong))
    return max(called)


@given(SIDE, SIDE, st.sampled_from([Fraction(1, 10), Fraction(1, 4), Fraction(1, 3), Fraction(1)]))
def test_tpr_is_the_best_of_all_thresholds_within_the_fpr(members, nonmembers, target):
    if not both_vary(members, nonmembers):
        return
    (made,) = tpr_at_fpr(members, nonmembers, targets=[float(target)])
    if len(nonmembers) * target < 1:
        assert made.tpr is None
        assert "non-members, got" in made.withheld
        return
    most, _ = slow_tpr(members, nonmembers, target)
    assert made.tpr.successes == most
    assert Fraction(made.fpr.successes, made.fpr.trials) <= target


def test_tpr_that_too_few_nonmembers_resolve_is_withheld():
    rng = np.random.default_rng(0)
    made = tpr_at_fpr(normal(rng, 50, 5), normal(rng, 999))
    assert [result.tpr is None for result in made] == [False, False, True]
    assert str(made[2]) == "withheld: needs 1,000 non-members, got 999"
    assert tpr_at_fpr(normal(rng, 50, 5), normal(rng, 1000))[2].tpr is not None


def test_an_fpr_is_spent_exactly_whatever_its_last_bit():
    for n, target, expected in ((30, 0.1, 3), (100, 0.29, 29), (1000, 0.001, 1), (10, 0.3, 3)):
        assert allowed(target, n) == expected


def test_ties_at_the_threshold_are_not_called():
    """Two non-members share the highest score: calling one calls both, which exceeds 1 in 10."""
    nonmembers = [9, 9, 1, 1, 1, 1, 1, 1, 1, 1]
    (made,) = tpr_at_fpr([9, 10], nonmembers, targets=[0.1])
    assert (made.tpr.successes, made.fpr.successes) == (1, 0)


def test_curve_equals_sklearns_and_its_area_is_the_auc():
    rng = np.random.default_rng(4)
    members, nonmembers = normal(rng, 30, 0.5).round(1), normal(rng, 40).round(1)
    labels, scores = np.repeat([1, 0], [30, 40]), np.concatenate([members, nonmembers])
    made = roc_curve(members, nonmembers)
    fpr, tpr, _ = sklearn_roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(made.fpr, fpr)
    np.testing.assert_allclose(made.tpr, tpr)
    assert np.trapezoid(made.tpr, made.fpr) == pytest.approx(roc_auc_score(labels, scores))


# ------------------------------------------------------------------------ held-out threshold
def test_threshold_is_fitted_on_one_half_and_tried_on_the_other():
    nonmembers = np.arange(40.0)
    made = held_out_threshold(np.arange(0.0, 80), nonmembers, target=0.1, seed=3)
    order = np.random.default_rng(3).permutation(40)
    fitted, tried = nonmembers[order[:20]], nonmembers[order[20:]]
    # Two of twenty may be above: it is the third highest.
    assert made.threshold == sorted(fitted)[-3]
    assert (made.n_fitted, made.fpr.trials, made.tpr.trials) == (20, 20, 80)
    assert made.fpr.successes == sum(tried > made.threshold)


def test_realised_fpr_is_on_average_no_more_than_asked():
    realised = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        made = held_out_threshold(normal(rng, 5), normal(rng, 200), target=0.1, seed=seed)
        realised.append(made.fpr.value)
    # Above the 11th highest of 100 lies a share of 11 / 101 on average.
    assert np.mean(realised) == pytest.approx(11 / 101, abs=0.01)


def test_threshold_of_too_few_controls_is_withheld():
    made = held_out_threshold([1.0, 2.0], np.arange(199.0), target=0.01)
    assert made.tpr is None
    assert made.withheld == "needs 200 non-members, half to fit and half to try; got 199"


# -------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("members", "nonmembers", "message"),
    [
        ([1.0], [1.0, 2.0], "members must have 2 or more defined scores; got 1 "),
        ([1.0, 2.0], [np.nan, 1.0], r"non-members must have .* got 1 \(1 more are NaN\)"),
        ([1.0, 1.0], [1.0, 1.0], "scores must not all be equal; got 1 for every text"),
        ([[1.0, 2.0]], [1.0, 2.0], r"one dimension; got shape \(1, 2\)"),
    ],
)
def test_what_nothing_can_be_said_of_is_refused_in_a_sentence(members, nonmembers, message):
    for function in (auc, tpr_at_fpr, roc_curve, held_out_threshold, two_classes):
        with pytest.raises(ValueError, match=message):
            function(members, nonmembers)


def test_nan_is_left_out_and_counted():
    made = auc([2.0, np.nan, 4.0], [1.0, 3.0, np.nan])
    assert (made.value, made.n_members, made.n_nonmembers, made.n_undefined) == (0.75, 2, 2, 2)


def test_rates_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="an FPR must lie above 0 and at most at 1; got 0"):
        tpr_at_fpr([1.0, 2.0], [0.0, 1.0], targets=[0])
    with pytest.raises(ValueError, match="confidence must lie between 0 and 1"):
        auc([1.0, 3.0], [0.0, 2.0], confidence=95)
    with pytest.raises(ValueError, match="of the same texts; got 2 and 3 values"):
        compare_aucs(([1.0, 2.0], [0.0, 1.0]), ([1.0, 2.0, 3.0], [0.0, 1.0]))
