"""Scores of a reference matrix: against hand computation, simulation and known mistakes."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from attacks.statistics.reference_matrix import (
    ReferenceMatrix,
    attack_r,
    counterfactual_memorization,
    flip_rate,
    influence,
    lira,
    rmia,
)

N_TEXTS, N_MODELS = 400, 16


def halves(rng, n=N_TEXTS, models=N_MODELS):
    """Each model IN for exactly half of the texts."""
    return np.array([rng.permutation(n) < n // 2 for _ in range(models)]).T


def pool(seed=0, gain=1.0, models=N_MODELS):
    """A matrix, a target and its labels: text difficulty + gain for members + noise."""
    rng = np.random.default_rng(seed)
    level = rng.normal(-3, 1, N_TEXTS)[:, None]
    is_in = halves(rng, models=models + 1)
    values = level + gain * is_in + rng.normal(0, 1, is_in.shape)
    return ReferenceMatrix(values[:, 1:], is_in[:, 1:]), values[:, 0], is_in[:, 0]


def offline(matrix, target):
    """Every score that must not use the models trained on a text."""
    rng = np.random.default_rng(9)
    others = ReferenceMatrix(rng.normal(-3, 1, (50, 8)), np.zeros((50, 8), bool))
    return {
        "lira": lira(target, matrix),
        "rmia": rmia(target, matrix, rng.normal(-3, 1, 50), others),
        "attack_r": attack_r(target, matrix),
    }


def test_statistics_of_the_models_in_leave_offline_scores_alone():
    matrix, target, _ = pool()
    gone = ReferenceMatrix(np.where(matrix.is_in, np.nan, matrix.statistics), matrix.is_in)
    for name, values in offline(matrix, target).items():
        np.testing.assert_array_equal(offline(gone, target)[name], values, err_msg=name)
    assert not np.array_equal(lira(target, matrix, online=True), lira(target, gone, online=True))


def test_a_permutation_of_the_models_changes_nothing():
    matrix, target, _ = pool()
    order = np.random.default_rng(1).permutation(N_MODELS)
    mixed = ReferenceMatrix(matrix.statistics[:, order], matrix.is_in[:, order])
    for name, values in offline(matrix, target).items():
        np.testing.assert_allclose(offline(mixed, target)[name], values, rtol=1e-12, err_msg=name)
    online = (lira(target, m, online=True) for m in (matrix, mixed))
    np.testing.assert_allclose(*online, rtol=1e-9)


def test_offline_scores_are_one_sided():
    """A text far below the mean of the models OUT is the least likely member, not the likeliest."""
    matrix, _, _ = pool()
    mean = matrix.side(False)[0]
    low, middle, high = (offline(matrix, mean + shift) for shift in (-5.0, 0.0, 5.0))
    for name in low:
        assert (low[name] <= middle[name]).all(), name
        assert (middle[name] <= high[name]).all(), name
        assert low[name].mean() < high[name].mean(), name


def test_lira_is_the_tail_of_a_normal_distribution_by_hand():
    values = [[0.0, 1.0, 2.0, 5.0], [3.0, 4.0, 8.0, 9.0]]
    is_in = [[False, False, False, True], [False, False, True, True]]
    # Pooled: (1 + 0 + 1 + 0.25 + 0.25) / (2 + 1).
    sigma = math.sqrt(2.5 / 3)
    found = lira([2.0, 3.0], ReferenceMatrix(values, is_in))
    expected = [-math.log(stats.norm.sf((x - m) / sigma)) for x, m in ((2.0, 1.0), (3.0, 3.5))]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_online_lira_uses_each_sides_own_variance():
    values = [[0.0, 2.0, 10.0, 14.0]]
    is_in = [[False, False, True, True]]
    (found,) = lira([3.0], ReferenceMatrix(values, is_in), online=True)
    expected = stats.norm.logpdf(3, 12, math.sqrt(8)) - stats.norm.logpdf(3, 1, math.sqrt(2))
    assert found == pytest.approx(expected, rel=1e-12)


def test_with_many_models_each_text_has_its_own_variance():
    rng = np.random.default_rng(2)
    values = rng.normal(0, 1, (2, 130)) * [[1.0], [10.0]]
    is_in = np.tile([True, False], 65)[None].repeat(2, axis=0)
    found = lira([5.0, 5.0], ReferenceMatrix(values, is_in))
    out = values[:, ~is_in[0]]
    expected = -stats.norm.logsf(5.0, out.mean(axis=1), out.std(axis=1, ddof=1))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_gaussian_texts_reach_the_auc_that_theory_gives():
    """Equal variances and a gain of d: AUC = Phi(d / sqrt 2) with many models."""
    gain = 1.5
    matrix, target, labels = pool(seed=3, gain=gain, models=200)
    expected = stats.norm.cdf(gain / math.sqrt(2))
    for online in (False, True):
        found = roc_auc_score(labels, lira(target, matrix, online=online))
        assert found == pytest.approx(expected, abs=0.05)  # 2 standard errors of 200 a side
    assert roc_auc_score(labels, target) < expected - 0.05  # the statistic alone is confounded


def test_a_target_that_saw_nothing_has_an_auc_of_one_half():
    matrix, target, labels = pool(seed=4, gain=0.0)
    for name, values in offline(matrix, target).items():
        assert roc_auc_score(labels, values) == pytest.approx(0.5, abs=0.06), name


def test_rmia_with_a_small_a_decays_to_the_loss():
    """p is far below 1, so the constant (1 - a) / 2 dominates: the order is the target's alone."""
    rng = np.random.default_rng(5)
    out = ReferenceMatrix(rng.normal(-6, 1, (100, 8)), np.zeros((100, 8), bool))
    target = rng.normal(-6, 1, 100)
    zs = ReferenceMatrix(rng.normal(-6, 1, (300, 8)), np.zeros((300, 8), bool))
    given = (target, out, rng.normal(-6, 1, 300), zs)
    assert stats.spearmanr(rmia(*given, a=0.3), target).statistic > 0.999
    assert stats.spearmanr(rmia(*given), target).statistic < 0.98


def test_rmia_counts_pairs_by_brute_force():
    rng = np.random.default_rng(6)
    matrix = ReferenceMatrix(rng.normal(-2, 1, (20, 6)), halves(rng, 20, 6))
    zs = ReferenceMatrix(rng.normal(-2, 1, (30, 6)), halves(rng, 30, 6))
    x, z = rng.normal(-2, 1, 20), rng.normal(-2, 1, 30)

    def ratio(own, m, i):
        out = np.exp(m.statistics[i][~m.is_in[i]])
        return math.exp(own[i]) / out.mean()

    expected = [
        np.mean([ratio(x, matrix, i) / ratio(z, zs, j) >= 2.0 for j in range(30)])
        for i in range(20)
    ]
    np.testing.assert_allclose(rmia(x, matrix, z, zs, gamma=2.0), expected, atol=1e-12)


def test_a_lookup_table_memorizes_unique_texts_and_not_those_with_a_twin_in_every_half():
    rng = np.random.default_rng(7)
    unique = halves(rng, 10, 40)
    accuracy = np.concatenate([unique.astype(float), np.ones((10, 40))])
    is_in = np.concatenate([unique, halves(rng, 10, 40)])
    found, error = counterfactual_memorization(ReferenceMatrix(accuracy, is_in))
    assert found[:10].tolist() == [1.0] * 10
    assert found[10:].tolist() == [0.0] * 10
    assert error.tolist() == [0.0] * 20


def test_the_standard_error_covers_the_true_difference():
    rng = np.random.default_rng(8)
    is_in = halves(rng, 2000, 16)
    found, error = counterfactual_memorization(
        ReferenceMatrix(0.3 * is_in + rng.normal(0, 0.2, is_in.shape), is_in)
    )
    covered = np.abs(found - 0.3) < stats.t.ppf(0.975, 14) * error
    assert covered.mean() > 0.93


def test_influence_is_the_difference_between_models_by_a_loop():
    rng = np.random.default_rng(10)
    is_in = halves(rng, 12, 10)
    values = rng.normal(size=(12, 10))
    values[3, 4] = np.nan
    found = influence(ReferenceMatrix(values, is_in), range(12), range(12))
    for i in range(12):
        for j in range(12):
            sides = [np.nanmean(values[j][is_in[i] == side]) for side in (True, False)]
            assert found[i, j] == pytest.approx(sides[0] - sides[1])


def test_the_flip_rate_counts_pairs_of_models_that_disagree():
    rng = np.random.default_rng(11)
    verdicts = rng.integers(0, 2, (30, 7)).astype(float)
    verdicts[0, 2] = np.nan
    for row, found in zip(verdicts, flip_rate(verdicts), strict=True):
        known = row[~np.isnan(row)]
        pairs = [a != b for i, a in enumerate(known) for b in known[i + 1 :]]
        assert found == pytest.approx(np.mean(pairs))
    assert np.isnan(flip_rate([[1.0, np.nan]])).all()


def test_a_side_without_models_is_undefined():
    matrix = ReferenceMatrix([[1.0, 2.0], [1.0, 2.0]], [[True, True], [False, True]])
    assert np.isnan(lira([3.0, 3.0], matrix)).tolist() == [True, True]  # no variance at all
    assert np.isnan(attack_r([3.0, 3.0], matrix)).tolist() == [True, False]
    with pytest.raises(ValueError, match="for each of the 2 texts; got 1"):
        attack_r([3.0], matrix)
    with pytest.raises(ValueError, match="must have one shape"):
        ReferenceMatrix([[1.0]], [[True, False]])
