"""Compressed files are read like plain files, up to where they are damaged."""

import gzip
import json
import lzma
import sys

import pytest
import zstandard

from auditor.corpus.reading import read_corpus
from auditor.errors import CorpusError

PACK = {
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": lambda raw: zstandard.ZstdCompressor().compress(raw),
}
ROWS = "".join(json.dumps({"id": i, "text": f"text {i}"}) + "\n" for i in range(5000)).encode()
CONTENT = {".txt": "caf\u00e9\r\n".encode() * 9000, ".jsonl": ROWS, ".csv": b"id,text\n1,a\n2,b\n"}


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("ending", CONTENT)
def test_packed_text_reads_like_plain_text(tmp_path, ending, packing):
    raw = CONTENT[ending]
    (tmp_path / f"plain{ending}").write_bytes(raw)
    # Members that follow each other, as `cat a.gz b.gz` makes them, are one text.
    half = len(raw) // 2
    packed = PACK[packing](raw[:half]) + PACK[packing](raw[half:])
    (tmp_path / f"packed{ending}{packing}").write_bytes(packed)
    plain = [d.text for d in read_corpus([tmp_path / f"plain{ending}"])]
    assert plain
    assert [d.text for d in read_corpus([tmp_path / f"packed{ending}{packing}"])] == plain


def test_the_size_is_known_for_plain_files_and_after_a_pass(tmp_path):
    """A packed file's own size says nothing of its text: a bar would be full too soon."""
    (tmp_path / "a.txt").write_bytes(b"plain text")
    assert read_corpus([tmp_path]).size() == 10
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"x" * 5_000))
    corpus = read_corpus([tmp_path])
    assert corpus.size() is None
    assert sum(len(document.text) for document in corpus) == corpus.size() == 5_010


@pytest.mark.parametrize("packing", PACK)
def test_what_is_cut_off_is_read_up_to_there_and_reported(tmp_path, packing):
    path = tmp_path / f"a.jsonl{packing}"
    # Two members, the second cut: the first is whole whatever the packing's block size.
    packed = PACK[packing](ROWS)
    path.write_bytes(packed + packed[: len(packed) // 2])
    corpus = read_corpus([path])
    texts = [d.text for d in corpus]
    assert texts[:5000] == [f"text {i}" for i in range(5000)]
    assert len(texts) < 10_000
    assert corpus.problem_counts["packed"] == 1
    message = corpus.problems[0].message
    assert "data is truncated after " in message
    assert message.endswith("The text before it is read; strict stops instead.")
    with pytest.raises(CorpusError, match="is truncated"):
        list(read_corpus([path], strict=True))


@pytest.mark.parametrize("packing", PACK)
def test_a_broken_member_ends_the_file(tmp_path, packing):
    path = tmp_path / f"a.txt{packing}"
    path.write_bytes(PACK[packing](b"whole ") + b"no such data")
    corpus = read_corpus([path])
    assert [d.text for d in corpus] == ["whole "]
    assert corpus.problem_counts == {"packed": 1}
    assert "data is corrupt (" in corpus.problems[0].message
    # A text has no lines to count; it was read up to there all the same.
    assert corpus.problems[0].message.endswith("The text before it is read; strict stops instead.")


@pytest.mark.parametrize("packing", PACK)
def test_what_is_not_packed_at_all_is_refused_by_name_and_reported_in_a_folder(tmp_path, packing):
    path = tmp_path / f"a.jsonl{packing}"
    path.write_bytes(ROWS)
    with pytest.raises(
        CorpusError, match=r"data is corrupt \(.*\)\. Correct it or leave it out\.$"
    ):
        list(read_corpus([path]))
    (tmp_path / "b.txt").write_text("text")
    corpus = read_corpus([tmp_path])
    assert [d.doc_id for d in corpus] == ["b.txt"]
    assert corpus.problem_counts["packed"] == 1


def test_a_packed_file_without_a_known_ending_is_read_if_it_is_text(tmp_path):
    (tmp_path / "notes.gz").write_bytes(gzip.compress(b"notes"))
    (tmp_path / "picture.gz").write_bytes(gzip.compress(b"\xff\xd8"))
    (tmp_path / "all.tar.gz").write_bytes(gzip.compress(b"x"))
    corpus = read_corpus([tmp_path])
    assert [(d.doc_id, d.text) for d in corpus] == [("notes.gz", "notes")]
    assert corpus.problem_counts == {"unsupported": 1, "binary": 1}


def test_gzip_padded_with_zeros_and_an_empty_file(tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"text") + bytes(40_000))
    (tmp_path / "b.txt.gz").write_bytes(b"")
    corpus = read_corpus([tmp_path])
    assert [d.text for d in corpus] == ["text"]
    assert corpus.problem_counts == {"empty": 1}


def test_without_zstandard_one_sentence_says_how_to_get_it(tmp_path, monkeypatch):
    path = tmp_path / "a.txt.zst"
    path.write_bytes(PACK[".zst"](b"text"))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    message = r"needs zstandard\. Install it with: pip install '.\[corpora\]' in a checkout\.$"
    with pytest.raises(CorpusError, match=message):
        list(read_corpus([path]))
    with pytest.raises(CorpusError, match=message):
        read_corpus([path]).check()
