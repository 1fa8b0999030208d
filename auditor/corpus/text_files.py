"""Read the documents of a text or JSON file and report its problems."""

import codecs
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from auditor.corpus.compression import BOM, decode, open_text
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
from auditor.corpus.problems import FileReport
from auditor.errors import CorpusError

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


@dataclass(frozen=True)
class Source:
    """A file to read, the field with the text, and the report of its problems.

    `is_alone`: ids need no prefix, since there is no other file or split.
    """

    file: SourceFile
    text_field: str | None
    is_alone: bool
    report: FileReport

    def document(self, record: Mapping[str, Any], text: str, ordinal: int) -> Document:
        """The document of a record, which is number `ordinal` of its file."""
        doc_id = record_id(record, self.file.name, ordinal, self.is_alone)
        return Document(doc_id, text, str(self.file.path), record_tokens(record))


def text_parts(stream: BinaryIO, size: int, report: FileReport) -> Iterator[bytes]:
    """Read plain text in parts of about `size` bytes: valid UTF-8, cut between characters.

    Valid bytes are passed on without a copy.

    >>> import io
    >>> report = FileReport(Path("a.txt"), strict=False)
    >>> [part.decode() for part in text_parts(io.BytesIO("\\ufeffxéy".encode()), 2, report)]
    ['x', 'é', 'y']
    """
    rest, offset = stream.read(len(BOM)), 0
    if rest == BOM:
        rest, offset = b"", len(BOM)
    while True:
        part = stream.read(max(size - len(rest), 1))
        raw = rest + part if rest else part
        try:
            n = len(raw) if raw.isascii() else codecs.utf_8_decode(raw, "strict", not part)[1]
            text = raw[:n]
        except UnicodeDecodeError:
            replaced, n = decode(raw, offset, report, is_end=not part)
            text = replaced.encode()
        if text:
            yield text
        if not part:
            return
        rest, offset = raw[n:], offset + n


def read_text(source: Source) -> Iterator[Document]:
    """Read a plain text file as one document, whole in memory."""
    file, report = source.file, source.report
    with open_text(file.path, report) as stream:
        text = b"".join(text_parts(stream, _PART_BYTES, report)).decode()
    if text:
        yield Document(file.name, text, str(file.path))
    else:
        report.note("empty", "the file is empty")


def read_jsonl(source: Source) -> Iterator[Document]:
    """Read JSON lines: one document per object; lines without text are reported."""
    with open_text(source.file.path, source.report) as stream:
        yield from _documents(_lines(stream, source.report), source)
    source.report.note_if_empty()


def read_json(source: Source) -> Iterator[Document]:
    """Read JSON: lines, as in C4 and Dolma, an array of objects, or an object.

    Each object is one document. Arrays are streamed. Folders often contain JSON files without
    text: if a file that no spec names lacks the field in its first object, it is reported and
    skipped.
    """
    report = source.report
    try:
        if _is_lines(source.file.path):
            yield from read_jsonl(source)
            return
        report.unit = "objects"
        with open_text(source.file.path, report) as stream:
            yield from _documents(_objects(stream, report), source)
        report.note_if_empty()
    except _NoFieldError as error:
        if report.is_named:
            raise
        report.note("field", error.what, then="The file is skipped")


class _NoFieldError(CorpusError):
    """A file's first object lacks the text field."""

    def __init__(self, what: str, report: FileReport) -> None:
        super().__init__(str(wrong_field(report, what)))
        self.what = what


def _documents(rows: Iterator[tuple[str, dict]], source: Source) -> Iterator[Document]:
    """The documents of (place, object) pairs. Raises _NoFieldError if the first has no text."""
    report, is_first = source.report, True
    for place, row in rows:
        fields = text_fields(row, source.text_field)
        if fields:
            if text := joined_text(row, fields, place, report):
                yield source.document(row, text, report.n_lines)
        else:
            what = f"{place} {no_field(row, source.text_field)}"
            if is_first:
                raise _NoFieldError(what, report)
            report.note("field", what)
        is_first = False


def decoded_lines(stream: BinaryIO, report: FileReport) -> Iterator[str]:
    """The lines of a stream as text, without a byte order mark; counts them in the report."""
    offset = 0
    for line in stream:
        report.n_lines += 1
        begin, offset = offset, offset + len(line)
        if begin == 0 and line.startswith(BOM):
            line, begin = line[len(BOM) :], len(BOM)
        yield decode(line, begin, report)[0]


def _lines(stream: BinaryIO, report: FileReport) -> Iterator[tuple[str, dict]]:
    """The objects of JSON lines, with their places."""
    for line in decoded_lines(stream, report):
        if line.strip(" \t\n\r\v\f"):
            place = f"line {report.n_lines:,}"
            row = _parse(line, place, report)
            if row is not None:
                yield place, row


def _objects(stream: BinaryIO, report: FileReport) -> Iterator[tuple[str, dict]]:
    """The objects of an array, or consecutive objects, with their places."""
    for raw in _values(stream, report):
        report.n_lines += 1
        place = f"object {report.n_lines:,}"
        row = _parse(decode(raw, 0, report, place=f"{place}: ")[0], place, report)
        if row is not None:
            yield place, row


def _is_lines(path: Path) -> bool:
    """Whether a JSON file has one value on each line, which its first line shows."""
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
                        what = "there is more text after the array"
                        report.note("json", what, then="The array is read")
                    return
                if depth <= 0:
                    depth = 0
                    yield raw[begin : token.end()]
        else:
            at = len(raw)
        if depth and (not part or len(raw) - begin > _VALUE_BYTES):
            report.n_lines += 1
            what = f"object {report.n_lines:,} is never closed"
            report.note("json", what, then="The objects before it are read")
        if not part or len(raw) - begin > _VALUE_BYTES:
            return
        # Drop what was processed.
        kept = begin if depth else at
        raw, at, begin = raw[kept:], at - kept, 0


def _parse(text: str, place: str, report: FileReport) -> dict | None:
    """Parse a JSON object; None, reported, if it is not one."""
    try:
        row = json.loads(text)
        if isinstance(row, dict):
            return row
        why = f"is not a JSON object but {type(row).__name__}"
    except json.JSONDecodeError as error:
        why = f"is not JSON ({error.msg}, column {error.colno})"
    except (ValueError, RecursionError) as error:
        # A number with thousands of digits, or brackets nested thousands deep.
        why = f"is not readable JSON ({error})"
    report.note("json", f"{place} {why}")
    return None
