"""Paired tests: against every permutation written out, against published tables, and theory."""

from itertools import combinations, product
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from attacks.statistics.resampling import (
    bootstrap_mean,
    difference_of,
    label_permutation_p,
    newcombe,
    paired_proportions,
    sign_flip_p,
)

numbers = st.lists(st.integers(-50, 50).map(float), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None)
@given(numbers, st.booleans())
def test_few_values_get_the_share_of_all_sign_patterns(changes, greater):
    sums = [sum(s * c for s, c in zip(signs, changes, strict=True))
            for signs in product((1, -1), repeat=len(changes))]  # fmt: skip
    own = sum(changes)
    hits = [s >= own if greater else abs(s) >= abs(own) for s in sums]
    assert sign_flip_p(changes, greater=greater) == pytest.approx(sum(hits) / len(hits))


def test_on_zeros_and_ones_the_sign_test_is_mcnemars():
    """9 texts became extractable and 2 ceased to be: exact McNemar, 2 P(X <= 2 of 11)."""
    expected = 2 * sum(comb(11, k) for k in range(3)) / 2**11
    assert sign_flip_p([1.0] * 9 + [-1.0] * 2) == pytest.approx(expected)


def test_drawn_signs_come_near_the_exact_share():
    """Twenty equal values: only all plus or all minus reach the sum, 2 of 2^20."""
    assert sign_flip_p([1.0] * 20, draws=999) == pytest.approx(1 / 1000)
    changes = [3.0, -1.0] * 8  # sum 16: at least as far out, by the binomials of both kinds
    weight = {}
    for k in range(9):
        for m in range(9):
            total = 3 * (8 - 2 * k) + (8 - 2 * m)
            weight[total] = weight.get(total, 0) + comb(8, k) * comb(8, m)
    exact = sum(w for t, w in weight.items() if abs(t) >= 16) / 2**16
    assert sign_flip_p(changes, draws=40_000) == pytest.approx(exact, abs=0.01)


def test_dealt_labels_come_near_the_share_of_all_ways_to_deal():
    members, others = [4.0, 6.0, 9.0], [1.0, 2.0, 3.0, 5.0]
    pool = members + others
    own = sum(members) / 3 - sum(others) / 4
    ways = []
    for chosen in combinations(range(7), 3):
        inside = sum(pool[i] for i in chosen)
        ways.append(inside / 3 - (sum(pool) - inside) / 4)
    share = sum(abs(w) >= abs(own) - 1e-9 for w in ways) / len(ways)
    one_sided = sum(w >= own - 1e-9 for w in ways) / len(ways)
    assert label_permutation_p(members, others, draws=40_000) == pytest.approx(share, abs=0.01)
    got = label_permutation_p(members, others, greater=True, draws=40_000)
    assert got == pytest.approx(one_sided, abs=0.01)


def test_p_values_of_nothing_are_uniform_enough():
    rng = np.random.default_rng(0)
    p = [sign_flip_p(rng.normal(size=10)) for _ in range(300)]
    assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.09


def test_a_difference_has_the_sign_of_members_minus_others():
    found = difference_of(bootstrap_mean(np.arange(20.0) + 2), bootstrap_mean(np.arange(30.0) / 2))
    assert found.value == pytest.approx(11.5 - 7.25)
    assert found.low < found.value < found.high
    assert label_permutation_p([2.0] * 9, [0.0] * 9, greater=True) < 0.01
    assert label_permutation_p([0.0] * 9, [2.0] * 9, greater=True) > 0.99


def test_the_interval_of_a_mean_is_near_the_normal_one_of_many_values():
    values = np.random.default_rng(1).normal(5, 2, 2_000)
    found = bootstrap_mean(values, draws=2_000)
    half = 1.959964 * values.std() / np.sqrt(2_000)
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * half, rel=0.08)


SKEWED = {
    "normal": (lambda rng, n: rng.normal(0, 1, n), 0.0),
    "exponential": (lambda rng, n: rng.exponential(1, n), 1.0),
    "a fifth moved": (lambda rng, n: rng.normal(0, 0.3, n) + 3 * (rng.random(n) < 0.2), 0.6),
}


@pytest.mark.parametrize("law", SKEWED)
@pytest.mark.parametrize("n", [20, 40])
def test_intervals_of_a_mean_hold_it_as_often_as_they_say(law, n):
    draw, truth = SKEWED[law]
    rng, held, given = np.random.default_rng(4), 0, 0
    for _ in range(300):
        made = bootstrap_mean(draw(rng, n), draws=999)
        given += not np.isnan(made.low)
        held += made.low <= truth <= made.high
    assert held >= 0.93 * given
    assert given > 250


@pytest.mark.parametrize("law", SKEWED)
def test_intervals_of_a_difference_of_means_hold_it_as_often_as_they_say(law):
    draw, truth = SKEWED[law]
    rng, held, given = np.random.default_rng(7), 0, 0
    for _ in range(200):
        made = difference_of(
            bootstrap_mean(draw(rng, 25), draws=999),
            bootstrap_mean(rng.exponential(1, 60), draws=999),
        )
        given += not np.isnan(made.low)
        held += made.low <= truth - 1 <= made.high
    assert held >= 0.93 * given
    assert given > 150


@pytest.mark.parametrize("values", [[1.0, 5.0] * 9, [2.0] * 50, [0.0] * 49 + [7.0]])
def test_of_few_or_equal_values_there_is_a_mean_and_no_interval(values):
    found = bootstrap_mean(values)
    assert found.value == np.mean(values)
    assert np.isnan([found.low, found.high]).all()
    apart = difference_of(bootstrap_mean(np.arange(30.0)), found)
    assert np.isnan([apart.low, apart.high]).all()


def test_the_same_seed_gives_the_same_interval_and_another_another():
    many = np.random.default_rng(0).exponential(size=50)
    assert bootstrap_mean(many, seed=1) == bootstrap_mean(many, seed=1)
    assert bootstrap_mean(many, seed=1).high != bootstrap_mean(many, seed=2).high


# Tango 1998: the difference that the score test just does not reject, by a search on a fine grid.
@pytest.mark.parametrize(("b", "c", "n"), [(10, 0, 20), (3, 5, 20), (0, 0, 9), (1, 0, 100)])
def test_tangos_interval_is_what_his_test_does_not_reject(b, c, n):
    d = np.linspace(-1, 1, 400_001)[1:-1]
    linear = (2 * n - b + c) * d - b - c
    q = (np.sqrt(linear**2 + 8 * n * c * d * (1 - d)) - linear) / (4 * n)
    kept = d[(b - c - n * d) ** 2 <= 1.959963984540054**2 * n * (2 * q + d * (1 - d)) + 1e-12]
    found = paired_proportions(b, c, n)
    assert (found.low, found.high) == pytest.approx((kept.min(), kept.max()), abs=1e-5)
    turned = paired_proportions(c, b, n)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


SHARES = (0.01, 0.03, 0.1, 0.3, 0.5)


@pytest.fixture(scope="module", params=[20, 100])
def tables(request):
    """Every table of n pairs that differ b and c times, with its interval."""
    n = request.param
    b, c = (v.ravel() for v in np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij"))
    # Beyond n in all there is too little chance, and in pairs none.
    b, c = b[b + c <= n], c[b + c <= n]
    ends = {}
    for i, j in zip(b.tolist(), c.tolist(), strict=True):
        if i >= j:
            made = paired_proportions(i, j, n)
            ends[i, j], ends[j, i] = (made.low, made.high), (-made.high, -made.low)
    low, high = np.array([ends[pair] for pair in zip(b.tolist(), c.tolist(), strict=True)]).T
    return n, b, c, low, high


@pytest.mark.parametrize("together", [-1.0, -0.5, 0.0, 0.5, 1.0])
def test_the_difference_of_paired_proportions_is_held_as_often_as_said(tables, together):
    """Exactly, by summing over tables; both succeed from never to as often as they can."""
    n, b, c, low, high = tables
    for p, q in product(SHARES, SHARES):
        apart, most = p * q, min(p, q)
        both = apart + together * (most - apart if together > 0 else apart)
        shares = np.array([p - both, q - both, 1 - p - q + 2 * both])
        counts = np.stack([b, c, n - b - c])
        chance = stats.multinomial.pmf(counts.T, n, np.maximum(shares, 0))
        held = (low - 1e-12 <= p - q) & (p - q <= high + 1e-12)
        assert chance.sum() == pytest.approx(1)
        assert chance[held].sum() >= 0.93, (p, q)


def test_lists_of_different_samples_are_held_as_often_as_said(tables):
    """Both counts are binomial then, which pairs would make more variable."""
    n, b, c, low, high = tables
    for p, q in product(SHARES, SHARES):
        chance = stats.binom.pmf(b, n, p) * stats.binom.pmf(c, n, q)
        held = (low - 1e-12 <= p - q) & (p - q <= high + 1e-12)
        if chance.sum() > 0.999:
            assert chance[held].sum() >= 0.93, (p, q)


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    # Newcombe 1998, table II, method 10: examples (a), (b), (d) and (g).
    [
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((5, 56, 0, 29), -0.0381, 0.1926),
        ((10, 10, 0, 20), 0.6791, 1.0000),
    ],
)
def test_newcombes_interval_is_that_of_his_table(counts, low, high):
    found = newcombe(*counts)
    assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5)


def test_newcombe_swaps_its_ends_when_the_sides_are_swapped():
    one, other = newcombe(3, 10, 7, 12), newcombe(7, 12, 3, 10)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_values_are_refused(bad):
    for function in (sign_flip_p, bootstrap_mean):
        with pytest.raises(ValueError, match="finite"):
            function([1.0, bad])


def test_empty_input_gives_nan():
    assert np.isnan(sign_flip_p([]))
    assert np.isnan(label_permutation_p([], [1.0]))
    assert np.isnan(bootstrap_mean([]).value)
    assert np.isnan(newcombe(0, 0, 1, 2).value)
    assert np.isnan(paired_proportions(0, 0, 0).value)


def test_counts_beyond_the_trials_are_refused():
    with pytest.raises(ValueError, match="must lie between 0 and n; got 3 and 1 of 2"):
        paired_proportions(3, 1, 2)
