"""Corrected p-values, and shortlists that keep to their false discovery rate."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from attacks.statistics.false_discovery import calibrated_list, conformal_p_values
from attacks.statistics.multiplicity import benjamini_hochberg, holm

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=6)


# ------------------------------------------------------------------------------- multiplicity
@given(P_VALUES)
def test_holm_closes_bonferroni(p):
    """The definition by closed testing: a claim stands if every set of claims with it stands."""
    slow = [
        min(
            1.0,
            max(
                size * min(p[j] for j in chosen)
                for size in range(1, len(p) + 1)
                for chosen in combinations(range(len(p)), size)
                if i in chosen
            ),
        )
        for i in range(len(p))
    ]
    np.testing.assert_allclose(holm(p), slow, rtol=1e-12)


@given(P_VALUES)
def test_benjamini_hochberg_equals_scipys(p):
    np.testing.assert_allclose(benjamini_hochberg(p), false_discovery_control(p), rtol=1e-12)


@given(P_VALUES)
def test_corrected_values_are_no_smaller_and_keep_the_order(p):
    for corrected in (holm(p), benjamini_hochberg(p)):
        assert np.all(corrected >= np.array(p) * (1 - 1e-12))
        assert np.all(np.diff(corrected[np.argsort(p, kind="stable")]) >= 0)


@pytest.mark.parametrize("correct", [holm, benjamini_hochberg])
def test_what_was_not_tested_does_not_count(correct):
    with_gap = correct([0.01, np.nan, 0.04])
    assert np.isnan(with_gap[1])
    np.testing.assert_array_equal(with_gap[[0, 2]], correct([0.01, 0.04]))


@pytest.mark.parametrize("correct", [holm, benjamini_hochberg])
def test_scores_are_not_taken_for_p_values(correct):
    with pytest.raises(ValueError, match=r"p-values must lie between 0 and 1; got -3 to 0\.5"):
        correct([0.5, -3.0])


# ------------------------------------------------------------------------ conformal p-values
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=8),
    st.lists(st.integers(0, 6), min_size=1, max_size=8),
)
def test_p_value_counts_controls_that_score_as_high(candidates, controls):
    slow = [(1 + sum(c >= s for c in controls)) / (len(controls) + 1) for s in candidates]
    np.testing.assert_allclose(conformal_p_values(candidates, controls), slow)


def test_p_values_of_nonmembers_are_no_smaller_than_chance():
    rng = np.random.default_rng(0)
    p = np.array([conformal_p_values(d[:1], d[1:])[0] for d in rng.normal(size=(10_000, 20))])
    for level in (0.05, 0.1, 0.5):
        # Four standard deviations of a share of 10,000.
        assert np.mean(p <= level) <= level + 4 * np.sqrt(level * (1 - level) / 10_000)


# --------------------------------------------------------------------------------- the list
def planted(seed, n_members=40, n_others=160, n_controls=400, shift=3.0):
    """Candidates of which the first n_members are members, and controls."""
    rng = np.random.default_rng(seed)
    candidates = np.concatenate([rng.normal(shift, 1, n_members), rng.normal(0, 1, n_others)])
    return candidates, rng.normal(0, 1, n_controls)


def test_at_5_percent_at_most_6_percent_of_lists_are_false_on_average():
    shares, listed = [], []
    for seed in range(200):
        made = calibrated_list(*planted(seed), fdr=0.05)
        shares.append(np.mean(made.chosen >= 40) if len(made.chosen) else 0.0)
        listed.append(np.sum(made.chosen < 40))
    assert np.mean(shares) <= 0.06
    # The rate is not kept by listing nothing.
    assert np.mean(listed) > 20


def test_the_estimate_of_false_entries_is_near_what_long_lists_hold():
    made = [calibrated_list(*planted(seed), fdr=0.2) for seed in range(200)]
    false = np.mean([np.sum(m.chosen >= 40) for m in made])
    estimated = np.mean([m.estimated_false for m in made])
    assert estimated == pytest.approx(false, rel=0.25)
    assert all(m.estimated_false <= 0.2 * len(m.chosen) + 1e-9 for m in made)


def test_the_estimate_of_false_entries_is_low_where_lists_are_short():
    """Five members among 200: most lists are empty, and others end where few controls are above."""
    rng, false, estimated = np.random.default_rng(3), 0, 0.0
    for _ in range(400):
        scores = np.concatenate([rng.normal(3, 1, 5), rng.normal(0, 1, 195)])
        made = calibrated_list(scores, rng.normal(0, 1, 200), fdr=0.1)
        false, estimated = false + np.sum(made.chosen >= 5), estimated + made.estimated_false
    assert 0 < estimated < false


def test_without_members_lists_are_almost_always_empty():
    lists = [calibrated_list(*planted(seed, n_members=0)) for seed in range(200)]
    assert np.mean([len(made.chosen) > 0 for made in lists]) <= 0.09


def test_list_equals_the_step_up_rule_spelled_out():
    candidates, controls = planted(5)
    made = calibrated_list(candidates, controls, fdr=0.1)
    p = np.sort(made.p_values)
    below = [k for k in range(1, len(p) + 1) if p[k - 1] <= 0.1 * k / len(p)]
    assert len(made.chosen) == max(below)
    assert list(made.chosen) == sorted(made.chosen, key=lambda i: -candidates[i])


def test_too_few_controls_withhold_the_list():
    made = calibrated_list(np.full(5, 9.0), np.arange(18.0), fdr=0.05)
    assert (len(made.chosen), made.withheld) == (0, "needs 19 controls, got 18")
    assert len(calibrated_list(np.full(5, 99.0), np.arange(19.0), fdr=0.05).chosen) == 5


def test_undefined_scores_are_left_out_and_counted():
    made = calibrated_list([9.0, np.nan], [*np.arange(40.0) / 10, np.nan], fdr=0.05)
    assert (made.n_candidates, made.n_controls, made.n_undefined) == (1, 40, 2)
    assert list(made.chosen) == [0]
    assert np.isnan(made.p_values[1])


def test_invalid_input_is_refused():
    with pytest.raises(ValueError, match="1 or more controls with a defined score; got none"):
        calibrated_list([1.0], [np.nan])
    with pytest.raises(ValueError, match="1 or more candidates with a defined score; got none of"):
        calibrated_list([np.nan], [1.0])
    with pytest.raises(ValueError, match="fdr must lie between 0 and 1; got 5"):
        calibrated_list([1.0], [1.0], fdr=5)
