"""Edge cases of each membership score, and invalid input against undefined scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.scores.all_scores import TEXTS, all_scores, undefined_reasons
from attacks.scores.dc_pdd import dc_pdd, laplace
from attacks.scores.min_k import lowest, min_k, min_k_plus_plus, surp
from attacks.scores.neighbourhood import neighbourhood
from attacks.scores.recall import recall
from attacks.scores.reference_difference import reference_difference
from attacks.scores.token_stats import TokenStats
from tests.membership_texts import of, random_texts


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.floats(-50, 0, width=32), max_size=12), max_size=8),
    st.floats(0.1, 100),
)
def test_the_lowest_equal_those_of_a_sorted_list(texts, percent):
    offsets = np.concatenate([[0], np.cumsum([len(t) for t in texts])]).astype(int)
    values = np.array([v for t in texts for v in t], dtype=np.float32)
    got = lowest(values, offsets, percent=percent)
    for text, low, edge in zip(texts, got.mean, got.edge, strict=True):
        expected = sorted(text)[: max(1, int(len(text) * percent / 100))]
        assert (math.isnan(low) and math.isnan(edge)) == (not text)
        if text:
            assert low == pytest.approx(math.fsum(expected) / len(expected), abs=1e-12)
            assert edge == expected[-1]


def test_many_texts_of_one_length_are_cut_into_parts_that_do_not_mix():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2500, 1000))
    got = lowest(values.ravel(), np.arange(2501) * 1000, percent=1)
    expected = np.sort(values, axis=1)[:, :10]
    np.testing.assert_allclose(got.mean, expected.mean(axis=1), rtol=1e-12)


def test_all_of_the_tokens_of_min_k_are_the_loss():
    texts = random_texts(9)
    got = min_k(texts.target, percent=100)
    np.testing.assert_allclose(got, -texts.target.nll(), rtol=1e-12)


@pytest.mark.parametrize(("n_tokens", "n_taken"), [(1, 1), (4, 1), (5, 1), (9, 1), (10, 2)])
def test_min_k_takes_a_fifth_of_the_tokens_rounded_down_and_at_least_one(n_tokens, n_taken):
    logprobs = [-float(i) for i in range(n_tokens)]
    worst = sorted(logprobs)[:n_taken]
    assert min_k(of([range(n_tokens)], [logprobs])).tolist() == [sum(worst) / n_taken]


def test_where_the_model_is_sure_min_k_plus_plus_is_0_for_right_and_low_for_wrong():
    sure = of([[1], [2]], [[0.0], [-30.0]], [[0.0], [0.0]], [[0.0], [0.0]])
    right, wrong = min_k_plus_plus(sure)
    assert right == 0
    assert wrong == -30 / 1e-4


def test_a_text_without_surprises_is_undefined_under_surp_and_says_so():
    target = of([[1, 2], [3]], [[-1.0, -9.0], [-8.0]], [[0.1, 3.0], [0.5]], [[1, 1], [1]])
    values = all_scores(target, made_for=TEXTS)
    assert np.isnan(values["surp"]).tolist() == [True, False]
    assert undefined_reasons(values, target) == {"surp": {"text has no surprising token": 1}}


def test_surp_takes_the_unlikely_tokens_of_low_entropy_alone():
    logprob, entropy = [[-1.0, -6.0, -4.0, -5.0, -0.5]], [[0.1, 3.0, 1.9, 2.1, 0.2]]
    target = of([range(5)], logprob, entropy, [[1.0] * 5])
    assert surp(target, percent=60).tolist() == [-4.0]
    assert surp(target, percent=60, max_entropy=2.5).tolist() == [-4.5]


def test_a_text_that_suffers_more_from_the_prefix_scores_higher_under_recall():
    ids, plain = [[1, 2], [1, 2]], [[-1.0, -1.0], [-2.0, -2.0]]
    values = recall(of(ids, plain), of(ids, [[-2.0, -2.0], [-2.2, -2.2]]))
    np.testing.assert_allclose(values, [2.0, 1.1], rtol=1e-6)


def test_recall_compares_the_tokens_that_both_have():
    target = of([[1, 2, 3]], [[None, -1.0, -3.0]])
    cut = of([[1, 2]], [[-9.0, -2.0]])
    assert recall(target, cut).tolist() == [2.0]


def test_neighbours_with_nothing_scored_are_left_out():
    target = of([[1]], [[-1.0]])
    around = of([[1], [2], []], [[-4.0], [None], []])
    assert neighbourhood(target, around, [3]).tolist() == [3.0]


def test_only_the_first_place_of_a_token_counts_in_dc_pdd():
    counts = [0, 98]  # of 100 with one more of each: 1 and 99
    once = of([[0, 1]], [[-5.0, -4.0]])
    twice = of([[0, 1, 0, 1]], [[-5.0, -4.0, -0.1, -0.1]])
    assert dc_pdd(once, counts)[0] == dc_pdd(twice, counts)[0]
    by_hand = (min(math.exp(-5) * math.log(100), 0.01) + math.exp(-4) * math.log(100 / 99)) / 2
    assert dc_pdd(once, counts)[0] == pytest.approx(by_hand, rel=1e-12)


def test_a_broken_token_counts_in_dc_pdd_even_where_it_repeats_one():
    target = TokenStats([0, 2], [1, 1], [-1.0, math.nan], [0, 0])
    assert np.isnan(dc_pdd(target, [1, 1])).tolist() == [True]


def test_a_token_that_no_corpus_has_still_has_a_frequency():
    assert laplace([0, 0, 0]).tolist() == [1 / 3] * 3


def test_the_ratio_and_the_difference_to_a_reference_can_disagree():
    # L 1 against 2 (ratio 2, difference 1) and 4 against 6 (1.5 and 2).
    ids, target, other = [[1], [2]], [[-1.0], [-4.0]], [[-2.0], [-6.0]]
    scores = all_scores(of(ids, target), made_for=TEXTS, references={"r": of(ids, other)})
    assert scores["reference:r"].tolist() == [2.0, 1.5]
    assert scores["reference_difference:r"].tolist() == [1.0, 2.0]


ONE = of([[3]], [[-1.0]])
TWO = of([[3], [4]], [[-1.0], [-2.0]])
WITH = of([[3]], [[-1.0]], [[1.0]], [[1.0]])
MISTAKES = [
    (lambda: min_k(ONE, percent=0), "percent must be above 0 and at most 100; got 0"),
    (lambda: min_k(ONE, percent=101), "percent must be above 0 and at most 100; got 101"),
    (lambda: min_k_plus_plus(ONE), "needs vocab_mean and vocab_std"),
    (lambda: surp(ONE), "SURP needs vocab_mean"),
    (lambda: min_k_plus_plus(WITH, least_std=-1), "least_std must be 0 nats or more; got -1"),
    (lambda: surp(WITH, max_entropy=0), "max_entropy must be above 0 nats; got 0"),
    (lambda: recall(TWO, ONE), "conditioned must be of the target's 2 texts; got 1"),
    (lambda: recall(ONE, of([[5]], [[-1.0]])), "conditioned must hold the target's token_ids"),
    (lambda: recall(ONE, of([[3, 3]], [[-1.0, -1.0]])), "conditioned must hold the target's"),
    (lambda: recall(TWO, of([[3, 4], []], [[-1.0, -1.0], []])), "conditioned must hold the"),
    (lambda: neighbourhood(ONE, TWO, [1]), "add up to the 2 neighbours; got 1 that add up to 1"),
    (lambda: neighbourhood(ONE, TWO, [1, 1]), "n_neighbours must be 1 counts"),
    (lambda: neighbourhood(TWO, TWO, [3, -1]), "n_neighbours must be 2 counts"),
    (lambda: dc_pdd(ONE, [1, 1]), "counts must cover every token, here up to 3; got 2"),
    (lambda: dc_pdd(ONE, [1.5] * 9), "counts must be whole numbers"),
    (lambda: dc_pdd(ONE, [-1] * 9), "counts must be whole numbers"),
    (lambda: dc_pdd(ONE, np.empty(0, int)), "counts must be whole numbers"),
    (lambda: dc_pdd(ONE, [1] * 9, cap=0), "cap must be above 0 nats; got 0"),
    (lambda: reference_difference(TWO, ONE), "reference must be of the target's 2 texts; got 1"),
    (lambda: all_scores(ONE, made_for=TEXTS, neighbours=ONE), "n_neighbours must be given"),
    (lambda: all_scores(ONE, made_for=TEXTS, other_tokenizer={"x"}), "other_tokenizer must name"),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES)
def test_invalid_input_is_distinguished_from_undefined_scores(mistake, message):
    with pytest.raises(ValueError, match=message):
        mistake()
