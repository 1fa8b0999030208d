"""Richness, precision of lists and cost per passage, against known populations."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attacks.statistics.costs import compare_lists, cost_per_passage, cost_ratio, precision_at_k
from attacks.statistics.discovery_curve import discovery_curve, distinct_passages
from attacks.statistics.richness import richness


def drawn(seed, chances, n):
    """How often each passage of a known population comes in n draws."""
    return np.random.default_rng(seed).multinomial(n, chances)


def zipf(n):
    return 1 / np.arange(1, n + 1) / np.sum(1 / np.arange(1, n + 1))


# ------------------------------------------------------------------------ rate of new passages
@pytest.mark.parametrize("chances", [np.full(300, 1 / 300), zipf(300)])
@pytest.mark.parametrize("n", [50, 500, 3000])
def test_the_rate_is_right_on_average_and_its_interval_holds_the_missing_mass(chances, n):
    held, rates, masses = 0, [], []
    for seed in range(200):
        counts = drawn(seed, chances, n)
        missing = chances[counts == 0].sum()
        made = richness(counts)
        held += made.new_rate_low <= missing <= made.new_rate_high
        rates.append(made.new_rate)
        masses.append(missing)
    assert held >= 0.9 * 200
    # Good's estimate is of n - 1 draws, which miss at most 1 / n more.
    assert np.mean(rates) == pytest.approx(np.mean(masses), abs=1 / n + 0.01)


def test_draws_without_a_passage_count():
    assert richness([1, 1, 2], n_draws=40).new_rate == 2 / 40


def test_nothing_seen_once_is_no_proof_that_nothing_is_left():
    made = richness([5, 6])
    assert made.new_rate == 0
    assert made.new_rate_high == pytest.approx(1 - 0.025 ** (1 / 11))


# ---------------------------------------------------------------------- how many there are
@pytest.mark.parametrize("n", [400, 1000, 4000])
def test_total_of_equally_likely_passages_is_held_by_the_interval(n):
    made = [richness(drawn(seed, np.full(500, 1 / 500), n)) for seed in range(200)]
    assert np.mean([m.total_low <= 500 <= m.total_high for m in made]) >= 0.9
    assert np.mean([m.total for m in made]) == pytest.approx(500, rel=0.05)


def test_total_of_unequal_passages_is_a_lower_bound_above_what_was_seen():
    made = [richness(drawn(seed, zipf(1000), 800)) for seed in range(100)]
    assert np.mean([m.total for m in made]) < 1000
    assert all(m.total > m.n_distinct for m in made)
    # Worth having: nearer to the truth than the count.
    assert np.mean([1000 - m.total for m in made]) < np.mean([1000 - m.n_distinct for m in made])


def test_total_equals_the_formula_worked_by_hand():
    # 4 once, 2 twice, 1 five times, in 13 draws: 7 + 12/13 * 16 / 4.
    made = richness([1, 1, 1, 1, 2, 2, 5])
    assert made.total == pytest.approx(7 + 12 / 13 * 4)
    # Nobody twice: 7 + (n - 1) / n * 4 * 3 / 2, with n = 4 + 3 * 5.
    assert richness([1, 1, 1, 1, 5, 5, 5]).total == pytest.approx(7 + 18 / 19 * 6)


def test_all_seen_often_means_nothing_is_left():
    made = richness(np.full(20, 30))
    assert (made.total, made.n_distinct) == (20, 20)
    assert 20 <= made.total_low <= made.total_high < 20.01


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30).filter(any))
def test_intervals_are_in_order_and_no_fewer_than_were_seen(counts):
    made = richness(counts)
    assert made.n_distinct <= made.total_low <= made.total + 1e-9
    assert made.total <= made.total_high + 1e-9 or made.total == made.n_distinct
    assert 0 <= made.new_rate_low <= made.new_rate <= made.new_rate_high <= 1


def test_nothing_found_withholds_the_total_and_bounds_the_rate():
    made = richness([], n_draws=100)
    assert made.withheld == "no passage was found in 100 samples"
    assert math.isnan(made.total)
    assert made.new_rate_high == pytest.approx(1 - 0.025**0.01)


@pytest.mark.parametrize(
    ("counts", "n_draws", "message"),
    [
        ([0.5], None, "whole numbers from 0 on, one per passage; got float64"),
        ([-1], None, "whole numbers from 0 on"),
        ([7], 5, r"at least the largest count \(7\); got 5"),
        ([], None, "n_draws must be 1 or more"),
    ],
)
def test_counts_that_cannot_be_are_refused(counts, n_draws, message):
    with pytest.raises(ValueError, match=message):
        richness(counts, n_draws=n_draws)


# ------------------------------------------------------------------------------ the curve
def test_expected_curve_is_the_mean_over_all_choices_of_samples():
    held = [{1, 2}, set(), {1}, {3}, {1, 3}]
    samples = [i for i, found in enumerate(held) for _ in found]
    passages = [p for found in held for p in sorted(found)]
    made = discovery_curve(samples, passages, [10] * 5)
    for k, expected in zip(made.n_samples, made.expected, strict=True):
        slow = [len(set().union(*chosen)) for chosen in combinations(held, int(k))]
        assert expected == pytest.approx(np.mean(slow))
    assert list(made.observed) == [2, 2, 2, 3, 3]
    assert list(made.n_tokens) == [10, 20, 30, 40, 50]
    assert made.left.n_draws == 5


def test_a_finding_told_twice_counts_once():
    once = discovery_curve([0, 1], [4, 4], [5, 5])
    twice = discovery_curve([0, 0, 1], [4, 4, 4], [5, 5])
    np.testing.assert_array_equal(once.expected, twice.expected)
    assert twice.left.n_once == 0


def test_curves_of_a_known_population_hold_its_expected_growth():
    """Samples of one passage each out of 60 alike; tokens vary."""
    held = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        made = discovery_curve(np.arange(150), rng.integers(0, 60, 150), rng.integers(5, 9, 150))
        truth = 60 * (1 - (1 - 1 / 60) ** made.n_samples[25])
        held += made.low[25] <= truth <= made.high[25]
    assert held >= 0.9 * 200


def test_intervals_of_a_curve_are_as_wide_as_curves_differ():
    """Each of 60 passages is in a sample with the chance 0.01: what all hold is binomial."""
    chance = 1 - 0.99**150
    widths = []
    for seed in range(100):
        where, what = np.nonzero(np.random.default_rng(seed).random((150, 60)) < 0.01)
        made = discovery_curve(where, what, np.ones(150), n_points=3)
        widths.append(made.high[-1] - made.low[-1])
    expected = 2 * 1.96 * math.sqrt(60 * chance * (1 - chance))
    assert np.mean(widths) == pytest.approx(expected, rel=0.1)


def test_a_curve_without_findings_is_flat():
    made = discovery_curve([], [], [3, 4])
    assert (list(made.expected), list(made.observed)) == ([0, 0], [0, 0])


def test_findings_of_samples_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="samples must be places from 0 to 1"):
        discovery_curve([2], [0], [3, 4])


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20), st.integers(1, 6)), max_size=12))
def test_overlapping_spans_are_one_passage(stretches):
    doc, start, length = (
        (np.array(c, int) for c in zip(*stretches, strict=True))
        if stretches
        else (np.array([], int),) * 3
    )
    ids = distinct_passages(doc, start, start + length)
    # The slow way: join whatever overlaps, until nothing changes.
    label = list(range(len(stretches)))
    for _ in stretches:
        for i in range(len(stretches)):
            for j in range(len(stretches)):
                apart = start[i] >= start[j] + length[j] or start[j] >= start[i] + length[i]
                if doc[i] == doc[j] and not apart:
                    label[i] = label[j] = min(label[i], label[j])
    for i in range(len(stretches)):
        for j in range(len(stretches)):
            assert (ids[i] == ids[j]) == (label[i] == label[j])


# ------------------------------------------------------------------------- lists and costs
def test_precision_beyond_the_list_is_not_told():
    made = precision_at_k([True, False, True], [1, 2, 3, 100])
    assert {k: (p.successes, p.n) for k, p in made.items()} == {
        1: (1, 1),
        2: (1, 2),
        3: (2, 3),
    }
    with pytest.raises(ValueError, match="k must be 1 or more; got 0"):
        precision_at_k([True], [0])


def test_lists_are_compared_by_samples_on_only_one():
    # 8 verified in the first alone, 1 in the second alone, 3 in both; two-sided sign test by hand:
    # 2 * (C(9, 0) + C(9, 1)) / 2^9.
    verified = np.ones(40, dtype=bool)
    verified[20:] = False
    first = [*range(11), *range(20, 29)]
    second = [*range(3), 11, *range(29, 40), *range(20, 25)]
    made = compare_lists(verified, first, second)
    assert (made.n_first_only, made.n_second_only) == (8, 1)
    assert made.p_value == pytest.approx(2 * 10 / 512)
    assert made.value == pytest.approx(7 / 20)
    turned = compare_lists(verified, second, first)
    assert (turned.value, turned.low, turned.high) == pytest.approx(
        (-made.value, -made.high, -made.low)
    )


def test_lists_of_two_lengths_are_refused():
    for first, second in (([0, 1], [0]), ([], []), ([0, 0], [0, 1])):
        with pytest.raises(ValueError, match="lists must be of equal length"):
            compare_lists([True, True], first, second)


def test_a_cost_is_effort_over_passages_with_its_interval_turned_over():
    made = cost_per_passage(1, 2, 100.0, confidence=0.28)
    # The rate of 1 in 2 lies in 0.2 to 0.8 (see `proportion`), so 0.4 to 1.6 of two samples.
    assert (made.value, made.low, made.high) == pytest.approx((100, 62.5, 250))
    none = cost_per_passage(0, 50, 100.0)
    assert (none.value, none.high) == (math.inf, math.inf)
    assert none.low > 0


def test_cost_ratio_holds_the_true_ratio_as_often_as_it_says():
    held = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        first = cost_per_passage(int(rng.binomial(2000, 0.02)), 2000, 6000.0)
        second = cost_per_passage(int(rng.binomial(1000, 0.01)), 1000, 1000.0)
        made = cost_ratio(first, second)
        held += made.low <= (3 / 0.02) / (1 / 0.01) <= made.high
    assert held >= 0.93 * 300


def test_cost_ratio_turns_with_its_sides_and_is_withheld_without_findings():
    a, b = cost_per_passage(8, 100, 50.0), cost_per_passage(2, 100, 10.0)
    made, turned = cost_ratio(a, b), cost_ratio(b, a)
    assert (turned.value, turned.low, turned.high) == pytest.approx(
        (1 / made.value, 1 / made.high, 1 / made.low)
    )
    nothing = cost_per_passage(0, 10, 1.0)
    assert cost_ratio(nothing, nothing).why == "neither strategy found a passage"
    assert cost_ratio(nothing, a).value == math.inf
