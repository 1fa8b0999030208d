"""The compiled search against a plain walk, and against the same in numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.matching import ngram_filter
from auditor.matching.byte_blocks import PADDING, pad
from auditor.matching.ngram_filter import Gram, GramIndex, choose_gram, choose_stride, hash_grams

few = settings(max_examples=150, deadline=None)
some_grams = st.builds(Gram, st.sampled_from([1, 3, 7, 8, 11, 16, 24, 27]), st.integers(1, 16))
texts = st.one_of(st.binary(max_size=200), st.text("ab", max_size=200).map(str.encode))


def index_of(known, length):
    raw = pad(b"".join(known))
    return GramIndex(hash_grams(raw, 0, len(known), length, length))


@few
@given(texts, some_grams, st.data())
def test_hits_are_the_known_grams_at_multiples_of_the_stride(text, gram, data):
    length = gram.length
    every = sorted({text[i : i + length] for i in range(len(text) - length + 1)})
    known = data.draw(st.lists(st.sampled_from(every), unique=True)) if every else []
    # One that the text hardly ever holds.
    held = [*known, bytes(range(200, 200 + length))] if known else []
    index = index_of(held, length) if held else GramIndex(np.zeros(0, np.uint64))
    positions, numbers = index.find(pad(text), gram)
    places = range(0, len(text) - length + 1, gram.stride)
    assert positions.tolist() == [i for i in places if text[i : i + length] in held]
    for position, number in zip(positions, numbers, strict=True):
        one = pad(text[position : position + length])
        assert index.values[number] == hash_grams(one, 0, 1, 1, length)[0]


@few
@given(st.integers(1, 300))
def test_a_gram_fits_into_the_shortest_span_at_any_offset(shortest):
    gram = choose_gram(shortest)
    for begin in range(gram.stride):
        first = -(-begin // gram.stride) * gram.stride
        assert first + gram.length <= begin + shortest


def stretches(known, text):
    """Maximal [begin, end) of the text that stand in some known text, by trying all."""
    found = []
    for begin in range(len(text)):
        end = max((e for e in range(begin, len(text) + 1) if text[begin:e] in known), default=begin)
        if not found or end > found[-1][1]:
            found.append((begin, end))
    return found


@few
@given(st.data(), st.sampled_from([1, 3, 8]), st.integers(1, 4), st.integers(2, 5))
def test_of_long_known_texts_no_hit_is_left_out(data, length, stride, every):
    gram = Gram(length, stride)
    text, known = (data.draw(st.text("ab", max_size=90).map(str.encode)) for _ in range(2))
    begin = data.draw(st.integers(0, len(known)))
    text += known[begin : data.draw(st.integers(begin, len(known)))]
    text += data.draw(st.text("abc", max_size=30)).encode()
    raw = pad(known)
    n_grams = max(0, len(known) - length + 1)
    index = GramIndex(hash_grams(raw, 0, n_grams, 1, length))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngram_filter, "_FEW", data.draw(st.sampled_from([0, 1, 64])))
        everywhere = set(zip(*(a.tolist() for a in index.find(pad(text), gram)), strict=True))
        places, numbers = index.find(pad(text), gram, every=every)
    assert places.tolist() == sorted(set(places.tolist()))
    told = set(zip(places.tolist(), numbers.tolist(), strict=True))
    long = [(b, e) for b, e in stretches(known, text) if e - b >= length + every * stride - 1]
    assert told <= everywhere
    assert told >= {h for h in everywhere if any(b <= h[0] <= e - length for b, e in long)}


@few
@given(st.integers(1, 300))
def test_no_span_is_missed_by_sparse_lookups(shortest):
    gram = choose_gram(shortest)
    step = choose_stride(gram, shortest) * gram.stride
    for begin in range(step):
        assert -(-begin // step) * step + gram.length <= begin + shortest


@few
@given(st.lists(st.integers(0, 30) | st.integers(0, 2**64 - 1), max_size=300))
def test_hashes_are_numbered_in_their_order_and_each_once(given_hashes):
    hashes = np.array(given_hashes, dtype=np.uint64)
    index = GramIndex(hashes)
    wanted = sorted(set(given_hashes))
    assert index.values.tolist() == wanted
    assert index.numbers(hashes).tolist() == [wanted.index(h) for h in given_hashes]
    for number, value in enumerate(wanted):
        top = value >> int(index._begin_shift)
        begin, end = index._begins[top : top + 2]
        assert begin <= number < end


def in_numpy(index, raw, gram):
    """What `GramIndex.find` gives, by a search in the sorted hashes for every gram."""
    n = max(0, (len(raw) - PADDING - gram.length) // gram.stride + 1)
    ids = index.numbers(hash_grams(raw, 0, n, gram.stride, gram.length))
    at = np.flatnonzero(ids >= 0)
    return at * gram.stride, ids[at]


@pytest.mark.parametrize("gram", [Gram(24, 16), Gram(16, 8), Gram(8, 3), Gram(3, 1)])
def test_the_compiled_search_gives_what_numpy_gives(gram):
    rng = np.random.default_rng(5)
    text = rng.integers(97, 101, 40_000, dtype=np.uint8).tobytes()
    raw = pad(text)
    index = GramIndex(hash_grams(raw, 0, 9000, 1, gram.length))
    assert np.array_equal(index.values, np.unique(hash_grams(raw, 0, 9000, 1, gram.length)))
    for found, wanted in zip(index.find(raw, gram), in_numpy(index, raw, gram), strict=True):
        assert np.array_equal(found, wanted)


def test_a_large_index_finds_all_of_its_grams_and_no_others():
    rng = np.random.default_rng(3)
    text, other = (rng.integers(97, 123, 60_000, dtype=np.uint8).tobytes() for _ in range(2))
    raw = pad(text)
    index = GramIndex(hash_grams(raw, 0, len(text) - 23, 1, 24))
    positions, numbers = index.find(raw, Gram(24, 1))
    assert positions.tolist() == list(range(len(text) - 23))
    assert len(set(numbers.tolist())) == len(index) == len(text) - 23
    assert index.find(pad(other), Gram(24, 1))[0].tolist() == []
