"""WET and WARC files: one document per text record, and broken records."""

import gzip
import sys
import zlib

import brotli
import pytest
import zstandard

from auditor.corpus import warc
from auditor.corpus.reading import read_corpus
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
            "record 3 does not have its declared length of 3 bytes. 1 of 4 records",
        ),
        (
            record("conversion", b"x", length="many"),
            "record 3 has an invalid length (many). 1 of 4",
        ),
        (record("conversion", b"x", length=10**15), "record 3 has an invalid length (1000000"),
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


def test_a_record_that_says_to_be_longer_than_it_is_costs_no_other(tmp_path):
    """By its length it takes in those after it: they are found in what was read of it."""
    path = tmp_path / "a.wet"
    for length in (60, 300, 10**6):
        broken = record("conversion", b"short", number=9, length=length)
        path.write_bytes(WET[0] + broken + WET[1] + WET[2])
        documents, corpus = read(path)
        assert documents == TEXTS
        assert corpus.problem_counts == {"warc": 1}
        assert corpus.problems[0].message.endswith("1 of 4 records skipped; strict stops instead.")


def test_a_file_that_is_cut_off_is_read_up_to_its_last_whole_record(tmp_path):
    path = tmp_path / "a.wet"
    path.write_bytes(b"".join(WET)[:-6])
    documents, corpus = read(path)
    assert documents == TEXTS[:1]
    assert "record 3 is truncated: 2 bytes are missing" in corpus.problems[0].message


def test_an_answer_whose_packing_is_broken_is_reported_or_read(tmp_path):
    path = tmp_path / "a.warc"
    path.write_bytes(record("response", b"", content_type="application/http") + WET[1])
    documents, corpus = read(path)
    assert documents == TEXTS[:1]
    assert corpus.problem_counts == {"warc": 1}


PAGE = "<p>" + "Žluťoučký kůň. " * 40
RAW_DEFLATE = zlib.compressobj(wbits=-15)
PACKED = [
    ("br", brotli.compress(PAGE.encode())),
    ("BR", brotli.compress(PAGE.encode())),
    ("zstd", zstandard.ZstdCompressor().compress(PAGE.encode())),
    ("gzip", gzip.compress(PAGE.encode())),
    ("x-gzip", gzip.compress(PAGE.encode()[:9]) + gzip.compress(PAGE.encode()[9:])),
    ("deflate", zlib.compress(PAGE.encode())),
    ("deflate", RAW_DEFLATE.compress(PAGE.encode()) + RAW_DEFLATE.flush()),
    ("identity", PAGE.encode()),
    ("gzip, br", brotli.compress(gzip.compress(PAGE.encode()))),
    # A crawler may unpack a page and keep its header.
    ("br", PAGE.encode()),
    ("zstd", PAGE.encode()),
    ("gzip", PAGE.encode()),
]


def chunked(raw):
    parts = [raw[i : i + 50] for i in range(0, len(raw), 50)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.mark.parametrize(("coding", "body"), PACKED, ids=range(len(PACKED)))
@pytest.mark.parametrize("is_chunked", [False, True])
def test_content_codings_are_taken_off(tmp_path, coding, body, is_chunked):
    extra = f"Content-Encoding: {coding}\r\n" + "Transfer-Encoding: chunked\r\n" * is_chunked
    path = tmp_path / "a.warc"
    sent = chunked(body) if is_chunked else body
    path.write_bytes(answer(sent, "text/html", extra=extra.encode()))
    documents, corpus = read(path)
    assert [text for _, text in documents] == [PAGE]
    assert corpus.problem_counts == {}


@pytest.mark.parametrize(
    ("coding", "body", "why"),
    [
        ("compress", b"\x1f\x9d\x90", "compress, which is not supported"),
        ("exi", b"any", "exi, which is not supported"),
        ("br", b"\xff\xfe\xfd", "br, but its br data "),
        ("zstd", b"\x28\xb5\x2f\xfd\xff\xff\xff", "zstd, but its zstd data "),
        ("gzip", b"\x1f\x8b\x07\xff", "gzip, but its gzip data is corrupt"),
    ],
)
def test_content_that_stays_compressed_is_reported(tmp_path, coding, body, why):
    path = tmp_path / "a.warc"
    extra = f"Content-Encoding: {coding}\r\n".encode()
    picture = answer(body, "image/png", number=3, extra=extra)
    path.write_bytes(answer(body, "text/html", number=4, extra=extra) + picture + WET[1])
    documents, corpus = read(path)
    assert documents == TEXTS[:1]
    assert f"record 1 has the content coding {why}" in corpus.problems[0].message
    assert corpus.problems[0].message.endswith("1 of 3 records skipped; strict stops instead.")


@pytest.mark.parametrize("coding", ["deflate", "br", "gzip", "zstd"])
@pytest.mark.parametrize(
    "page",
    [
        '["house all one news house four is", "the of"]',
        "{news a words of all all three all}",
        "Kwith cat with cat with",
        "Kwith dog the three words dog four",
        "# Café",
    ],
)
def test_a_page_that_the_crawler_unpacked_is_text_as_it_stands(tmp_path, coding, page):
    """Raw deflate and Brotli have no mark at the front, and unpack the begin of many a text."""
    path = tmp_path / "a.warc"
    extra = f"Content-Encoding: {coding}\r\n".encode()
    path.write_bytes(answer(page.encode(), "text/plain", extra=extra))
    [(_, text)], corpus = read(path)
    assert text == page
    assert corpus.problem_counts == {}


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip"])
def test_a_page_that_is_cut_short_is_read_up_to_there(tmp_path, coding):
    words = " ".join(str(n * n) for n in range(200_000))
    whole = {
        "br": lambda raw: brotli.compress(raw, quality=1),
        "zstd": lambda raw: zstandard.ZstdCompressor().compress(raw),
        "gzip": gzip.compress,
    }[coding](words.encode())
    path = tmp_path / "a.warc"
    extra = f"Content-Encoding: {coding}\r\n".encode()
    path.write_bytes(answer(whole[: len(whole) // 2], "text/plain", extra=extra))
    [(_, text)], corpus = read(path)
    assert 1000 < len(text) < len(words)
    assert words.startswith(text)
    assert corpus.problem_counts == {"coding-cut": 1}
    assert "is truncated after" in corpus.problems[0].message


def test_a_page_that_unpacks_without_end_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(warc, "_RECORD_BYTES", 100_000)
    path = tmp_path / "a.warc"
    body = gzip.compress(b"x" * 1_000_000)
    path.write_bytes(answer(body, "text/plain", extra=b"Content-Encoding: gzip\r\n"))
    [(_, text)], corpus = read(path)
    assert text == "x" * 100_000
    assert "is longer than 100,000 bytes" in corpus.problems[0].message


@pytest.mark.parametrize(("coding", "package"), [("br", "brotli"), ("zstd", "zstandard")])
def test_without_the_package_of_a_coding_its_records_are_passed_over(
    tmp_path, monkeypatch, coding, package
):
    path = tmp_path / "a.warc"
    extra = f"Content-Encoding: {coding}\r\n".encode()
    bodies = {"br": PACKED[0][1], "zstd": PACKED[2][1]}
    path.write_bytes(answer(bodies[coding], "text/html", extra=extra) + WET[1])
    monkeypatch.setitem(sys.modules, package, None)
    documents, corpus = read(path)
    assert documents == TEXTS[:1]
    assert f"the content coding {coding}, which needs {package}" in corpus.problems[0].message


# Labels of the Encoding Standard, with text that only the encoding they mean on the web can hold.
LABELS = [
    *((label, "“café” – €", "cp1252") for label in ("ISO-8859-1", "latin1", "us-ascii", "l1")),
    ("iso-8859-9", "“ğış” – €", "cp1254"),
    ("tis-620", "“ไทย” – €", "cp874"),
    ("ISO-8859-11", "“ไทย” – €", "cp874"),
    ("gb2312", "镕 朱 € ㄅ", "gb18030"),
    ("GBK", "镕 \U00020089", "gb18030"),
    ("Shift_JIS", "①㈱ ～ 高﨑", "cp932"),
    ("x-sjis", "①㈱", "cp932"),
    ("euc-kr", "똠방각하 펲시콜라", "cp949"),
    ("ks_c_5601-1987", "똠방", "cp949"),
    ("big5", "瑝 中文", "big5hkscs"),
    ("EUC-JP", "日本", "euc_jp"),
    ("windows-1251", "Война", "cp1251"),
    ("koi8-r", "Война", "koi8_r"),
    ("utf-16", "Žluť", "utf-16-le"),
    ("hz-gb-2312", "中文", "hz"),
    ("cp850", "é½", "cp850"),
]


@pytest.mark.parametrize(("label", "text", "encoding"), LABELS)
def test_a_label_means_what_it_means_on_the_web(tmp_path, label, text, encoding):
    path = tmp_path / "a.warc"
    path.write_bytes(answer(text.encode(encoding), f'text/html; charset="{label}"'))
    documents, corpus = read(path)
    assert [found for _, found in documents] == [text]
    assert corpus.problem_counts == {}


def test_bytes_that_a_code_page_leaves_open_are_control_characters(tmp_path):
    path = tmp_path / "a.warc"
    path.write_bytes(answer(b"a\x81\x9d\xe9", "text/html; charset=iso-8859-1"))
    assert [text for _, text in read(path)[0]] == ["a\x81\x9dé"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_a_byte_order_mark_takes_precedence_over_the_label(tmp_path, encoding):
    path = tmp_path / "a.warc"
    body = "\ufeffŽluť".encode(encoding)
    resource = record("resource", body, number=2)
    path.write_bytes(answer(body, "text/html; charset=iso-8859-1", number=1) + resource)
    assert [text for _, text in read(path)[0]] == ["Žluť", "Žluť"]


def test_a_page_of_another_charset_than_it_says_is_utf8_or_replaced(tmp_path):
    path = tmp_path / "a.warc"
    path.write_bytes(
        answer("é—!".encode(), "text/html; charset=shift_jis", number=1)
        + answer(b"\xc6\xfc\xff!", "text/html; charset=euc-jp", number=2)
        + answer("Žluť".encode(), "text/html; charset=none-such", number=3)
    )
    documents, corpus = read(path)
    assert [text for _, text in documents] == ["é—!", "日\ufffd!", "Žluť"]
    assert corpus.problem_counts == {"charset": 1}
    assert "record 2 is not euc-jp at byte 2. 1 place replaced" in corpus.problems[0].message


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
