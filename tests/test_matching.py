"""Verbatim matching against a slow and obvious search."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.corpora import matching, overlaps
from auditor.corpora.blocks import read_blocks
from auditor.corpora.formats import Document
from auditor.corpora.matching import Match, Needle, find_matches
from auditor.corpora.needles import count_tokens
from auditor.errors import AuditError

few = settings(max_examples=150, deadline=None)


@pytest.fixture(autouse=True, scope="module")
def tiny_blocks():
    """Blocks, batches and pieces so small that every test crosses their borders."""
    patch = pytest.MonkeyPatch()
    patch.setattr(matching, "_BLOCK_BYTES", 16)
    patch.setattr(overlaps, "_BATCH_BYTES", 64)
    patch.setattr(overlaps, "_PIECE_BYTES", 32)
    yield
    patch.undo()


def documents(*texts):
    return [Document(f"d{i}", text, "") for i, text in enumerate(texts)]


def chars(text, sample_id="s"):
    """A needle with one token a character."""
    return Needle(sample_id, text, np.arange(1, len(text) + 1))


def occurrences(span, text):
    return [i for i in range(len(text)) if text.startswith(span, i)]


def tokens_inside(ends, start, end):
    inside = 0
    for begin, stop in zip([0, *ends], ends, strict=False):
        inside += start < begin < end if begin == stop else start <= begin and stop <= end
    return inside


def brute_force(needles, corpus, min_tokens, min_chars):
    """Try every span of every needle, longest first."""
    found = []
    for needle in needles:
        text, ends = needle.text, list(needle.token_ends)
        kept = []
        for length in range(len(text), 0, -1):
            for start in range(len(text) - length + 1):
                end = start + length
                if any(s <= start and end <= e for s, e in kept):
                    continue
                places = [(d, i) for d in corpus for i in occurrences(text[start:end], d.text)]
                n_tokens = tokens_inside(ends, start, end)
                if places and (n_tokens >= min_tokens or length >= min_chars):
                    kept.append((start, end))
                    n_documents = len({d.doc_id for d, _ in places})
                    counts = (n_tokens, length, n_documents, len(places))
                    where = (places[0][0].doc_id, places[0][1])
                    found.append(Match(needle.sample_id, start, end, *counts, *where))
    order = [needle.sample_id for needle in needles]
    return sorted(found, key=lambda match: (order.index(match.sample_id), match.start))


letters = st.sampled_from(["ab", "aaaaaaaab", "abc", "aé", "éè漢🙂", "a ", "漢字"])
a_text = letters.flatmap(lambda alphabet: st.text(alphabet, max_size=60))
repetitive = st.tuples(st.text("ab-é", min_size=1, max_size=5), st.integers(1, 25)).map(
    lambda pair: (pair[0] * pair[1])[:70]
)
any_text = st.one_of(a_text, repetitive)


@st.composite
def tokenized(draw):
    text = draw(any_text)
    ends = sorted(draw(st.lists(st.integers(0, len(text)), max_size=40)))
    return text, ends


@st.composite
def needles_and_corpus(draw):
    rows = draw(st.lists(tokenized(), min_size=1, max_size=4))
    corpus = draw(st.lists(any_text, max_size=5))
    # Pieces of the needles themselves, so that long matches are common.
    for text, _ in rows:
        if text and draw(st.booleans()):
            start = draw(st.integers(0, len(text) - 1))
            piece = text[start : draw(st.integers(start + 1, len(text)))]
            corpus.append(draw(any_text) + piece + draw(any_text))
    ids = draw(st.lists(st.sampled_from("pqrstuv"), min_size=len(corpus), max_size=len(corpus)))
    needles = [Needle(f"s{i}", text, ends) for i, (text, ends) in enumerate(rows)]
    return needles, [Document(i, text, "") for i, text in zip(ids, corpus, strict=True)]


@few
@given(needles_and_corpus(), st.integers(1, 40), st.integers(1, 40))
def test_matches_equal_brute_force(problem, min_tokens, min_chars):
    needles, corpus = problem
    got = find_matches(needles, corpus, min_tokens=min_tokens, min_chars=min_chars)
    assert got == brute_force(needles, corpus, min_tokens, min_chars)


@few
@given(needles_and_corpus(), st.integers(8, 34), st.sampled_from([16, 50, 200, 1 << 20]))
def test_every_match_of_long_minima_is_found_in_blocks_of_any_size(problem, minimum, block_bytes):
    needles, corpus = problem
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "_BLOCK_BYTES", block_bytes)
        got = find_matches(needles, corpus, min_tokens=1000, min_chars=minimum)
    assert got == brute_force(needles, corpus, 1000, minimum)


@few
@given(tokenized(), st.integers(0, 60), st.integers(0, 60))
def test_tokens_inside_equal_a_walk_over_the_tokens(row, start, length):
    _, ends = row
    got = count_tokens(np.array(ends, np.int64), np.array([start]), np.array([start + length]))
    assert got.tolist() == [tokens_inside(ends, start, start + length)]


@few
@given(st.lists(any_text, max_size=6), st.integers(1, 30), st.integers(1, 12))
def test_blocks_own_every_place_once(texts, block_bytes, overlap):
    owned = {}
    for block in read_blocks(documents(*texts), block_bytes=block_bytes, overlap=overlap):
        for begin, end, ordinal in zip(block.starts, block.owned_ends, block.ordinals, strict=True):
            owned[ordinal] = owned.get(ordinal, b"") + block.raw[begin:end].tobytes()
    assert owned == {i: text.encode() for i, text in enumerate(texts)}


@pytest.mark.parametrize("unit", ["a", "-", " ", "ab", "é", "🙂"])
def test_runs_of_one_thing_are_counted_exactly(unit):
    needle, text = unit * 60, unit * 300
    [match] = find_matches([chars(needle)], documents(text, unit * 59), min_chars=50)
    assert (match.start, match.end, match.doc_offset) == (0, len(needle), 0)
    assert match.n_occurrences == len(occurrences(needle, text))
    assert match.n_documents == 1


def test_a_match_counts_in_tokens_even_where_it_is_short_in_characters():
    needle = Needle("s", "x" + "🙂" * 12 + "y", [0] + [i for i in range(1, 14) for _ in range(3)])
    corpus = documents("🙂" * 12)
    [match] = find_matches([needle], corpus, min_tokens=32, min_chars=100)
    assert (match.start, match.end, match.n_chars) == (1, 13, 12)
    assert match.n_tokens >= 32
    assert match == brute_force([needle], corpus, 32, 100)[0]


def test_a_match_never_ends_inside_a_character():
    needle = chars("p" * 40 + "é" + "q")
    [match] = find_matches([needle], documents("p" * 40 + "è" + "q"), min_chars=30)
    assert (match.start, match.end) == (0, 40)


def test_matches_at_both_ends_of_a_needle_and_needles_inside_needles_are_found():
    head, tail = (
        "The head of the sample, forty characters",
        "and its tail, which is as long as that!!",
    )
    whole = head + " something of its own " + tail
    needles = [chars(whole, "whole"), chars(head, "head"), chars(whole, "again")]
    corpus = documents(tail + "." + head, "no", head)
    got = find_matches(needles, corpus, min_chars=40)
    assert got == brute_force(needles, corpus, 32, 40)
    assert [m.sample_id for m in got] == ["whole", "whole", "head", "again", "again"]
    assert [m.n_documents for m in got] == [2, 1, 2, 2, 1]


def test_documents_of_one_id_count_once():
    span = "forty characters of text, or a few more than that"
    corpus = [Document("same", span, ""), Document("other", span, ""), Document("same", span, "")]
    [match] = find_matches([chars(span)], corpus)
    assert (match.n_documents, match.n_occurrences) == (2, 3)


def test_lone_surrogates_are_matched_like_any_character():
    span = "\ud800" * 20 + "plain"
    [match] = find_matches([chars(span)], documents("z" + span), min_chars=25)
    assert (match.start, match.end, match.doc_offset) == (0, 25, 1)


def test_planted_needles_are_found_in_a_large_text():
    text = "".join(np.random.default_rng(1).choice(list("abcdefgh é"), 700_000))
    starts = [0, 262_143 - 60, 350_000, len(text) - 120]
    needles = [chars("#" + text[i : i + 120] + "#", str(i)) for i in starts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "_BLOCK_BYTES", 1 << 18)
        got = find_matches(needles, documents("x" * 50, text, text[350_000:350_121]))
    assert [(m.start, m.end, m.doc_id, m.doc_offset) for m in got] == [
        (1, 121, "d1", i) for i in starts
    ]
    assert [m.n_documents for m in got] == [1, 1, 2, 1]


def test_needles_without_tokens_or_text_match_by_characters_or_not_at_all():
    needles = [Needle("none", "", []), Needle("text", "abcdefgh", [])]
    got = find_matches(needles, documents("abcdefgh"), min_tokens=1, min_chars=8)
    assert [match.sample_id for match in got] == ["text"]


def test_no_needles_and_no_documents_give_no_matches():
    assert find_matches([], documents("text")) == []
    assert find_matches([chars("a" * 200)], []) == []


def test_progress_ends_at_the_bytes_of_both_passes():
    done = []
    text = "é" * 150
    find_matches([chars(text)], documents(text, "x"), progress=done.append)
    assert done == sorted(done)
    assert done[-1] == 2 * 301


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min_tokens": 0}, "min_tokens must be 1 or more; got 0"),
        ({"min_chars": -1}, "min_chars must be 1 or more; got -1"),
    ],
)
def test_minima_below_one_are_refused(change, message):
    with pytest.raises(AuditError, match=message):
        find_matches([chars("abc")], documents("abc"), **change)


def test_a_corpus_that_can_be_read_only_once_is_refused():
    with pytest.raises(AuditError, match="read twice"):
        find_matches([chars("abc")], iter(documents("abc")))


@pytest.mark.parametrize("ends", [[2, 1], [4], [-1, 2], [0.5]])
def test_token_ends_that_do_not_fit_are_refused(ends):
    with pytest.raises(AuditError, match="token_ends of sample s must be whole numbers"):
        find_matches([Needle("s", "abc", ends)], documents("abc"))
