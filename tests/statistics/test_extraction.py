"""The numbers of discoverable extraction, against hand work, exact arithmetic and brute force."""

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attacks.statistics.coverage import best_log_p, coverage
from attacks.statistics.extraction import (
    chance,
    exact_memorization,
    extraction_strength,
    greedy,
    log10_n_samples,
    log_p_z,
    n_samples,
    recall_at_errors,
)

tables = st.integers(1, 7).flatmap(
    lambda m: st.lists(st.lists(st.booleans(), min_size=m, max_size=m), min_size=1, max_size=5)
)


# ----------------------------------------------------------------------- first choices
@given(tables)
def test_greedy_is_that_every_token_is_right(first):
    assert greedy(first).tolist() == [all(row) for row in first]


@given(tables)
def test_exact_memorization_is_the_share_of_right_tokens(first):
    assert exact_memorization(first).tolist() == pytest.approx([sum(r) / len(r) for r in first])


def slow_strength(row):
    """The definition, word for word: try every number of given tokens."""
    shortest = next(k for k in range(len(row) + 1) if all(row[k:]))
    return 1 - shortest / len(row)


@given(tables)
def test_extraction_strength_is_one_less_the_shortest_prefix(first):
    assert extraction_strength(first).tolist() == pytest.approx([slow_strength(r) for r in first])


def test_extraction_strength_is_0_just_if_the_last_token_is_wrong():
    rows = [[1, 1, 1, 0], [0, 0, 0, 1], [1, 1, 1, 1], [0, 1, 1, 1]]
    assert extraction_strength(rows).tolist() == [0, 0.25, 1, 0.75]


@pytest.mark.parametrize("wrong", [[True, False], np.zeros((2, 0)), np.zeros((1, 1, 1))])
def test_invalid_token_tables_are_refused(wrong):
    for measure in (greedy, exact_memorization, extraction_strength, log_p_z):
        with pytest.raises(ValueError, match="must be a table"):
            measure(wrong)


# ------------------------------------------------------------------------------- p_z
def test_p_z_is_the_product_of_the_tokens_probabilities():
    p = np.array([[0.5, 0.25, 0.1], [1.0, 1.0, 1.0]])
    assert np.exp(log_p_z(np.log(p))) == pytest.approx([0.0125, 1.0])


def test_p_z_keeps_what_float32_and_products_would_lose():
    # 1,000 tokens of e^-1 make e^-1000, far below the least float64.
    assert log_p_z(np.full((1, 1000), -1, np.float32)).tolist() == [-1000]


def test_a_token_that_is_never_drawn_makes_p_z_0_and_rounding_never_makes_it_above_1():
    assert log_p_z([[-1.0, -np.inf], [1e-7, 1e-7]]).tolist() == [-np.inf, 0.0]


def exact_n(log_p, p):
    """The smallest n with 1-(1-p_z)^n >= p, by arithmetic of 400 digits."""
    with mpmath.workdps(400):
        rate = mpmath.log(1 - mpmath.exp(mpmath.mpf(log_p)))
        return mpmath.ceil(mpmath.log(1 - mpmath.mpf(p)) / rate)


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.9, 0.999, 0.999999])
@pytest.mark.parametrize(
    "log_p",
    [-1e-12, -1e-6, -0.01, -0.3, -0.69, -0.7, -1.0, -5.0, -20.0, -26.0],
)
def test_fewest_samples_are_those_of_exact_arithmetic(log_p, p):
    assert n_samples(log_p, p) == float(exact_n(log_p, p))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.999])
@pytest.mark.parametrize("log_p", [-39.0, -39.999, -40.0, -40.001, -41.0, -100.0, -690.0, -700.0])
def test_fewest_samples_hold_their_digits_down_to_1e_300(log_p, p):
    assert n_samples(log_p, p) == pytest.approx(float(exact_n(log_p, p)), rel=1e-12)


def test_fewest_samples_at_the_ends():
    assert n_samples([0.0, -np.inf], 0.5).tolist() == [1, np.inf]
    assert n_samples(math.log(1e-300), 0.5) == pytest.approx(math.log(2) * 1e300, rel=1e-11)
    assert log10_n_samples([0.0, -np.inf], 0.5).tolist() == [0, np.inf]


def test_fewest_samples_by_hand():
    # Half: after 1, 2, 3 samples 1/2, 3/4, 7/8. A tenth: 1 - 0.9^6 = 0.469, 1 - 0.9^7 = 0.522.
    assert [float(n_samples(math.log(0.5), p)) for p in (0.5, 0.75, 0.76, 0.875)] == [1, 2, 3, 3]
    assert n_samples(math.log(0.1), 0.5) == 7


@given(st.integers(1, 60), st.integers(1, 40))
def test_one_sample_fewer_is_too_few(tenths, hundredths):
    p_z, p = Fraction(tenths, 61), Fraction(hundredths, 41)
    n = int(n_samples(math.log(p_z), float(p)))

    def reached(count):
        return 1 - (1 - p_z) ** count

    assert reached(n) >= p - Fraction(1, 10**13)
    assert n == 1 or reached(n - 1) < p + Fraction(1, 10**13)


def test_where_n_is_past_float64_its_logarithm_goes_on():
    log_p = -1000 * math.log(10)
    assert n_samples(log_p, 0.5) == np.inf
    expected = 1000 + math.log10(math.log(2))
    assert log10_n_samples(log_p, 0.5) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("log_p", [-0.001, -0.7, -5.0, -39.0, -41.0, -300.0, -690.0])
def test_the_logarithm_is_that_of_n(log_p):
    expected = math.log10(n_samples(log_p, 0.9))
    assert log10_n_samples(log_p, 0.9) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("log_p", [-0.0, -1e-9, -0.5, -3.0, -50.0, -600.0, -np.inf])
@pytest.mark.parametrize("n", [0, 1, 5, 1e6, 1e250])
def test_chance_is_that_of_exact_arithmetic(log_p, n):
    with mpmath.workdps(400):
        p_z = mpmath.exp(mpmath.mpf(log_p)) if np.isfinite(log_p) else mpmath.mpf(0)
        expected = float(1 - (1 - p_z) ** n) if n else 0.0
    assert chance(log_p, n) == pytest.approx(expected, rel=1e-12, abs=0)


@given(st.floats(-700, -1e-6), st.floats(0.001, 0.999))
def test_chance_and_fewest_samples_are_each_others_inverse(log_p, p):
    assert chance(log_p, n_samples(log_p, p)) >= p * (1 - 1e-9)


@pytest.mark.parametrize("p", [0, 1, -0.5, math.nan])
def test_a_probability_of_none_or_all_is_refused(p):
    with pytest.raises(ValueError, match="p must lie between 0 and 1"):
        n_samples(-1.0, p)


@pytest.mark.parametrize("wrong", [0.1, math.nan])
def test_positive_log_probabilities_are_refused(wrong):
    with pytest.raises(ValueError, match="at most 0"):
        n_samples([-1.0, wrong], 0.5)
    with pytest.raises(ValueError, match="at most 0"):
        chance(wrong, 1)


# ---------------------------------------------------------------- recall at so many errors
def test_recall_counts_what_is_right_before_the_last_allowed_error():
    # right wrong right wrong right: before the second error, examples 1 and 2 of 8.
    guesses, ids = [True, False, True, False, True], [1, 9, 2, 9, 3]
    assert recall_at_errors(guesses, ids, 8, max_errors=2) == 2 / 8
    assert recall_at_errors(guesses, ids, 8, max_errors=1) == 1 / 8
    assert recall_at_errors(guesses, ids, 8) == 3 / 8


def test_an_example_that_is_right_twice_counts_once():
    assert recall_at_errors([True, True, True], [4, 4, 5], 4) == 0.5


def test_at_100_errors_the_hundredth_ends_it():
    right = [False] * 99 + [True] + [False] + [True]
    assert recall_at_errors(right, range(102), 100) == 0.01


def test_no_guesses_recall_nothing():
    assert recall_at_errors([], [], 10) == 0


# ----------------------------------------------------------------------------- coverage
def slow_best(starts, ends, log_p, n):
    return [
        max((v for s, e, v in zip(starts, ends, log_p, strict=True) if s <= i < e), default=None)
        for i in range(n)
    ]


stretches = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 20), st.sampled_from([-9.0, -2.0, -0.1, -np.inf])),
    max_size=8,
)


@given(stretches)
def test_each_character_has_the_best_of_the_spans_over_it(rows):
    starts = [min(a, b) for a, b, _ in rows]
    ends = [max(a, b) for a, b, _ in rows]
    values = [v for *_, v in rows]
    best = best_log_p(np.array(starts, int), np.array(ends, int), np.array(values, float), 20)
    expected = slow_best(starts, ends, values, 20)
    assert [None if np.isnan(x) else x for x in best] == expected


@given(st.lists(st.sampled_from([np.nan, -np.inf, -5.0, math.log(0.1), -0.1, 0.0]), max_size=30))
def test_coverage_counts_characters_and_the_longest_run(best):
    found = coverage(np.array(best, float), 0.1)
    marks = "".join("x" if b >= math.log(0.1) else "." for b in best)
    runs = marks.split(".")
    assert found.n_chars == marks.count("x")
    assert found.longest_run == max(map(len, runs))
    assert found.longest_start == (marks.find("x" * found.longest_run) if "x" in marks else -1)
    if best:
        assert found.share == marks.count("x") / len(best)


def test_more_is_covered_at_a_lower_tau():
    best = np.log(np.linspace(0.001, 1, 50))
    shares = [coverage(best, tau).share for tau in (0.9, 0.5, 0.1, 0.01)]
    assert shares == sorted(shares)
    assert len(set(shares)) == 4


def test_spans_outside_the_document_are_refused():
    for start, end in (([-1], [2]), ([0], [5]), ([3], [2])):
        with pytest.raises(ValueError, match="must lie within"):
            best_log_p(start, end, [-1.0], 4)
    with pytest.raises(ValueError, match="one length"):
        best_log_p([0], [1], [-1.0, -2.0], 4)
    for tau in (0, 1.1, math.nan):
        with pytest.raises(ValueError, match="tau must be"):
            coverage([-1.0], tau)
