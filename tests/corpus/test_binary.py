"""Files that are not text are refused with what they seem to be; text is not."""

import io
import pickle
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from auditor.corpus.binary import known_kind, refuses_binary
from auditor.corpus.problems import FileReport
from auditor.corpus.reading import read_corpus
from auditor.errors import CorpusError

PICTURE = Path(__file__).parents[2] / "docs" / "report.png"


def zipped():
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("a.txt", "text")
    return sink.getvalue()


def tarred():
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"), io.BytesIO())
    return sink.getvalue()


def array():
    sink = io.BytesIO()
    np.save(sink, np.arange(9))
    return sink.getvalue()


BINARY = {
    "ELF": Path(sys.executable).resolve().read_bytes()[:5000],
    "PNG": PICTURE.read_bytes()[:5000],
    "ZIP": zipped(),
    "tar archive": tarred(),
    "safetensors": save({"weight": np.zeros((4, 4), np.float32)}),
    "NumPy": array(),
    "pickle": pickle.dumps([1, "a"] * 20, protocol=4),
    "control characters": bytes(range(256)) * 4,
}


@pytest.mark.parametrize("name", ["a.txt", "a", "a.jsonl", "a.csv"])
@pytest.mark.parametrize("kind", BINARY)
def test_a_binary_file_is_refused_with_its_kind_before_it_is_read(tmp_path, kind, name):
    path = tmp_path / name
    path.write_bytes(BINARY[kind])
    with pytest.raises(CorpusError, match=rf"{name}: the file is not text.*{kind}"):
        list(read_corpus([path]))


@pytest.mark.parametrize("kind", BINARY)
def test_a_binary_file_in_a_folder_is_skipped_and_counted(tmp_path, kind):
    (tmp_path / "a.txt").write_bytes(BINARY[kind])
    (tmp_path / "b.txt").write_text("plain text")
    corpus = read_corpus([tmp_path])
    assert [document.text for document in corpus] == ["plain text"]
    assert corpus.problem_counts == {"binary": 1}


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_text_is_text(text):
    starts = ("", "GIF ", "PK ", "%PDF ", "GGUF is", "BZh", "\x1b[31m", '        {"a": 1}')
    for start in starts:
        raw = (start + text).encode()
        assert known_kind(raw, len(raw)) is None


@pytest.mark.parametrize(
    "raw",
    [
        b"a log\x00 with a NUL, a bell \x07 and\ttabs\r\n" * 20,
        "naïve – 日本語".encode() * 20,
        "marked".encode("utf-16"),
        b"",
    ],
)
def test_a_few_control_characters_and_marked_encodings_are_text(tmp_path, raw):
    path = tmp_path / "a.txt"
    path.write_bytes(raw)
    assert not refuses_binary(path, FileReport(path, strict=True, is_named=True))
