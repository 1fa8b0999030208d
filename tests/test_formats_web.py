"""Common Crawl's WET and WARC: a document a record of text, and records that are broken."""

import gzip
import sys
import zlib

import pytest

from auditor.corpora.reading import read_corpus
from auditor.errors import CorpusError


def record(kind, body, *, number=0, content_type="text/plain", length=None):
    """One record, spelt out byte for byte."""
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{number}>\r\n"
        f"WARC-Target-URI: http://example.org/{number}\r\nWARC-Date: 2024-01-01T00:00:00Z\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: "
        f"{len(body) if length is None else length}\r\n\r\n"
    )
    return head.encode() + body + b"\r\n\r\n"


def answer(body, content_type, *, number=0, extra=b""):
    """A server's answer as a crawler keeps it."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: " + content_type.encode() + b"\r\n" + extra + b"\r\n"
    http = "application/http; msgtype=response"
    return record("response", head + body, number=number, content_type=http)


def read(path):
    corpus = read_corpus([path])
    return [(d.doc_id, d.text) for d in corpus], corpus


WET = [
    record("warcinfo", b"Software-Info: x\r\n", content_type="application/warc-fields"),
    record("conversion", "Žluťoučký\nkůň".encode(), number=1),
    record("conversion", b"two\n", number=2),
]
TEXTS = [("urn:uuid:1", "Žluťoučký\nkůň"), ("urn:uuid:2", "two\n")]


@pytest.mark.parametrize("ending", [".wet", ".warc.wet", ".warc"])
@pytest.mark.parametrize("packing", ["", ".gz", "whole.gz"])
def test_extracted_text_is_read_plain_and_with_a_gzip_member_a_record(tmp_path, ending, packing):
    path = tmp_path / f"a{ending}{packing.removeprefix('whole')}"
    each = {"": b"".join(WET), ".gz": b"".join(map(gzip.compress, WET))}
    path.write_bytes(each.get(packing, gzip.compress(b"".join(WET))))
    documents, corpus = read(path)
    assert documents == TEXTS
    assert corpus.problem_counts == {}


def test_answers_of_text_are_read_and_all_else_is_passed_over(tmp_path):
    page = b"<p>caf\xe9</p>"
    chunked = b"3\r\n<p>\r\n2\r\nab\r\n0\r\n\r\n"
    path = tmp_path / "a.warc.gz"
    records = [
        record("request", b"GET / HTTP/1.1\r\n\r\n", content_type="application/http"),
        answer(page, "text/html; charset=ISO-8859-1", number=1),
        answer(chunked, "text/html", number=2, extra=b"Transfer-Encoding: chunked\r\n"),
        answer(
            gzip.compress(b"packed"), "text/plain", number=3, extra=b"Content-Encoding: gzip\r\n"
        ),
        answer(b"\x89PNG", "image/png", number=4),
        record("resource", b"resource", number=5),
        record("metadata", b"fetchTimeMs: 1", number=6, content_type="application/warc-fields"),
    ]
    path.write_bytes(b"".join(map(gzip.compress, records)))
    documents, corpus = read(path)
    assert documents == [
        ("urn:uuid:1", "<p>café</p>"),
        ("urn:uuid:2", "<p>ab"),
        ("urn:uuid:3", "packed"),
        ("urn:uuid:5", "resource"),
    ]
    assert corpus.problem_counts == {}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            record("conversion", b"too long", length=3),
            "record 3 has another length than the 3 bytes it says. 1 of 4 records",
        ),
        (
            record("conversion", b"x", length="many"),
            "record 3 has no length that can be (many). 1 of 4",
        ),
        (record("conversion", b"x", length=10**15), "record 3 has no length that can be (1000000"),
        (b"no record at all\r\nmore of it\r\n", "record 3 does not begin with WARC/"),
    ],
)
def test_reading_goes_on_after_a_broken_record(tmp_path, broken, message):
    path = tmp_path / "a.wet"
    path.write_bytes(WET[0] + WET[1] + broken + WET[2])
    documents, corpus = read(path)
    assert documents == TEXTS
    [problem] = corpus.problems
    assert problem.message.startswith(f"{path}: {message}")
    assert problem.message.endswith(" records skipped; strict stops instead.")
    with pytest.raises(CorpusError, match=r"record 3 .*without strict"):
        list(read_corpus([path], strict=True))


def test_a_file_that_is_cut_off_is_read_up_to_its_last_whole_record(tmp_path):
    path = tmp_path / "a.wet"
    path.write_bytes(b"".join(WET)[:-6])
    documents, corpus = read(path)
    assert documents == TEXTS[:1]
    assert "record 3 is cut off, 2 bytes before its end" in corpus.problems[0].message


def test_an_answer_whose_packing_is_broken_is_reported_or_read(tmp_path):
    path = tmp_path / "a.warc"
    path.write_bytes(record("response", b"", content_type="application/http") + WET[1])
    documents, corpus = read(path)
    assert documents == TEXTS[:1]
    assert corpus.problem_counts == {"warc": 1}


def test_bytes_that_are_not_utf8_are_replaced_and_located(tmp_path):
    path = tmp_path / "a.wet"
    path.write_bytes(record("conversion", b"a\xff", number=1))
    documents, corpus = read(path)
    assert documents == [("urn:uuid:1", "a\ufffd")]
    assert "record 1: byte 1 is not UTF-8" in corpus.problems[0].message


def test_without_warcio_one_sentence_says_how_to_get_it(tmp_path, monkeypatch):
    path = tmp_path / "a.warc"
    path.write_bytes(answer(zlib.compress(b"x"), "text/html"))
    monkeypatch.setitem(sys.modules, "warcio.archiveiterator", None)
    with pytest.raises(CorpusError, match=r"needs warcio\. Install it with: pip install"):
        read(path)
