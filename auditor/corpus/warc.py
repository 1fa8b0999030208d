"""Read Common Crawl archives (WET and WARC): one document per text record.

Records are split here, so that reading continues after a malformed one; warcio parses the HTTP
responses.
"""

import codecs
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from auditor.corpus.compression import (
    BOM,
    decode,
    marked_encoding,
    missing_package,
    open_text,
    unpack,
)
from auditor.corpus.problems import FileReport
from auditor.corpus.text_files import Document, Source

# A longer record must have a wrong length.
_RECORD_BYTES = 1 << 30
_LINE_BYTES = 1 << 16
_BEGIN = re.compile(rb"\r?\n(WARC/\d)")
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_AS_CONTROLS = "auditor-as-controls"
_TEXTS = ("text/", "application/xhtml+xml", "application/xml", "application/json")


@dataclass(frozen=True)
class _Record:
    headers: dict[str, str]
    head: bytes
    body: bytes


def read_warc(source: Source) -> Iterator[Document]:
    """Read WET or WARC: one document per text record, with the record's id.

    Extracted text (WET's "conversion") and text resources are kept as they are. Text responses are
    read with their markup, decompressed (gzip, deflate, br, zstd), and decoded in the charset that
    the server declares, else as UTF-8. Records that are not text, such as requests and images, are
    skipped.
    """
    report = source.report
    report.unit = "records"
    with open_text(source.file.path, report) as stream:
        for record in _records(stream, report):
            place = f"record {report.n_lines:,}"
            text = _text_of(record, place, report)
            if text:
                own = record.headers.get("warc-record-id", "").strip("<>")
                yield source.document({"id": own}, text, report.n_lines)
            elif text is not None:
                report.note("empty", f"{place} has empty text")
    report.note_if_empty()


def _records(stream: BinaryIO, report: FileReport) -> Iterator[_Record]:
    """All complete records; data between records is reported and skipped."""
    archive = _Input(stream)
    is_lost = False
    while True:
        line = archive.readline()
        if not line:
            return
        if not line.strip():
            continue
        if not line.startswith(b"WARC/"):
            if not is_lost:
                report.n_lines += 1
                report.note("warc", f"record {report.n_lines:,} does not begin with WARC/")
            is_lost = True
            continue
        report.n_lines += 1
        record = _record(archive, line, report)
        # Data after a malformed record, up to the next record, is its rest.
        is_lost = record is None
        if record is not None:
            yield record


class _Input:
    """A stream with pushback."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._again = stream, io.BytesIO()

    def readline(self) -> bytes:
        line = self._again.readline(_LINE_BYTES)
        if line.endswith(b"\n") or len(line) == _LINE_BYTES:
            return line
        return line + self._stream.readline(_LINE_BYTES - len(line))

    def read(self, n: int) -> bytes:
        raw = self._again.read(n)
        return raw if len(raw) == n else raw + self._stream.read(n - len(raw))

    def push_back(self, raw: bytes) -> None:
        self._again = io.BytesIO(raw + self._again.read())


def _record(archive: _Input, first: bytes, report: FileReport) -> _Record | None:
    """The record that begins with this line; None, reported, if it is malformed."""
    place = f"record {report.n_lines:,}"
    lines = [first]
    while lines[-1].strip():
        lines.append(archive.readline())
    headers = {}
    for line in lines[1:]:
        name, _, value = line.decode("utf-8", "replace").partition(":")
        headers[name.strip().lower()] = value.strip()
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()) or int(length) > _RECORD_BYTES:
        report.note("warc", f"{place} has an invalid length ({length or 'none'})")
        return None
    body = archive.read(int(length))
    if len(body) < int(length):
        n_missing = int(length) - len(body)
        _push_back_records(archive, body)
        report.note("warc", f"{place} is truncated: {n_missing:,} bytes are missing")
        return None
    after = archive.readline()
    if after.strip():
        _push_back_records(archive, body + after)
        report.note("warc", f"{place} does not have its declared length of {int(length):,} bytes")
        return None
    return _Record(headers, b"".join(lines), body)


def _push_back_records(archive: _Input, raw: bytes) -> None:
    """Push back the records that a malformed one, with too great a length, contains."""
    begin = _BEGIN.search(raw)
    if begin is not None:
        archive.push_back(raw[begin.start(1) :])


def _text_of(record: _Record, place: str, report: FileReport) -> str | None:
    """A record's text; None if it is not text, or, reported, if it is malformed."""
    kind = record.headers.get("warc-type", "")
    content_type = record.headers.get("content-type", "")
    body = record.body
    codings: list[str] = []
    is_response = kind == "response" and content_type.startswith("application/http")
    if is_response:
        try:
            from warcio.archiveiterator import ArchiveIterator
            from warcio.bufferedreaders import ChunkedDataReader
        except ImportError:
            raise missing_package("warcio", report.path) from None
        try:
            inner = next(iter(ArchiveIterator(io.BytesIO(record.head + body + b"\r\n\r\n"))))
            content_type = inner.http_headers.get_header("Content-Type") or ""
            codings = _codings(inner.http_headers.get_header("Content-Encoding"))
            sent = _codings(inner.http_headers.get_header("Transfer-Encoding"))
            stream = inner.raw_stream
            if sent[-1:] == ["chunked"]:
                stream, sent = ChunkedDataReader(stream), sent[:-1]
            codings += sent
            body = stream.read()
        except Exception as error:
            # warcio passes on any error of its parsers.
            report.note("warc", f"{place} is not a valid response ({error})")
            return None
    elif kind not in ("conversion", "resource"):
        return None
    if not content_type.lower().startswith(_TEXTS):
        return None
    for coding in reversed(codings):
        plain = _remove_coding(coding, body, place, report)
        if plain is None:
            return None
        body = plain
    return _decode(body, content_type, place, report)


def _codings(header: str | None) -> list[str]:
    """The codings of a header, in the order in which they were applied."""
    names = [name.strip().lower().removeprefix("x-") for name in (header or "").split(",")]
    return [name for name in names if name not in ("", "identity", "none")]


def _remove_coding(coding: str, body: bytes, place: str, report: FileReport) -> bytes | None:
    """Remove one coding of a body (RFC 9110, section 8.4); None, reported, on failure.

    A crawler may have decompressed a body but kept its header, so plain text is accepted.
    """
    if not body:
        return body
    what = f"{place} has the content coding {coding}"
    try:
        text, wrong = unpack(body, coding, _RECORD_BYTES)
    except LookupError:
        report.note("coding", f"{what}, which is not supported")
        return None
    except ImportError as error:
        if _is_text(body):
            return body
        install = "pip install '.[corpora]' in a checkout"
        report.note("coding", f"{what}, which needs {error.name}: {install}")
        return None
    if wrong and _is_text(body):  # plain text may begin like compressed data
        return body
    if wrong and not text:
        report.note("coding", f"{what}, but {wrong}")
        return None
    if wrong:
        report.note("coding-cut", f"{what}, but {wrong}", then="The text before it is read")
    return text


def _is_text(body: bytes) -> bool:
    """Whether bytes are UTF-8 without the control characters of binary data."""
    try:
        return not _CONTROLS.search(body.decode("utf-8"))
    except UnicodeDecodeError:
        return False


def _decode(body: bytes, content_type: str, place: str, report: FileReport) -> str:
    """Decode a body by its byte order mark, else the declared charset, else as UTF-8.

    Labels follow the web (WHATWG, Encoding Standard, section 4.2): ISO-8859-1, for instance, means
    windows-1252.
    """
    charset = ""
    for part in content_type.split(";")[1:]:
        name, _, value = part.partition("=")
        if name.strip().lower() == "charset":
            charset = value.strip().strip("\"'")
    encoding = marked_encoding(body)
    if encoding is not None:
        body = body[4 if "32" in encoding else 2 :]
    elif charset and not body.startswith(BOM):
        encoding = _encoding(charset, report)
    if encoding is None:
        return decode(body.removeprefix(BOM), 0, report, place=f"{place}: ")[0]
    try:
        return body.decode(encoding, _AS_CONTROLS)
    except UnicodeError as error:
        if _is_text(body):
            return body.decode("utf-8")
        text = body.decode(encoding, "replace")
        # Do not count U+FFFD characters that the page itself contains.
        n_replaced = text.count("\ufffd") - body.decode(encoding, "ignore").count("\ufffd")
        at = f" at byte {error.start:,}" if isinstance(error, UnicodeDecodeError) else ""
        report.note("charset", f"{place} is not {charset or encoding}{at}", n_replaced)
        return text


def _encoding(label: str, report: FileReport) -> str | None:
    """Python's name for an encoding label; None for UTF-8 and unknown labels."""
    if label.lower() in ("utf-8", "utf8"):
        return None
    try:
        import webencodings
    except ImportError:
        raise missing_package("webencodings", report.path) from None
    found = webencodings.lookup(label)
    if found is not None and found.name == "utf-8":
        return None
    if found is not None and found.name not in ("replacement", "x-user-defined"):
        # The standard reads GBK as GB18030, its superset.
        return "gb18030" if found.name == "gbk" else found.codec_info.name
    try:
        # Unknown on the web, or refused by browsers for security reasons.
        " ".encode(label)
    except (LookupError, ValueError):
        return None
    return codecs.lookup(label).name


def _as_controls(error: UnicodeError) -> tuple[str, int]:
    """Decode bytes 0x80 to 0x9F that a code page leaves undefined as control characters."""
    if isinstance(error, UnicodeDecodeError) and error.encoding == "charmap":
        raw = error.object[error.start : error.end]
        if all(0x80 <= byte <= 0x9F for byte in raw):
            return raw.decode("latin-1"), error.end
    raise error


codecs.register_error(_AS_CONTROLS, _as_controls)
