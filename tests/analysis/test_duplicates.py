"""Duplicates: the fast form agrees with the rule as written, for any texts and any order."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.analysis import duplicates
from reports.analysis.duplicates import Trigrams, mark_duplicates, select, words


def trigram_counts(text):
    """tri(s) of Carlini et al. 2021, section 6.1; shorter texts are padded."""
    found = words(text)
    padded = [""] * (3 - len(found)) + found
    return Counter(zip(padded, padded[1:], padded[2:], strict=False))


def is_duplicate(text, of):
    """Whether half of a text's trigrams are in another: |tri(s1) ∩ tri(s2)| >= |tri(s1)| / 2."""
    mine = trigram_counts(text)
    return 2 * (mine & trigram_counts(of)).total() >= mine.total()


TEXTS = st.lists(
    st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=14).map(" ".join), max_size=12
)


def slow_select(texts, order, top):
    chosen, n_skipped = [], 0
    for index in order:
        if len(chosen) == top:
            break
        if any(is_duplicate(texts[index], of=texts[kept]) for kept in chosen):
            n_skipped += 1
        else:
            chosen.append(index)
    return chosen, n_skipped


def slow_mark(texts, order):
    first, kept = [-1] * len(texts), []
    for index in order:
        of = next((k for k in kept if is_duplicate(texts[index], of=texts[k])), None)
        if of is None:
            kept.append(index)
        else:
            first[index] = of
    return first


def test_the_papers_example_has_two_trigrams_each_twice():
    counts = trigram_counts("my name my name my name")
    assert counts == Counter({("my", "name", "my"): 2, ("name", "my", "name"): 2})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one,two;three", ["one", "two", "three"]),
        ("  a\tb\nc\u2003d ", ["a", "b", "c", "d"]),
        ("don’t — “stop”", ["don", "t", "stop"]),
        ("snake_case $5 a+b", ["snake", "case", "5", "a", "b"]),
        ("नमस्ते दुनिया।", ["नमस्ते", "दुनिया"]),  # vowel signs belong to their word
        ("Case counts", ["Case", "counts"]),
        ("!?.", []),
    ],
)
def test_words_are_split_at_whitespace_and_punctuation(text, expected):
    assert words(text) == expected


def test_duplication_is_not_symmetric():
    excerpt, book = "a b c d", "x a b c y z w v u"
    assert is_duplicate(excerpt, of=book)
    assert not is_duplicate(book, of=excerpt)
    trigrams = Trigrams.from_texts([excerpt, book])
    # The book first: the excerpt repeats it. The excerpt first: both are kept.
    assert select(trigrams, [1, 0], 2).chosen.tolist() == [1]
    assert select(trigrams, [0, 1], 2).chosen.tolist() == [0, 1]


def test_half_of_the_trigrams_is_enough_and_less_is_not():
    four = "a b c d e f"  # trigrams abc bcd cde def
    assert is_duplicate(four, of="a b c d")  # shares 2 of 4
    assert not is_duplicate(four, of="a b c")  # shares 1 of 4


def test_multiplicity_counts():
    often = "a b c a b c a b c a b c"  # abc 4, bca 3, cab 3
    assert not is_duplicate(often, of="a b c a b")  # shares abc, bca, cab once each: 3 of 10
    assert is_duplicate("a b c a b", of=often)


@pytest.mark.parametrize("texts", [["", "!", "a"], ["a b", "b a"], ["a", "a a"], ["a", "x a y"]])
def test_short_texts_with_different_words_are_not_duplicates(texts):
    assert (mark_duplicates(Trigrams.from_texts(texts[1:]), np.arange(len(texts) - 1)) == -1).all()
    assert not is_duplicate(texts[-1], of=texts[0])


def test_short_texts_with_the_same_words_are_duplicates():
    texts = ["hello world", "hello, world!", "", "..."]
    assert mark_duplicates(Trigrams.from_texts(texts), np.arange(4)).tolist() == [-1, 0, -1, 2]


@given(TEXTS, st.randoms(use_true_random=False), st.integers(1, 5))
def test_fast_selection_equals_counters(texts, random, top):
    order = random.sample(range(len(texts)), k=len(texts))
    fast = select(Trigrams.from_texts(texts), np.array(order, dtype=int), top)
    assert (fast.chosen.tolist(), fast.n_skipped) == slow_select(texts, order, top)


@given(TEXTS, st.randoms(use_true_random=False))
def test_fast_marks_equal_counters(texts, random):
    order = random.sample(range(len(texts)), k=random.randint(0, len(texts)))
    fast = mark_duplicates(Trigrams.from_texts(texts), np.array(order, dtype=int))
    assert fast.tolist() == slow_mark(texts, order)


@given(TEXTS)
def test_totals_count_every_trigram(texts):
    expected = [trigram_counts(text).total() for text in texts]
    assert Trigrams.from_texts(texts).totals.tolist() == expected


@settings(deadline=None)
@given(TEXTS)
def test_codes_stay_exact_when_three_words_do_not_fit_one_integer(texts):
    ids, lengths, _ = duplicates._word_ids(texts)
    # A vocabulary of which three ids need more than 63 bits takes the other way of coding.
    packed = duplicates._trigram_keys(ids, lengths, 10)
    paired = duplicates._trigram_keys(ids, lengths, 2**22)
    same_packed = packed[:, None] == packed
    assert np.array_equal(same_packed, paired[:, None] == paired)


def test_reading_postings_in_parts_changes_nothing(monkeypatch):
    texts = ["a b c d e f"] * 5 + ["d e f a b c d"] * 5
    whole = [Trigrams.from_texts(texts).duplicates_of(i).tolist() for i in range(10)]
    monkeypatch.setattr(duplicates, "_SWEEP", 3)
    assert [Trigrams.from_texts(texts).duplicates_of(i).tolist() for i in range(10)] == whole
    assert whole[0] == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_texts_are_read_once():
    assert len(Trigrams.from_texts(text for text in ["a b c", "d"])) == 2


def test_hostile_characters_form_ordinary_words():
    texts = ["\ud800 \x00 \u202e x", "\ud800 \x00 \u202e x"]
    assert mark_duplicates(Trigrams.from_texts(texts), np.arange(2)).tolist() == [-1, 0]
