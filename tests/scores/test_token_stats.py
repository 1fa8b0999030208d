"""TokenStats: consistent ragged columns, and sums with empty texts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.scores.all_scores import all_scores
from attacks.scores.token_stats import RANK_UNKNOWN, TokenStats

# Eighths are exact in float32, so that sums can be compared without a tolerance.
NATS = st.integers(0, 80).map(lambda eighths: -eighths / 8)
TEXTS = st.lists(st.lists(st.one_of(st.none(), NATS), max_size=6), max_size=8)


def of(texts: list[list[float | None]]) -> TokenStats:
    """TokenStats of log-probabilities; ids and ranks tell the tokens apart."""
    ids = [[100 * i + j for j in range(len(text))] for i, text in enumerate(texts)]
    ranks = [[-1 if p is None else j for j, p in enumerate(text)] for text in texts]
    return TokenStats.from_lists(ids, texts, ranks)


def lists(stats: TokenStats) -> list[list[tuple[int, float | None, int]]]:
    """The texts back, token by token, read through nothing but offsets."""
    return [
        [
            (int(t), None if math.isnan(p) else float(p), int(r))
            for t, p, r in zip(
                stats.token_ids[a:b], stats.logprob[a:b], stats.rank[a:b], strict=True
            )
        ]
        for a, b in zip(stats.offsets[:-1], stats.offsets[1:], strict=True)
    ]


@settings(deadline=None)
@given(TEXTS)
def test_sums_and_counts_equal_a_loop_over_the_lists(texts):
    stats = of(texts)
    scored = [[p for p in text if p is not None] for text in texts]
    assert len(stats) == len(texts)
    assert stats.n_tokens().tolist() == [len(text) for text in texts]
    assert stats.n_scored().tolist() == [len(text) for text in scored]
    assert stats.total_nll().tolist() == [-math.fsum(text) for text in scored]
    mean = [-math.fsum(text) / len(text) if text else math.nan for text in scored]
    np.testing.assert_array_equal(stats.nll(), mean)


@settings(deadline=None)
@given(TEXTS, st.data())
def test_take_gives_the_texts_of_the_index(texts, data):
    stats, whole = of(texts), lists(of(texts))
    some = st.lists(st.integers(-len(texts), len(texts) - 1), max_size=10) if texts else st.just([])
    index = data.draw(some)
    assert lists(stats.take(index)) == [whole[i] for i in index]
    mask = np.array([i % 2 == 0 for i in range(len(texts))], dtype=bool)
    assert lists(stats.take(mask)) == whole[::2]
    assert lists(stats.take(slice(1, None))) == whole[1:]


@settings(deadline=None)
@given(TEXTS, TEXTS)
def test_concatenation_keeps_every_text(first, second):
    parts = [of(first), of(second)]
    joined = TokenStats.concatenate(iter(parts))
    assert lists(joined) == lists(parts[0]) + lists(parts[1])
    assert lists(joined.take(range(len(first)))) == lists(parts[0])


def test_no_parts_make_no_texts():
    none = TokenStats.concatenate([])
    assert len(none) == 0
    assert none.vocab_mean is None
    assert none.nll().shape == (0,)


def test_vocabulary_moments_go_with_their_tokens():
    plain = of([[-1.0, -2.0], [], [-3.0]])
    columns = (plain.offsets, plain.token_ids, plain.logprob, plain.rank)
    stats = TokenStats(*columns, vocab_mean=[-4, -5, -6], vocab_std=[1, 2, 3])
    taken = TokenStats.concatenate([stats.take([2, 1]), stats.take([0])])
    assert taken.vocab_mean.tolist() == [-6, -4, -5]
    assert taken.vocab_std.tolist() == [3, 1, 2]
    with pytest.raises(ValueError, match="vocab_mean must be in all parts or in none; got it in 1"):
        TokenStats.concatenate([stats, plain])


def test_columns_of_the_right_type_are_not_copied_and_others_are_converted():
    ids, logprob = np.array([1, 2], np.int32), np.array([-1, -2], np.float32)
    stats = TokenStats(np.array([0, 2], np.int32), ids, logprob, np.array([0, 1], np.int64))
    assert stats.token_ids is ids
    assert stats.logprob is logprob
    assert (stats.offsets.dtype, stats.rank.dtype) == (np.int64, np.int32)


def test_rounding_above_zero_counts_as_certain():
    total = of([[1e-7]]).total_nll()
    assert total.tolist() == [0.0]
    assert not np.signbit(total).any()


def test_unscored_tokens_are_left_out_and_broken_ones_spoil_their_text_alone():
    stats = TokenStats.from_lists(
        [[1, 2], [1, 2], [3]], [[None, -2.0], [math.nan, -2.0], [-1.0]], [[-1, 0], [0, 0], [0]]
    )
    np.testing.assert_array_equal(stats.nll(), [2.0, math.nan, 1.0])
    assert stats.n_scored().tolist() == [1, 2, 1]


def test_a_million_tokens_are_summed_in_float64():
    # 0.1 in float32 a million times: a sum in float32 would be off in its third digit.
    tenth = np.float32(-0.1)
    stats = TokenStats(
        [0, 10**6], np.zeros(10**6, int), np.full(10**6, tenth), np.zeros(10**6, int)
    )
    assert stats.total_nll()[0] == pytest.approx(-float(tenth) * 10**6, rel=1e-11)


GOOD = {"offsets": [0, 2], "token_ids": [1, 2], "logprob": [-1.0, -2.0], "rank": [0, 1]}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"offsets": []}, "offsets must hold at least a 0"),
        ({"offsets": [1, 2]}, "offsets must run from 0 to the number of tokens, 2; got 1 to 2"),
        ({"offsets": [0, 1]}, "offsets must run from 0 to the number of tokens, 2; got 0 to 1"),
        ({"offsets": [0, 2, 1, 2]}, "offsets must not decrease; got 2, 1 at text 1"),
        ({"offsets": [0.0, 2.0]}, "offsets must be whole numbers; got float64"),
        ({"token_ids": [[1, 2]]}, r"token_ids must have 1 dimension.* got shape \(1, 2\)"),
        ({"token_ids": [1, 2**31]}, "token_ids must lie between -2,147,483,648"),
        ({"logprob": [-1.0]}, "logprob must have 2 values, as token_ids has; got 1"),
        ({"logprob": [-1.0, 0.5]}, "logprob must be at most 0 .* got 0.5 at token 1"),
        ({"logprob": ["a", "b"]}, "logprob must be numbers"),
        ({"rank": [0, -3]}, "rank must be -1 .* got -3 at token 1"),
        ({"rank": [0, -1]}, "logprob must be NaN where rank is -1; got -2.0 at token 1"),
        ({"vocab_std": [1.0]}, "vocab_std must have 2 values"),
    ],
)
def test_columns_that_do_not_fit_are_refused(columns, message):
    TokenStats(**GOOD)
    with pytest.raises(ValueError, match=message):
        TokenStats(**GOOD | columns)


def test_lists_of_different_texts_are_refused():
    with pytest.raises(ValueError, match="rank must have one value per token, 3 tokens in 2 texts"):
        TokenStats.from_lists([[1, 2], [3]], [[-1, -1], [-1]], [[0], [0, 0]])


@pytest.mark.parametrize("index", [[2], [-3], [True], [0.5]])
def test_texts_that_are_not_there_are_refused(index):
    with pytest.raises(IndexError, match="index must select from the 2 texts"):
        of([[-1.0], [-2.0]]).take(index)


def test_a_token_of_unknown_rank_counts_by_its_log_probability():
    ids, nats = [[1, 2, 3], [4]], [[None, -1.0, -3.0], [-2.0]]
    known = TokenStats.from_lists(ids, nats, [[-1, 0, 7], [1]])
    unknown = TokenStats.from_lists(ids, nats, [[-1, RANK_UNKNOWN, RANK_UNKNOWN], [RANK_UNKNOWN]])
    assert unknown.n_scored().tolist() == [2, 1]
    assert unknown.total_nll().tolist() == [4.0, 2.0]
    bits = [160, 80]
    for one, other in zip(
        all_scores(known, made_for="texts", zlib_bits=bits).items(),
        all_scores(unknown, made_for="texts", zlib_bits=bits).items(),
        strict=True,
    ):
        assert one[0] == other[0]
        np.testing.assert_array_equal(one[1], other[1])
