"""ROC, AUC, TPR at FPR and held-out thresholds, against counting and simulation."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from attacks.statistics.roc import allowed, auc, compare_aucs, roc_curve, tpr_at_fpr, two_classes
from attacks.statistics.thresholds import held_out_threshold

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


def newcombes_ends(a, m, n):
    """Where |a - area| is 1.96 standard deviations of an area, searched on a fine grid."""
    area = np.linspace(0, 1, 200_001)
    side = (m + n) / 2 - 1
    spread = 1 + side * (1 - area) / (2 - area) + side * area / (1 + area)
    inside = (a - area) ** 2 <= 1.959963984540054**2 * area * (1 - area) * spread / (m * n)
    inside &= (area > 0) & (area < 1)
    return area[inside].min(), area[inside].max()


@pytest.mark.parametrize(("shift", "m", "n"), [(0.8, 23, 31), (2.5, 15, 120), (-1.0, 40, 9)])
def test_the_interval_is_the_wider_of_delongs_and_newcombes(shift, m, n):
    rng = np.random.default_rng(1)
    members, nonmembers = normal(rng, m, shift).round(1), normal(rng, n).round(1)
    a = float(counted_auc(members, nonmembers))
    reach = 1.959963984540054 * math.sqrt(slow_delong_variance(members, nonmembers)) / (a * (1 - a))
    middle = math.log(a / (1 - a))
    made = auc(members, nonmembers)
    delong = [1 / (1 + math.exp(-(middle + end))) for end in (-reach, reach)]
    newcombe = newcombes_ends(a, m, n)
    expected = min(delong[0], newcombe[0]), max(delong[1], newcombe[1])
    assert (made.low, made.high) == pytest.approx(expected, abs=1e-5)


def test_complete_separation_has_an_interval_of_positive_width():
    made = auc([3.0, 4.0, 5.0], [0.0, 1.0, 2.0, 2.5])
    # Worked by hand: three disjoint pairs in order have the chance AUC^3, so low^3 = 0.025.
    assert (made.value, made.low, made.high) == pytest.approx((1.0, 0.025 ** (1 / 3), 1.0))


def rounded_auc(shift):
    """P(X > Y) + P(X = Y) / 2 of two normals, `shift` apart, both rounded to whole numbers."""
    k = np.arange(-12, 20)
    x, y = (np.diff(stats.norm.cdf(np.append(k, 20) - 0.5, at)) for at in (shift, 0.0))
    return float(x @ (np.cumsum(y) - 0.5 * y))


@pytest.mark.parametrize(("m", "n"), [(20, 200), (200, 20), (20, 20), (100, 100)])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("area", [0.5, 0.8, 0.95, 0.99])
def test_intervals_hold_the_true_auc_as_often_as_they_say(area, tied, m, n):
    shift = math.sqrt(2) * stats.norm.ppf(area)
    truth, held = rounded_auc(shift) if tied else area, 0
    rng = np.random.default_rng(5)
    for _ in range(200):
        members, nonmembers = normal(rng, m, shift), normal(rng, n)
        made = auc(members.round(), nonmembers.round()) if tied else auc(members, nonmembers)
        held += made.low <= truth <= made.high
    assert held >= 0.93 * 200


@pytest.mark.parametrize("m", [20, 100])
def test_the_interval_of_a_difference_holds_it_as_often_as_it_says(m):
    """Two scores of the same texts, one at an AUC of 0.95, the other at 0.8, correlated."""
    shifts = [math.sqrt(2) * stats.norm.ppf(area) for area in (0.95, 0.8)]
    rng, held = np.random.default_rng(6), 0
    for _ in range(300):
        shared = normal(rng, m), normal(rng, 100)
        first, second = (
            tuple(
                math.sqrt(0.8) * side + math.sqrt(0.2) * normal(rng, len(side)) + up
                for side, up in zip(shared, (shift, 0), strict=True)
            )
            for shift in shifts
        )
        made = compare_aucs(first, second)
        held += made.low <= 0.95 - 0.8 <= made.high
    assert held >= 0.93 * 300


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
    assert (made.value, made.p_value) == (0, 1)
    assert made.low <= 0 <= made.high


def test_two_scores_that_separate_the_sides_may_differ_all_the_same():
    made = compare_aucs(([3.0, 4.0, 5.0], [0.0, 1.0, 2.0]), ([9.0, 7.0, 8.0], [1.0, 0.0, 2.0]))
    # Three disjoint pairs in order leave an AUC of 0.025^(1/3) open, for either score.
    apart = 1 - 0.025 ** (1 / 3)
    assert (made.value, made.low, made.high) == pytest.approx((0, -apart, apart))


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


MANY = st.lists(st.integers(0, 9), min_size=28, max_size=45)


@given(SIDE, MANY, st.sampled_from([Fraction(1, 4), Fraction(1, 3), Fraction(1, 2), Fraction(1)]))
def test_tpr_is_the_best_of_all_thresholds_within_the_fpr(members, nonmembers, target):
    if not both_vary(members, nonmembers):
        return
    (made,) = tpr_at_fpr(members, nonmembers, targets=[float(target)])
    if len(nonmembers) * target < 10:
        assert made.tpr is None
        assert "non-members, got" in made.withheld
        return
    most, _ = slow_tpr(members, nonmembers, target)
    assert made.tpr.successes == most
    assert Fraction(made.fpr.successes, made.fpr.n) <= target
    assert made.tpr.low <= made.tpr.value <= made.tpr.high


def test_tpr_that_too_few_nonmembers_resolve_is_withheld():
    rng = np.random.default_rng(0)
    made = tpr_at_fpr(normal(rng, 50, 5), normal(rng, 9_999))
    assert [result.tpr is None for result in made] == [False, False, True]
    assert str(made[2]) == "withheld: needs 10,000 non-members, got 9,999"
    assert tpr_at_fpr(normal(rng, 50, 5), normal(rng, 10_000))[2].tpr is not None


@pytest.mark.parametrize("target", [0.1, 0.01, 0.001])
def test_what_is_not_withheld_bounds_the_fpr_within_a_factor_of_two(target):
    """Above the (k + 1)th highest of n lies a Beta(k + 1, n - k) distributed share."""
    n = math.ceil(10 / target)
    low, high = stats.beta.ppf([0.025, 0.975], 11, n - 10)
    assert target / 2 < low < high < 2 * target


def test_the_interval_of_a_tpr_by_hand():
    """100 non-members from 0 to 99, 10 % FPR: of 80 members each number from 20 to 99 is one."""
    (made,) = tpr_at_fpr(np.arange(20.0, 100), np.arange(100.0), targets=[0.1])
    # P(X <= 3) = 0.008 and P(X <= 4) = 0.024 of Binomial(100, 0.1): 3 members are above the 4th
    # highest. P(X > 17) = 0.010 and P(X > 16) = 0.021: 17 are above the 18th highest.
    low = stats.binomtest(3, 80).proportion_ci(0.975, "exact").low
    high = stats.binomtest(17, 80).proportion_ci(0.975, "exact").high
    assert (made.tpr.successes, made.tpr.low, made.tpr.high) == pytest.approx((10, low, high))


@pytest.mark.parametrize("scores", ["normal", "wide", "tied"])
@pytest.mark.parametrize("n", [100, 1_000])
@pytest.mark.parametrize("target", [0.1, 0.01])
def test_the_interval_holds_the_tpr_at_the_fpr_that_is_named(target, n, scores):
    """With the error of the threshold, which 100 or 1,000 non-members chose."""
    rng, held, spread = np.random.default_rng(9), 0, 3.0 if scores == "wide" else 1.0
    threshold = stats.norm.isf(target)
    if scores == "tied":  # tenths: the lowest one above which no more than the target lies
        threshold = math.ceil(10 * threshold - 0.5) / 10 + 0.05
    truth = stats.norm.sf(threshold, 1.5, spread)
    for _ in range(200):
        members, nonmembers = 1.5 + spread * normal(rng, n), normal(rng, n)
        if scores == "tied":
            members, nonmembers = members.round(1), nonmembers.round(1)
        (made,) = tpr_at_fpr(members, nonmembers, targets=[target])
        if made.tpr is None:
            assert n * target < 10
            return
        held += made.tpr.low <= truth <= made.tpr.high
    assert held >= 0.93 * 200


def test_a_tpr_is_reported_with_the_fpr_that_was_reached():
    (made,) = tpr_at_fpr(np.arange(20.0, 100), np.arange(100.0), targets=[0.1])
    assert str(made).endswith("; 10 of 80) at an FPR of 10.0 % (4.9–17.6; 10 of 100)")


def test_an_fpr_is_spent_exactly_whatever_its_last_bit():
    for n, target, expected in ((30, 0.1, 3), (100, 0.29, 29), (1000, 0.001, 1), (10, 0.3, 3)):
        assert allowed(target, n) == expected


def test_ties_at_the_threshold_are_not_called():
    """Eleven non-members share the highest score: calling ten calls all, which exceeds 10 %."""
    (made,) = tpr_at_fpr([9, 10], [9] * 11 + [1] * 89, targets=[0.1])
    assert (made.tpr.successes, made.fpr.successes) == (1, 0)


def test_a_score_of_minus_infinity_is_called_only_where_all_are():
    members, nonmembers = [-np.inf, 1.0], [-np.inf] * 39 + [0.0]
    few, every = tpr_at_fpr(members, nonmembers, targets=[0.5, 1.0])
    assert (few.tpr.successes, few.fpr.successes) == (1, 1)
    assert (every.tpr.successes, every.fpr.successes) == (2, 40)


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
    nonmembers = np.arange(200.0)
    made = held_out_threshold(np.arange(0.0, 400), nonmembers, target=0.1, seed=3)
    order = np.random.default_rng(3).permutation(200)
    fitted, tried = nonmembers[order[:100]], nonmembers[order[100:]]
    # Ten of a hundred may be above: it is the 11th highest.
    assert made.threshold == sorted(fitted)[-11]
    assert (made.n_fitted, made.fpr.n, made.tpr.n) == (100, 100, 400)
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
    made = held_out_threshold([1.0, 2.0], np.arange(1_999.0), target=0.01)
    assert made.tpr is None
    assert made.withheld == "needs 2,000 non-members, half to fit and half to test; got 1,999"


# -------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("members", "nonmembers", "message"),
    [
        ([1.0], [1.0, 2.0], "members must have 2 or more defined scores; got 1 "),
        ([1.0, 2.0], [np.nan, 1.0], r"non-members must have .* got 1 \(1 more are NaN\)"),
        ([1.0, 1.0], [1.0, 1.0], "scores must not all be equal; got 1 for every text"),
        ([[1.0, 2.0]], [1.0, 2.0], r"one dimension, one score per text; got shape \(1, 2\)"),
    ],
)
def test_invalid_scores_are_refused(members, nonmembers, message):
    for function in (auc, tpr_at_fpr, roc_curve, held_out_threshold, two_classes):
        with pytest.raises(ValueError, match=message):
            function(members, nonmembers)


def test_nan_is_left_out_and_counted():
    made = auc([2.0, np.nan, 4.0], [1.0, 3.0, np.nan])
    assert (made.value, made.n_members, made.n_nonmembers, made.n_undefined) == (0.75, 2, 2, 2)


def test_rates_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="an FPR must be above 0 and at most 1; got 0"):
        tpr_at_fpr([1.0, 2.0], [0.0, 1.0], targets=[0])
    with pytest.raises(ValueError, match="confidence must lie between 0 and 1"):
        auc([1.0, 3.0], [0.0, 2.0], confidence=95)
    with pytest.raises(ValueError, match="of the same texts; got 2 and 3 values"):
        compare_aucs(([1.0, 2.0], [0.0, 1.0]), ([1.0, 2.0, 3.0], [0.0, 1.0]))
