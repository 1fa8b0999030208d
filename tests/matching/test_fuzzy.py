"""Fuzzy matching against a search that tries every stretch and every window."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.corpus.pieces import cut, to_pieces
from auditor.corpus.text_files import Document
from auditor.errors import AuditError
from auditor.matching import fuzzy
from auditor.matching.fuzzy import FuzzyMatch, find_fuzzy
from auditor.matching.queries import Query

few = settings(max_examples=200, deadline=None)


def brute_force(query, corpus, min_words):
    """Longest stretch first; then documents, windows and stretches in their order."""
    sample = list(re.finditer(r"\w+", query.text))
    words = [word.group() for word in sample]
    for m in range(len(words), min_words - 1, -1):
        for document in corpus:
            theirs = list(re.finditer(r"\w+", document.text))
            triples = [tuple(w.group() for w in theirs[i : i + 3]) for i in range(len(theirs) - 2)]
            for place in range(len(triples)):
                # A window of 2 m words has 2 m - 2 trigrams.
                window = triples[place : place + 2 * m - 2]
                for i in range(len(words) - m + 1):
                    stretch = [tuple(words[j : j + 3]) for j in range(i, i + m - 2)]
                    if window[0] in stretch and set(stretch) <= set(window):
                        span = sample[i].start(), sample[i + m - 1].end()
                        where = document.doc_id, theirs[place].start()
                        return FuzzyMatch(query.sample_id, m, *span, *where)
    return None


sentence = st.lists(
    st.sampled_from(["a", "a", "b", "b", "c", "Z", "é"]), min_size=0, max_size=24
).flatmap(
    lambda words: st.lists(
        st.sampled_from([" ", ", ", "\n", " -- "]), min_size=len(words), max_size=len(words)
    ).map(lambda gaps: "".join(w + g for w, g in zip(words, gaps, strict=True)))
)


@few
@given(st.lists(sentence, max_size=3), st.lists(sentence, max_size=4), st.integers(3, 9))
def test_fuzzy_matches_equal_brute_force(samples, texts, min_words):
    queries = [Query(f"s{i}", text, []) for i, text in enumerate(samples)]
    corpus = [Document(f"d{i}", text, "") for i, text in enumerate(texts)]
    expected = {n.sample_id: brute_force(n, corpus, min_words) for n in queries}
    got = find_fuzzy(queries, corpus, min_words=min_words)
    assert got == {name: match for name, match in expected.items() if match}


@few
@given(st.permutations(range(14)), st.lists(st.integers(0, 13), max_size=8))
def test_shuffled_pieces_equal_brute_force(order, inserted):
    words = [f"w{i}" for i in range(16)]
    pieces = [" ".join(words[i : i + 3]) for i in order]
    for at in inserted:
        pieces.insert(at, "other")
    query = Query("s", " ".join(words), [])
    corpus = [Document("d", " ".join(pieces), ""), Document("e", " ".join(words[4:12]), "")]
    expected = brute_force(query, corpus, 4)
    assert find_fuzzy([query], corpus, min_words=4) == ({"s": expected} if expected else {})


def test_spaces_and_punctuation_may_differ():
    words = [f"word{i}" for i in range(30)]
    query = Query("s", "“" + " ".join(words) + "”", [])
    document = Document("d", "Before. " + ",\n\t".join(words) + "!", "")
    match = find_fuzzy([query], [document])["s"]
    assert (match.n_words, match.start, match.end) == (30, 1, len(query.text) - 1)
    assert (match.doc_id, match.doc_offset) == ("d", len("Before. "))


def test_trigrams_far_apart_do_not_match():
    words = [f"word{i}" for i in range(24)]
    far = " ".join([*words[:12], *["other"] * 50, *words[10:]])
    near = " ".join([*words[:12], *["other"] * 20, *words[10:]])
    query = Query("s", " ".join(words), [])
    assert find_fuzzy([query], [Document("d", far, "")]) == {}
    # 12 + 20 + 14 words lie within the window of 48.
    assert find_fuzzy([query], [Document("d", near, "")])["s"].n_words == 24


def test_the_longest_span_over_all_documents_is_kept_and_the_first_of_equals():
    words = [f"word{i}" for i in range(40)]
    texts = [words[:25], words[:30], words[10:40], words]
    corpus = [Document(f"d{i}", " ".join(text), "") for i, text in enumerate(texts)]
    query = Query("s", " ".join(words[:30]), [])
    assert find_fuzzy([query], corpus)["s"].doc_id == "d1"


def test_a_repeated_word_matches_a_long_document_of_it():
    query = Query("s", "a " * 100 + "b c d", [])
    match = find_fuzzy([query], [Document("d", "a " * 20_000, "")])["s"]
    assert (match.n_words, match.doc_offset) == (100, 0)


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_a_document_read_in_parts_matches_as_if_it_were_read_whole(monkeypatch, size):
    """Parts of any size, cut within words and characters' neighbours."""
    rng = np.random.default_rng(size)
    words = [f"wört{n}" for n in rng.integers(0, 9, 60)]
    texts = [" ".join(rng.choice(words, n)) for n in (200, 3, 90)]
    corpus = [Document(f"d{i}", text, "") for i, text in enumerate(texts)]
    queries = [Query(f"s{i}", " ".join(words[i : i + 25]), []) for i in range(0, 35, 5)]
    whole = find_fuzzy(queries, corpus, min_words=4)
    assert whole
    monkeypatch.setattr(fuzzy, "_PASSAGE_BYTES", size)
    assert find_fuzzy(queries, InParts(corpus), min_words=4) == whole


class InParts(list):
    """Documents that can be had in pieces, as a corpus gives them."""

    def pieces(self, size):
        for i, document in enumerate(self):
            parts = cut(document.text.encode(), size)
            yield from to_pieces(i, document.doc_id, parts)


def test_progress_counts_the_bytes_of_text():
    done = []
    corpus = [Document("a", "é x", ""), Document("b", "y", "")]
    find_fuzzy([Query("s", "x y z", [])], corpus, min_words=3, progress=done.append)
    assert done == [4, 5]


def test_queries_without_words_and_empty_corpora_match_nothing():
    assert find_fuzzy([], [Document("d", "a b c", "")], min_words=3) == {}
    assert find_fuzzy([Query("s", "...", [])], [Document("d", "a b c", "")], min_words=3) == {}
    assert find_fuzzy([Query("s", "a b c", [])], [], min_words=3) == {}


def test_a_minimum_below_three_words_is_refused():
    with pytest.raises(AuditError, match=r"min_words must be 3 or more .*; got 2"):
        find_fuzzy([], [], min_words=2)


def test_samples_of_one_id_are_refused():
    with pytest.raises(AuditError, match="ids must be unique"):
        find_fuzzy([Query("s", "a", []), Query("s", "b", [])], [])
