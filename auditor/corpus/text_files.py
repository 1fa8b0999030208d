"""Read the documents of a text or JSON file and report its problems."""

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from auditor.corpus.compression import open_text
from auditor.corpus.fields import (
    Tokens,
    joined_text,
    no_field,
    record_id,
    record_tokens,
    text_fields,
    wrong_field,
)
from auditor.corpus.files import SourceFile
from auditor.corpus.problems import FileReport, Problem
from auditor.errors import CorpusError

__all__ = ["Document", "FileReport", "Problem"]

BOM = b"\xef\xbb\xbf"
_PART_BYTES = 1 << 20
# A longer object must have an unclosed bracket.
_VALUE_BYTES = 1 << 30
# A string, whose last group is empty if it is cut off, or a structural character.
_TOKEN = re.compile(rb'"(?:[^"\\]+|\\.|\\\Z)*+("|\Z)|[\[\]{},]', re.DOTALL)


@dataclass(frozen=True)
class Document:
    """A document of a corpus: a stable id, its text, and the path of its file.

    If the text is a sample with tokens, `tokens` are the token ids of its prompt and text.
    """

    doc_id: str
    text: str
    source: str
    tokens: Tokens | None = None


def decode(raw: bytes, offset: int, report: FileReport, *, place: str = "") -> str:
    """Decode UTF-8; invalid bytes are reported and become U+FFFD.

    `offset` is the position of `raw` in the file, or in the record named by `place`.

    >>> from pathlib import Path
    >>> decode(b"caf\\xc3\\xa9", 0, FileReport(Path("a.txt"), strict=True))
    'café'
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        text = raw.decode("utf-8", "replace")
        _note_replaced(error, text, raw, f"{place}byte {offset + error.start:,}", report)
        return text


def _note_replaced(
    error: UnicodeDecodeError, text: str, raw: bytes, place: str, report: FileReport
) -> None:
    # Do not count U+FFFD characters that the file itself contains.
    n_replaced = text.count("\ufffd") - raw.count(b"\xef\xbf\xbd")
    byte = error.object[error.start]
    report.note("utf8", f"{place} is not UTF-8 (0x{byte:02x}, {error.reason})", n_replaced)


def first_undecodable(stream: BinaryIO) -> int | None:
    """The position of the first byte of a stream that is not UTF-8, or None.

    >>> import io
    >>> first_undecodable(io.BytesIO(b"ab\\xff"))
    2
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = 0
    while True:
        part = stream.read(_PART_BYTES)
        # The decoder buffers an incomplete character, whose bytes precede this part.
        n_kept = len(decoder.getstate()[0])
        try:
            decoder.decode(part, final=not part)
        except UnicodeDecodeError as error:
            return offset - n_kept + error.start
        if not part:
            return None
        offset += len(part)


def text_parts(stream: BinaryIO, size: int, report: FileReport) -> Iterator[bytes]:
    """Read plain text in parts of about `size` bytes: valid UTF-8, cut between characters.

    Valid bytes are passed on without a copy.

    >>> import io
    >>> from pathlib import Path
    >>> report = FileReport(Path("a.txt"), strict=False)
    >>> [part.decode() for part in text_parts(io.BytesIO("\\ufeffxéy".encode()), 2, report)]
    ['x', 'é', 'y']
    """
    rest, offset = stream.read(len(BOM)), 0
    if rest == BOM:
        rest, offset = b"", len(BOM)
    while True:
        part = stream.read(size - len(rest) if size > len(rest) else 1)
        raw = rest + part if rest else part
        whole, rest = _whole_characters(raw, offset, not part, report)
        if whole:
            yield whole
        if not part:
            return
        offset += len(raw) - len(rest)


def _whole_characters(
    raw: bytes, offset: int, is_end: bool, report: FileReport
) -> tuple[bytes, bytes]:
    """Bytes as valid UTF-8, and the bytes of an incomplete character at the end."""
    if raw.isascii():
        return raw, b""
    try:
        raw.decode("utf-8")
        return raw, b""
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data" and not is_end:
            return raw[: error.start], raw[error.start :]
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text = decoder.decode(raw, is_end)
        rest = decoder.getstate()[0]
        place = f"byte {offset + error.start:,}"
        _note_replaced(error, text, raw[: len(raw) - len(rest)], place, report)
        return text.encode("utf-8"), rest


def read_text(
    file: SourceFile, text_field: str | None, is_alone: bool, report: FileReport
) -> Iterator[Document]:
    """Read a plain text file as one document, whole in memory."""
    with open_text(file.path, report) as stream:
        text = "".join(part.decode("utf-8") for part in text_parts(stream, _PART_BYTES, report))
    if text:
        yield Document(file.name, text, str(file.path))
    else:
        report.note("empty", "the file is empty")


def read_jsonl(
    file: SourceFile, text_field: str | None, is_alone: bool, report: FileReport
) -> Iterator[Document]:
    """Read JSON lines: one document per object; lines without text are reported."""
    with open_text(file.path, report) as stream:
        yield from _documents(_lines(stream, report), file, text_field, is_alone, report)
    if report.n_lines == 0:
        report.note("empty", "the file is empty")


def read_json(
    file: SourceFile, text_field: str | None, is_alone: bool, report: FileReport
) -> Iterator[Document]:
    """Read JSON: lines, as in C4 and Dolma, an array of objects, or an object.

    Each object is one document. Arrays are streamed. Folders often contain JSON files without
    text: if a file that no spec names lacks the field in its first object, it is reported and
    skipped.
    """
    try:
        if _is_lines(file.path):
            yield from read_jsonl(file, text_field, is_alone, report)
            return
        report.unit = "objects"
        with open_text(file.path, report) as stream:
            yield from _documents(_objects(stream, report), file, text_field, is_alone, report)
        if report.n_lines == 0:
            report.note("empty", "the file has no objects")
    except _NoFieldError as error:
        if report.is_named:
            raise
        report.note("field", error.what, then="The file is skipped")


def _documents(
    rows: Iterator[tuple[str, dict]],
    file: SourceFile,
    text_field: str | None,
    is_alone: bool,
    report: FileReport,
) -> Iterator[Document]:
    """The documents of (place, object) pairs."""
    is_first = True
    for place, row in rows:
        text = _text_of(row, text_field, is_first, place, report)
        is_first = False
        if text:
            doc_id = record_id(row, file.name, report.n_lines, is_alone)
            yield Document(doc_id, text, str(file.path), record_tokens(row))


def _lines(stream: BinaryIO, report: FileReport) -> Iterator[tuple[str, dict]]:
    """The objects of JSON lines, with their places."""
    offset = 0
    for line in stream:
        report.n_lines += 1
        begin, offset = offset, offset + len(line)
        if begin == 0 and line.startswith(BOM):
            line, begin = line[len(BOM) :], len(BOM)
        if not line.strip():
            continue
        place = f"line {report.n_lines:,}"
        row = _parse(decode(line, begin, report), place, report)
        if row is not None:
            yield place, row


def _objects(stream: BinaryIO, report: FileReport) -> Iterator[tuple[str, dict]]:
    """The objects of an array, or consecutive objects, with their places."""
    for raw in _values(stream, report):
        report.n_lines += 1
        place = f"object {report.n_lines:,}"
        row = _parse(decode(raw, 0, report, place=f"{place}: "), place, report)
        if row is not None:
            yield place, row


def _is_lines(path: Path) -> bool:
    """Whether a JSON file has exactly one value on each line, judged by the first."""
    with open_text(path, FileReport(path, strict=False)) as stream:
        line = stream.readline(_PART_BYTES).removeprefix(BOM)
        while line and not line.strip():
            line = stream.readline(_PART_BYTES)
        if line.lstrip().startswith(b"["):
            return False
        if not line.endswith(b"\n"):
            line += stream.readline()
    text = line.decode("utf-8", "replace").rstrip()
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        # An error at the end of the line means that the object continues on the next.
        is_followed = text.startswith("{") and text.startswith("{", error.pos)
        return error.pos < len(text) and not is_followed
    except (ValueError, RecursionError):
        pass
    return True


def _values(stream: BinaryIO, report: FileReport) -> Iterator[bytes]:
    """The raw elements of an array, or consecutive raw objects."""
    raw, at, begin, depth = b"", 0, 0, 0
    is_array = None
    while True:
        part = stream.read(max(_PART_BYTES, len(raw)))
        raw = (raw + part).removeprefix(BOM) if is_array is None else raw + part
        for token in _TOKEN.finditer(raw, at):
            sign = token[0][:1]
            if sign == b'"':
                if not token[1]:
                    at = token.start()
                    break
            elif sign == b",":
                if is_array and depth == 1:
                    yield raw[begin : token.start()]
                    begin = token.end()
            elif sign in b"[{":
                if is_array is None:
                    is_array = sign == b"["
                    begin = token.end() if is_array else token.start()
                elif depth == 0:
                    begin = token.start()
                depth += 1
            else:
                depth -= 1
                if depth == 0 and is_array:
                    if raw[begin : token.start()].strip():
                        yield raw[begin : token.start()]
                    if (raw[token.end() :] + stream.read(_PART_BYTES)).strip():
                        what = "more follows after the array"
                        report.note("json", what, then="What comes before is read")
                    return
                if depth <= 0:
                    depth = 0
                    yield raw[begin : token.end()]
        else:
            at = len(raw)
        if depth and (not part or len(raw) - begin > _VALUE_BYTES):
            report.n_lines += 1
            what = f"object {report.n_lines:,} is never closed"
            report.note("json", what, then="What comes before is read")
        if not part or len(raw) - begin > _VALUE_BYTES:
            return
        # Drop what was processed.
        kept = begin if depth else at
        raw, at, begin = raw[kept:], at - kept, 0


def _parse(text: str, number: str, report: FileReport) -> dict | None:
    """Parse a JSON object; None, reported, if it is not one."""
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        report.note("json", f"{number} is not JSON ({error.msg}, column {error.colno})")
        return None
    except (ValueError, RecursionError) as error:
        # A number with thousands of digits, or brackets nested thousands deep.
        report.note("json", f"{number} is not JSON that can be read ({error})")
        return None
    if not isinstance(row, dict):
        report.note("json", f"{number} is not a JSON object but {type(row).__name__}")
        return None
    return row


class _NoFieldError(CorpusError):
    """A file's first object lacks the text field."""

    def __init__(self, what: str, report: FileReport) -> None:
        super().__init__(str(wrong_field(report, what)))
        self.what = what


def _text_of(
    row: dict, text_field: str | None, is_first: bool, number: str, report: FileReport
) -> str | None:
    """The text of an object. Raises _NoFieldError if a file's first object lacks the field."""
    fields = text_fields(row, text_field)
    if fields:
        return joined_text(row, fields, number, report)
    what = f"{number} {no_field(row, text_field)}"
    if is_first:
        raise _NoFieldError(what, report)
    report.note("field", what)
    return None
