"""Verbatim matching against a slow and obvious search."""

import tempfile
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.corpus.pieces import Piece
from auditor.corpus.text_files import Document
from auditor.errors import AuditError
from auditor.matching import ngram_filter, overlaps, spool, verbatim
from auditor.matching.byte_blocks import read_blocks
from auditor.matching.queries import count_tokens
from auditor.matching.verbatim import Match, Query, find_matches

few = settings(max_examples=150, deadline=None)


@pytest.fixture(autouse=True, scope="module")
def tiny_blocks():
    """Blocks, batches and pieces so small that every test crosses their borders."""
    patch = pytest.MonkeyPatch()
    patch.setattr(verbatim, "_BLOCK_BYTES", 16)
    patch.setattr(overlaps, "_BATCH_BYTES", 64)
    patch.setattr(overlaps, "_PIECE_BYTES", 32)
    patch.setattr(spool, "_IN_MEMORY", 200)
    yield
    patch.undo()


@contextmanager
def way(name):
    """Matches by walks or by sorted suffixes alone, with one thread or three."""
    with pytest.MonkeyPatch.context() as patch:
        if name.startswith("sort"):
            patch.setattr(overlaps, "_MAX_PAIRS", 0)
        yield {"n_threads": int(name[-1])}


ways = st.sampled_from(["walk 1", "walk 3", "sort 1", "sort 3"])


class Pieces(list):
    """Documents that can also be read in pieces of any size, cut between characters."""

    def pieces(self, size):
        for ordinal, document in enumerate(self):
            text, n = document.text, max(1, size // 4)
            cuts = range(0, max(len(text), 1), n)
            for i in cuts:
                raw = text[i : i + n].encode("utf-8", "surrogatepass")
                yield Piece(ordinal, document.doc_id, raw, i == 0, i == cuts[-1])


def documents(*texts):
    return [Document(f"d{i}", text, "") for i, text in enumerate(texts)]


def chars(text, sample_id="s"):
    """A query with one token a character."""
    return Query(sample_id, text, np.arange(1, len(text) + 1))


def occurrences(span, text):
    return [i for i in range(len(text)) if text.startswith(span, i)]


def tokens_inside(ends, start, end):
    inside = 0
    for begin, stop in zip([0, *ends], ends, strict=False):
        inside += start < begin < end if begin == stop else start <= begin and stop <= end
    return inside


def folded(text, normalize=()):
    """The text as it is compared, and for each character, and the end, its place in the text."""
    out, origins = "", []
    for i, c in enumerate(text):
        if "case" in normalize:
            c = {"İ": "İ", "ς": "σ"}.get(c, c.lower())
        if "whitespace" in normalize and c.isspace():
            c = " "
            if out.endswith(" "):
                continue
        out += c
        origins.append(i)
    return out, [*origins, len(text)]


def brute_force(queries, corpus, min_tokens, min_chars, normalize=()):
    """Try every span of every query, longest first."""
    found = []
    texts = [(d.doc_id, *folded(d.text, normalize)) for d in corpus]
    for query in queries:
        ends = list(query.token_ends)
        text, origins = folded(query.text, normalize)
        kept = []
        for length in range(len(text), 0, -1):
            for start in range(len(text) - length + 1):
                end = start + length
                if any(s <= start and end <= e for s, e in kept):
                    continue
                places = [
                    (doc_id, to_original[i])
                    for doc_id, t, to_original in texts
                    for i in occurrences(text[start:end], t)
                ]
                n_tokens = tokens_inside(ends, origins[start], origins[end])
                if places and (n_tokens >= min_tokens or length >= min_chars):
                    kept.append((start, end))
                    n_documents = len({doc_id for doc_id, _ in places})
                    counts = (n_tokens, length, n_documents, len(places))
                    span = (query.sample_id, origins[start], origins[end])
                    found.append(Match(*span, *counts, *places[0], tuple(places[:5])))
    order = [query.sample_id for query in queries]
    return sorted(found, key=lambda match: (order.index(match.sample_id), match.start))


letters = st.sampled_from(["ab", "aaaaaaaab", "abc", "aé", "éè漢🙂", "a ", "漢字"])
a_text = letters.flatmap(lambda alphabet: st.text(alphabet, max_size=60))
repetitive = st.tuples(st.text("ab-é", min_size=1, max_size=5), st.integers(1, 25)).map(
    lambda pair: (pair[0] * pair[1])[:70]
)
any_text = st.one_of(a_text, repetitive)
spaced = st.one_of(
    st.text("aA \n", max_size=60),
    st.text("aAéÉΣσςİi\u212a \t\x1c\u2003\u3000\ud800", max_size=60),
    repetitive,
)


@st.composite
def tokenized(draw, texts=any_text):
    text = draw(texts)
    ends = sorted(draw(st.lists(st.integers(0, len(text)), max_size=40)))
    return text, ends


@st.composite
def queries_and_corpus(draw, texts=any_text):
    rows = draw(st.lists(tokenized(texts), min_size=1, max_size=4))
    corpus = draw(st.lists(texts, max_size=5))
    # Pieces of the queries themselves, so that long matches are common.
    for text, _ in rows:
        if text and draw(st.booleans()):
            start = draw(st.integers(0, len(text) - 1))
            piece = text[start : draw(st.integers(start + 1, len(text)))]
            corpus.append(draw(texts) + piece + draw(texts))
    ids = draw(st.lists(st.sampled_from("pqrstuv"), min_size=len(corpus), max_size=len(corpus)))
    queries = [Query(f"s{i}", text, ends) for i, (text, ends) in enumerate(rows)]
    return queries, [Document(i, text, "") for i, text in zip(ids, corpus, strict=True)]


@few
@given(queries_and_corpus(), st.integers(1, 40), st.integers(1, 40), ways)
def test_matches_equal_brute_force(problem, min_tokens, min_chars, how):
    queries, corpus = problem
    with way(how) as options:
        got = find_matches(queries, corpus, min_tokens=min_tokens, min_chars=min_chars, **options)
    assert got == brute_force(queries, corpus, min_tokens, min_chars)


@few
@given(
    queries_and_corpus(),
    st.integers(8, 60),
    st.sampled_from([16, 50, 200, 1 << 20]),
    st.sampled_from([ngram_filter._USUAL, (ngram_filter.Gram(4, 2),), (ngram_filter.Gram(3, 1),)]),
    ways,
)
def test_every_match_of_long_minima_is_found_in_blocks_of_any_size(
    problem, minimum, block_bytes, usual, how
):
    queries, corpus = problem
    with pytest.MonkeyPatch.context() as patch, way(how) as options:
        patch.setattr(verbatim, "_BLOCK_BYTES", block_bytes)
        patch.setattr(
            ngram_filter, "_USUAL", usual
        )  # with short grams, most places are passed over
        got = find_matches(queries, Pieces(corpus), min_tokens=1000, min_chars=minimum, **options)
    assert got == brute_force(queries, corpus, 1000, minimum)


@few
@given(
    queries_and_corpus(spaced),
    st.integers(1, 30),
    st.integers(1, 30),
    st.sampled_from([("whitespace",), ("case",), ("case", "whitespace")]),
    st.booleans(),
    ways,
)
def test_normalized_matches_equal_brute_force_in_places_of_the_original(
    problem, min_tokens, min_chars, normalize, in_pieces, how
):
    queries, corpus = problem
    minima = {"min_tokens": min_tokens, "min_chars": min_chars}
    with way(how) as options:
        text = Pieces(corpus) if in_pieces else corpus
        got = find_matches(queries, text, normalize=normalize, **minima, **options)
    assert got == brute_force(queries, corpus, min_tokens, min_chars, normalize)


@few
@given(tokenized(), st.integers(0, 60), st.integers(0, 60))
def test_tokens_inside_equal_a_walk_over_the_tokens(row, start, length):
    _, ends = row
    got = count_tokens(np.array(ends, np.int64), np.array([start]), np.array([start + length]))
    assert got.tolist() == [tokens_inside(ends, start, start + length)]


@few
@given(st.lists(any_text, max_size=6), st.integers(1, 30), st.integers(1, 12))
def test_blocks_cover_every_position_once(texts, block_bytes, overlap):
    owned = {}
    for block in read_blocks(documents(*texts), block_bytes=block_bytes, overlap=overlap):
        for begin, end, ordinal in zip(block.starts, block.owned_ends, block.ordinals, strict=True):
            owned[ordinal] = owned.get(ordinal, b"") + block.raw[begin:end].tobytes()
    assert owned == {i: text.encode() for i, text in enumerate(texts)}


@pytest.mark.parametrize("unit", ["a", "-", " ", "ab", "é", "🙂"])
def test_runs_of_one_character_are_counted_exactly(unit):
    query, text = unit * 60, unit * 300
    [match] = find_matches([chars(query)], documents(text, unit * 59), min_chars=50)
    assert (match.start, match.end, match.doc_offset) == (0, len(query), 0)
    assert match.n_occurrences == len(occurrences(query, text))
    assert match.n_documents == 1


def test_a_match_counts_in_tokens_even_where_it_is_short_in_characters():
    query = Query("s", "x" + "🙂" * 12 + "y", [0] + [i for i in range(1, 14) for _ in range(3)])
    corpus = documents("🙂" * 12)
    [match] = find_matches([query], corpus, min_tokens=32, min_chars=100)
    assert (match.start, match.end, match.n_chars) == (1, 13, 12)
    assert match.n_tokens >= 32
    assert match == brute_force([query], corpus, 32, 100)[0]


def test_a_match_never_ends_inside_a_character():
    query = chars("p" * 40 + "é" + "q")
    [match] = find_matches([query], documents("p" * 40 + "è" + "q"), min_chars=30)
    assert (match.start, match.end) == (0, 40)


def test_matches_at_both_ends_of_a_query_and_queries_inside_queries_are_found():
    head, tail = (
        "The head of the sample, forty characters",
        "and its tail, which is as long as that!!",
    )
    whole = head + " something of its own " + tail
    queries = [chars(whole, "whole"), chars(head, "head"), chars(whole, "again")]
    corpus = documents(tail + "." + head, "no", head)
    got = find_matches(queries, corpus, min_chars=40)
    assert got == brute_force(queries, corpus, 32, 40)
    assert [m.sample_id for m in got] == ["whole", "whole", "head", "again", "again"]
    assert [m.n_documents for m in got] == [2, 1, 2, 2, 1]


@pytest.mark.parametrize("how", ["walk 1", "sort 1"])
def test_a_short_span_is_found_next_to_a_longer_one(how):
    rng = np.random.default_rng(5)
    dense, tail = ("".join(rng.choice(list("abcdefgh"), n)) for n in (50, 120))
    other = dense[20:] + tail
    # Of the one 40 tokens are 40 characters; of the other only 100 characters are enough.
    queries = [chars(dense, "dense"), Query("other", other, range(10, 151, 10))]
    corpus = documents("x", "#" + dense + tail[:20] + "#", other[:99])
    with way(how) as options:
        got = find_matches(queries, corpus, min_tokens=40, **options)
    assert got == brute_force(queries, corpus, 40, 100)
    assert [(m.sample_id, m.start, m.end, m.doc_offset) for m in got] == [("dense", 0, 50, 1)]


def test_documents_of_one_id_count_once():
    span = "forty characters of text, or a few more than that"
    corpus = [Document("same", span, ""), Document("other", span, ""), Document("same", span, "")]
    [match] = find_matches([chars(span)], corpus)
    assert (match.n_documents, match.n_occurrences) == (2, 3)


def test_lone_surrogates_are_matched_like_any_character():
    span = "\ud800" * 20 + "plain"
    [match] = find_matches([chars(span)], documents("z" + span), min_chars=25)
    assert (match.start, match.end, match.doc_offset) == (0, 25, 1)


def test_planted_queries_are_found_in_a_large_text():
    text = "".join(np.random.default_rng(1).choice(list("abcdefgh é"), 700_000))
    starts = [0, 262_143 - 60, 350_000, len(text) - 120]
    queries = [chars("#" + text[i : i + 120] + "#", str(i)) for i in starts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verbatim, "_BLOCK_BYTES", 1 << 18)
        got = find_matches(queries, documents("x" * 50, text, text[350_000:350_121]))
    assert [(m.start, m.end, m.doc_id, m.doc_offset) for m in got] == [
        (1, 121, "d1", i) for i in starts
    ]
    assert [m.n_documents for m in got] == [1, 1, 2, 1]


def test_queries_without_tokens_or_text_match_by_characters_or_not_at_all():
    queries = [Query("none", "", []), Query("text", "abcdefgh", [])]
    got = find_matches(queries, documents("abcdefgh"), min_tokens=1, min_chars=8)
    assert [match.sample_id for match in got] == ["text"]


def test_no_queries_and_no_documents_give_no_matches():
    assert find_matches([], documents("text")) == []
    assert find_matches([chars("a" * 200)], []) == []


def test_progress_ends_at_the_bytes_of_the_text():
    done = []
    text = "é" * 150
    find_matches([chars(text)], documents(text, "x"), progress=done.append)
    assert done == sorted(done)
    assert done[-1] == 301


def test_a_corpus_is_read_once():
    text = "forty characters of text, or a few more than that"
    [match] = find_matches([chars(text)], iter(documents("x" + text)))
    assert match.places == (("d0", 1),)


def test_five_places_are_reported_in_the_order_of_the_corpus():
    span = "forty characters of text, or a few more than that"
    [match] = find_matches([chars(span)], documents("." + span + span, *[span] * 5), min_chars=40)
    assert match.n_occurrences == 7
    assert match.places == (("d0", 1), ("d0", 50), ("d1", 0), ("d2", 0), ("d3", 0))


def test_a_span_of_spaces_is_one_space_where_the_match_begins_and_ends():
    query = Query("s", "One  \n word\t", [3, 11, 12])
    [match] = find_matches(
        [query], documents("x", "...one word \n\n."), min_chars=9, normalize=("whitespace", "case")
    )
    assert (match.start, match.end, match.n_chars, match.n_tokens) == (0, 12, 9, 3)
    assert match.places == (("d1", 3),)


def test_temporary_files_are_closed_even_if_the_corpus_fails(monkeypatch):
    opened = []

    def remember(**options):
        opened.append(spooled(**options))
        return opened[-1]

    spooled = tempfile.SpooledTemporaryFile
    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", remember)

    def breaks():
        yield from documents("a" * 400)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        find_matches([chars("a" * 200)], breaks())
    assert [file.closed for file in opened] == [True]


def test_a_full_disk_is_a_one_line_error(monkeypatch):
    class Full:
        def write(self, raw):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", lambda **options: Full())
    with pytest.raises(AuditError, match=r"does not fit into .*No space left.* Set TMPDIR"):
        find_matches([chars("a" * 200)], documents("a" * 400))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min_tokens": 0}, "min_tokens must be 1 or more; got 0"),
        ({"min_chars": -1}, "min_chars must be 1 or more; got -1"),
        ({"n_threads": 0}, "n_threads must be 1 or more; got 0"),
        ({"normalize": "cases"}, "normalize must be of whitespace and case; got 'cases'"),
    ],
)
def test_invalid_options_are_refused(change, message):
    with pytest.raises(AuditError, match=message):
        find_matches([chars("abc")], documents("abc"), **change)


@pytest.mark.parametrize("ends", [[2, 1], [4], [-1, 2], [0.5]])
def test_token_ends_that_do_not_fit_are_refused(ends):
    with pytest.raises(AuditError, match="token_ends of sample s must be integers"):
        find_matches([Query("s", "abc", ends)], documents("abc"))
