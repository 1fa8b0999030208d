"""Near-verbatim text planted with known edits is found with their number."""

from __future__ import annotations

import numpy as np
import pytest

from auditor.corpus.pieces import cut, to_pieces
from auditor.corpus.text_files import Document
from auditor.matching import edit_distance as regions_module
from auditor.matching.edit_distance import KnownMatch, find_near
from auditor.matching.queries import Query

WORDS = [f"word{i:03}" for i in range(120)]


def encode(text):
    """A token a word."""
    return text.split()


def query(words):
    """A sample whose tokens are words, each with the space before it."""
    lengths = [len(words[0]), *(1 + len(word) for word in words[1:])]
    return Query("s", " ".join(words), np.cumsum(lengths).tolist())


def changed(words, places):
    """The same words with others at these places."""
    return [f"else{i:03}" if i in places else word for i, word in enumerate(words)]


def region(words, first, last, doc_offset, doc_id="d"):
    made = query(words)
    start = made.token_ends[first - 1] if first else 0
    return KnownMatch(made, start, made.token_ends[last - 1], doc_id, doc_offset)


def offset_of(word):
    """Where a word of the document begins, with the space before it."""
    return " ".join(WORDS).index(word) - 1


@pytest.mark.parametrize(
    ("edits", "distance", "is_near"),
    [
        ((), 0, True),
        ((32, 35, 38, 41, 44), 5, True),
        (range(32, 38), 6, False),
        (range(8), 0, True),  # the 50 that end with the sample's end hold none of them
        (range(52, 60), 0, True),  # nor do its first 50 of these
    ],
)
def test_a_short_match_is_compared_with_the_tokens_around_it(edits, distance, is_near):
    """The sample is words 20-79 of the document with some changed; its words 20-29 match."""
    found = region(changed(WORDS[20:80], set(edits)), 20, 30, offset_of("word040"))
    (match,) = find_near([found], [Document("d", " ".join(WORDS), "")], encode=encode)
    assert (match.n_tokens, match.token_distance, match.is_near) == (50, distance, is_near)


def test_a_long_match_is_compared_as_it_is():
    found = region(WORDS[10:90], 0, 70, offset_of("word010") + 1)
    (match,) = find_near([found], [Document("d", " ".join(WORDS), "")], encode=encode)
    assert (match.start, match.n_tokens, match.token_distance) == (0, 70, 0)
    assert (match.char_distance, match.is_near) == (0, True)
    assert match.doc_offset == offset_of("word010") + 1


def test_a_sample_of_fewer_than_fifty_tokens_has_no_near_match():
    document = Document("d", " ".join(WORDS), "")
    assert find_near([region(WORDS[:49], 0, 40, 0)], [document], encode=encode) == []


@pytest.mark.parametrize("size", [1, 10, 333])
def test_documents_in_parts_and_of_one_id_change_nothing(monkeypatch, size):
    sample = changed(WORDS[20:80], {5, 50})
    asked = [region(sample, 20, 30, offset_of("word040"))]
    texts = ["short", " ".join(WORDS), "not it"]
    corpus = [Document("d", text, "") for text in texts]
    whole = find_near(asked, [Document("d", texts[1], "")], encode=encode)

    class InParts(list):
        def pieces(self, size):
            for i, document in enumerate(self):
                yield from to_pieces(i, document.doc_id, cut(document.text.encode(), size))

    monkeypatch.setattr(regions_module, "_PIECE_BYTES", size)
    assert find_near(asked, InParts(corpus), encode=encode) == whole


def test_progress_counts_all_bytes():
    done = []
    corpus = [Document("a", "é x", ""), Document("b", "y", "")]
    find_near([], corpus, encode=encode, progress=done.append)
    assert done == [4, 5]
