"""Span corruption: merging is the inverse, shares and lengths are those of T5."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.models.span_corruption import (
    corrupt,
    covering_spans,
    long_span,
    merge,
    random_of,
    short_spans,
)

GAPS = list(range(1000, 1200))
texts = st.lists(st.integers(0, 999), min_size=3, max_size=300)


@given(texts, st.integers(0, 2**32))
def test_corrupt_then_merge_is_the_identity(ids, seed):
    for spans in [
        short_spans(len(ids), np.random.default_rng(seed)),
        *covering_spans(len(ids), np.random.default_rng(seed), most=7),
        long_span(len(ids), 1 + seed % len(ids)),
        [],
    ]:
        shown, hidden = corrupt(ids, spans, GAPS)
        assert merge(shown, hidden, GAPS) == ids
        # Nothing that is hidden is shown.
        assert len(shown) + len(hidden) == len(ids) + 2 * len(spans) + 1


@given(st.integers(3, 600), st.integers(0, 2**32))
def test_short_spans_hide_15_percent_between_shown_tokens(n, seed):
    spans = short_spans(n, np.random.default_rng(seed))
    assert sum(b - a for a, b in spans) == max(1, round(0.15 * n))
    assert len(spans) == max(1, round(sum(b - a for a, b in spans) / 3))
    edges = [0, *(i for span in spans for i in span), n]
    assert edges == sorted(set(edges))  # every span and every shown part has a token


@given(st.integers(1, 600), st.integers(0, 2**32), st.integers(1, 100))
def test_covering_spans_hide_each_token_once(n, seed, most):
    rounds = covering_spans(n, np.random.default_rng(seed), most=most)
    hidden = [i for spans in rounds for a, b in spans for i in range(a, b)]
    assert sorted(hidden) == list(range(n))
    assert max(map(len, rounds)) <= most
    if n >= 60 and most == 100:
        assert len(rounds) == 7


def test_the_mean_length_of_covering_spans_is_3():
    rounds = covering_spans(3000, np.random.default_rng(0), most=1000)
    lengths = [b - a for spans in rounds for a, b in spans]
    assert np.mean(lengths) == pytest.approx(3, abs=0.01)
    assert len(set(lengths)) > 3


def test_spans_depend_on_the_text_and_the_seed_alone():
    first, again, other, seeded = (
        covering_spans(40, random_of(ids, seed), most=9)
        for ids, seed in (([1] * 40, 0), ([1] * 40, 0), ([1] * 39 + [2], 0), ([1] * 40, 1))
    )
    assert first == again
    assert first != other
    assert first != seeded


def test_the_long_span_is_in_the_middle():
    assert long_span(100, 50) == [(25, 75)]
    assert long_span(2, 1) == [(1, 2)]


def test_a_text_too_short_for_spans_is_refused():
    with pytest.raises(ValueError, match="at least 3"):
        short_spans(2, np.random.default_rng(0))


@pytest.mark.parametrize("hidden", [[1, 2, 1001], [1001, 2, 1002], []])
def test_merge_refuses_spans_of_another_text(hidden):
    with pytest.raises(ValueError, match="the gaps of shown"):
        merge([5, 1000, 6], hidden, GAPS)
