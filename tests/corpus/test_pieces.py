"""A corpus in pieces: the same text, ids, counts and problems as its documents, in small parts."""

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.corpus.pieces import cut, to_pieces
from auditor.corpus.reading import read_corpus
from auditor.errors import CorpusError

SIZES = st.sampled_from([1, 2, 3, 5, 64])
# Bytes that make and break characters of every length, a BOM, U+FFFD and surrogates among them.
ODD = [b"a", b"\xc3\xa9", b"\xe2\x82\xac", b"\xf0\x9f\x98\x80", b"\xef\xbb\xbf", b"\xef\xbf\xbd"]
ODD += [
    b"\xc3",
    b"\xe2\x82",
    b"\xf0\x9f\x98",
    b"\x80",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xc0\xaf",
    b"\n",
]
RAW = st.lists(st.sampled_from(ODD), max_size=12).map(b"".join)


def told(corpus):
    """What a corpus counted in its latest iteration."""
    return corpus.n_documents, corpus.n_bytes, corpus.problem_counts, corpus.problems


def joined(pieces):
    """Pieces put together again, checked on the way: (doc_id, text) by ordinal."""
    documents = []
    for piece in pieces:
        assert piece.raw
        if piece.is_first:
            assert piece.ordinal == len(documents)
            documents.append([piece.doc_id, b"", False])
        document = documents[-1]
        assert (piece.ordinal, piece.doc_id) == (len(documents) - 1, document[0])
        assert not document[2]
        document[1:] = document[1] + piece.raw, piece.is_last
        piece.raw.decode("utf-8", "surrogatepass")  # is not cut within a character
    assert all(is_over for _, _, is_over in documents)
    return [(doc_id, raw.decode("utf-8", "surrogatepass")) for doc_id, raw, _ in documents]


@settings(max_examples=300, deadline=None)
@given(raw=RAW, size=SIZES)
def test_pieces_of_any_bytes_are_the_document(tmp_path_factory, raw, size):
    folder = tmp_path_factory.mktemp("odd")
    (folder / "a.txt").write_bytes(raw)
    (folder / "b.txt").write_bytes(b"b")
    corpus = read_corpus([folder])
    documents = [(d.doc_id, d.text) for d in corpus]
    expected = raw.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    assert documents == ([("a.txt", expected)] if expected else []) + [("b.txt", "b")]
    by_document = told(corpus)
    assert joined(corpus.pieces(size)) == documents
    # Both count each replaced place and name the same first one.
    assert told(corpus) == by_document


@settings(max_examples=100, deadline=None)
@given(text=st.text(alphabet="aé€😀\ud800", max_size=20), size=SIZES)
def test_a_record_is_cut_between_characters(text, size):
    raw = text.encode("utf-8", "surrogatepass")
    parts = list(cut(raw, size))
    assert b"".join(parts) == raw
    assert all(len(part) <= max(size, 4) for part in parts)
    assert [p.raw for p in to_pieces(0, "d", parts)] == ([] if not raw else parts)


def test_a_large_file_is_not_read_into_memory(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"0123456789" * 1000)
    pieces = list(read_corpus([tmp_path]).pieces(4096))
    assert [len(piece.raw) for piece in pieces] == [4096, 4096, 1808]


def test_pieces_of_rows_and_packed_text(tmp_path):
    rows = [{"text": "é" * 50}, {"text": "x"}, {"text": "\ud800y"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "broken")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress("é".encode() * 5000))
    corpus = read_corpus([tmp_path])
    documents = [(d.doc_id, d.text) for d in corpus]
    by_document = told(corpus)
    assert by_document[0] == 4
    assert joined(corpus.pieces(7)) == documents
    assert told(corpus) == by_document


def test_bad_bytes_are_located_in_the_file_past_its_mark_and_past_other_pieces(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + "€".encode() * 5 + b"\xff")
    for size in (1, 2, 4, 100):
        corpus = read_corpus([tmp_path])
        list(corpus.pieces(size))
        assert "byte 18 is not UTF-8 (0xff, invalid start byte)" in corpus.problems[0].message


def test_pieces_stop_where_documents_stop(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"ab\xff")
    with pytest.raises(CorpusError, match="byte 2 is not UTF-8"):
        list(read_corpus([tmp_path], strict=True).pieces(1))
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf")
    with pytest.raises(CorpusError, match=r"has no documents: .*the file is empty"):
        list(read_corpus([tmp_path]).pieces(10))
    with pytest.raises(ValueError, match="1 or more"):
        read_corpus([tmp_path]).pieces(0)
