"""Open files as byte streams, decompressed (gzip, Zstandard, xz) and recoded to UTF-8."""

import codecs
import io
import lzma
import zlib
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from auditor.corpus.problems import FileReport
from auditor.errors import CorpusError

BOM = codecs.BOM_UTF8
# Read compressed bytes in small parts: they may expand a thousandfold.
_COMPRESSED_BYTES = 1 << 14
# The largest window, that of `zstd --long=31`.
_ZSTD_WINDOW = 1 << 31
# Limit on Brotli's output for one call, against decompression bombs.
_BROTLI_BYTES = 1 << 28
# Bytes read to detect the encoding, and bytes decoded at a time.
_HEAD_BYTES = 1 << 12
_DECODED_BYTES = 1 << 16
# UTF-32 first: its little-endian mark begins with that of UTF-16.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def _zstd() -> Any:
    import zstandard

    return zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()


class _Brotli:
    """A Brotli decompressor with the interface of zlib's."""

    unused_data = b""

    def __init__(self) -> None:
        import brotli

        self._packed = brotli.Decompressor()

    @property
    def eof(self) -> bool:
        return self._packed.is_finished()

    def decompress(self, raw: bytes) -> bytes:
        text = self._packed.process(raw, output_buffer_limit=_BROTLI_BYTES)
        if not self._packed.can_accept_more_data():
            raise ValueError(f"{len(raw):,} bytes expand to more than {_BROTLI_BYTES:,}")
        return text


def _deflate(body: bytes) -> Any:
    """RFC 9110 requires the zlib format; some servers omit its two-byte header."""
    has_header = len(body) > 1 and body[0] & 15 == 8 and int.from_bytes(body[:2]) % 31 == 0
    return zlib.decompressobj(15 if has_header else -15)


_COMPRESSIONS: dict[str, tuple[str, Callable[[], Any]]] = {
    ".gz": ("gzip", lambda: zlib.decompressobj(wbits=31)),
    ".xz": ("xz", lzma.LZMADecompressor),
    ".zst": ("Zstandard", _zstd),
}


# HTTP content codings.
_CODINGS: dict[str, Callable[[bytes], Any]] = {
    "gzip": lambda body: zlib.decompressobj(wbits=31),
    "deflate": _deflate,
    "br": lambda body: _Brotli(),
    "zstd": lambda body: _zstd(),
}


def ending(path: Path) -> str:
    """A file's extension in lower case, without that of its compression.

    >>> ending(Path("a.jsonl.GZ")), ending(Path("a.csv")), ending(Path("notes.xz"))
    ('.jsonl', '.csv', '')
    """
    if is_packed(path):
        path = path.with_suffix("")
    return path.suffix.lower()


def is_packed(path: Path) -> bool:
    """Whether a file's extension is that of a supported compression.

    >>> is_packed(Path("a.jsonl.zst")), is_packed(Path("a.zip"))
    (True, False)
    """
    return path.suffix.lower() in _COMPRESSIONS


def open_stream(path: Path, report: FileReport) -> BinaryIO:
    """Open a file for reading, decompressed according to its extension.

    Truncated or corrupt data ends the stream and is reported; all data before it is read. Raises
    CorpusError if a package is missing, or no data of a named file can be decompressed.
    """
    if not is_packed(path):
        return path.open("rb")
    name, make = _COMPRESSIONS[path.suffix.lower()]
    try:
        make()
    except ImportError:
        raise missing_package("zstandard", path) from None
    return io.BufferedReader(_Decompressed(path.open("rb"), name, make, report), 1 << 16)


def open_text(path: Path, report: FileReport) -> BinaryIO:
    """`open_stream` for text: UTF-16 and UTF-32 with a byte order mark are recoded to UTF-8."""
    if report.is_named:
        refuses_unmarked(path, report)
    encoding = marked_encoding(file_head(path))
    stream = open_stream(path, report)
    if encoding is None:
        return stream
    return io.BufferedReader(_Recoded(stream, encoding, report), _DECODED_BYTES)


def marked_encoding(head: bytes) -> str | None:
    """The encoding given by a UTF-16 or UTF-32 byte order mark.

    >>> marked_encoding("é".encode("utf-16")), marked_encoding(b"text")
    ('utf-16-le', None)
    """
    return next((name for mark, name in _BYTE_ORDER_MARKS if head.startswith(mark)), None)


def refuses_unmarked(path: Path, report: FileReport) -> bool:
    """Whether a text is UTF-16 or UTF-32 without a byte order mark; if so, refuse it.

    Nearly every other byte is then NUL. The text is valid UTF-8, but no word would ever match.
    """
    head = file_head(path)
    n = len(head) // 2
    fewer, more = sorted((head[: 2 * n : 2].count(0), head[1 : 2 * n : 2].count(0)))
    if n < 2 or marked_encoding(head) or 2 * more <= n or 10 * fewer > 6 * n:
        return False
    what = "the file is UTF-16 without a byte order mark (every other byte is NUL)"
    report.refuse("utf16-unmarked", what, "Save it as UTF-8, or with the mark")
    return True


def file_head(path: Path) -> bytes:
    """The first bytes of a file, decompressed."""
    with open_stream(path, FileReport(path, strict=False)) as stream:
        return stream.read(_HEAD_BYTES)


def decode(
    raw: bytes,
    offset: int,
    report: FileReport,
    *,
    place: str = "",
    encoding: str = "utf-8",
    is_end: bool = True,
) -> tuple[str, int]:
    """Decode UTF-8, UTF-16 or UTF-32; returns the text and the number of bytes decoded.

    Invalid bytes are reported and become U+FFFD. `offset` is the position of `raw` in the file, or
    in the record that `place` names. Unless `is_end`, an incomplete last character is left over.

    >>> decode("é".encode()[:1], 0, FileReport(Path("a.txt"), strict=True), is_end=False)
    ('', 0)
    """
    convert = getattr(codecs, encoding.replace("-", "_") + "_decode")
    try:
        return convert(raw, "strict", is_end)
    except UnicodeDecodeError as error:
        text, n = convert(raw, "replace", is_end)
        # Do not count U+FFFD characters that the file itself contains.
        own, _ = convert(raw, "ignore", is_end)
        what = f"{place}byte {offset + error.start:,} is not {encoding.upper()}"
        why = f"0x{raw[error.start]:02x}, {error.reason}"
        kind = "utf8" if encoding == "utf-8" else "utf16"
        report.note(kind, f"{what} ({why})", text.count("\ufffd") - own.count("\ufffd"))
        return text, n


class _Converted(io.RawIOBase):
    """A stream converted from another one, part by part."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._stream.close()
        super().close()

    def readinto(self, out: Any) -> int:
        while not self._ready:
            part = self._next()
            if part is None:
                return 0
            self._ready = memoryview(part)
        n = min(len(out), len(self._ready))
        out[:n] = self._ready[:n]
        self._ready = self._ready[n:]
        return n

    @abstractmethod
    def _next(self) -> bytes | None:
        """The next bytes, possibly none; None at the end."""


class _Recoded(_Converted):
    """UTF-16 or UTF-32 with a byte order mark, recoded to UTF-8 without one."""

    def __init__(self, stream: BinaryIO, encoding: str, report: FileReport) -> None:
        super().__init__(stream)
        self._encoding, self._report = encoding, report
        self._rest = b""
        self._offset = len(stream.read(4 if "32" in encoding else 2))

    def _next(self) -> bytes | None:
        part = self._stream.read(_DECODED_BYTES)
        raw = self._rest + part
        if not raw:
            return None
        text, n = decode(raw, self._offset, self._report, encoding=self._encoding, is_end=not part)
        self._rest, self._offset = raw[n:], self._offset + n
        return text.encode()


def unpack(body: bytes, coding: str, limit: int) -> tuple[bytes, str]:
    """Decompress an HTTP body; returns it with a description of any error, or "".

    Raises LookupError for an unsupported coding, and ImportError if a package is missing.

    >>> unpack(zlib.compress(b"text"), "deflate", 100)
    (b'text', '')
    """
    make = _CODINGS[coding]
    make(body)
    report = FileReport(Path(), strict=False)
    stream = _Decompressed(io.BytesIO(body), coding, lambda: make(body), report)
    with io.BufferedReader(stream) as reader:
        text = reader.read(limit)
        is_more = bool(reader.read(1))
    if is_more:
        return text, f"it is longer than {limit:,} bytes"
    return text, report.first("packed")


def missing_package(package: str, path: Path) -> CorpusError:
    """The error for an optional package that is not installed."""
    return CorpusError(
        f"{path} needs {package}. Install it with: pip install '.[corpora]' in a checkout."
    )


class _Decompressed(_Converted):
    """Any number of concatenated compressed members, decompressed."""

    def __init__(self, packed: BinaryIO, name: str, make: Callable, report: FileReport) -> None:
        super().__init__(packed)
        self._name, self._make, self._report = name, make, report
        self._member: Any = None
        self._rest = b""
        self._n_members = self._n_bytes = 0
        self._is_over = False

    def _next(self) -> bytes | None:
        if self._is_over:
            return None
        packed = self._rest or self._stream.read(_COMPRESSED_BYTES)
        self._rest = b""
        if not packed:
            self._is_over = True
            if self._member is not None:
                self._report_error("is truncated")
            return None
        if self._member is None:
            # Members may be padded with zeros, for instance on tapes.
            packed = packed.lstrip(b"\0") if self._n_members else packed
            if not packed:
                return b""
            self._member = self._make()
        try:
            text = self._member.decompress(packed)
        except Exception as error:
            # zlib.error, LZMAError and ZstdError share no base class, and one may be missing.
            self._is_over = True
            self._report_error(f"is corrupt ({error})")
            return None
        self._n_bytes += len(text)
        if self._member.eof:
            self._rest, self._member = self._member.unused_data, None
            self._n_members += 1
        return text

    def _report_error(self, what: str) -> None:
        if self._n_bytes == 0:
            self._report.refuse("packed", f"its {self._name} data {what}")
        else:
            what = f"its {self._name} data {what} after {self._n_bytes:,} bytes of text"
            self._report.note("packed", what, then="The text before it is read")
