"""Recognize files that are not text, by their first bytes."""

from pathlib import Path

from auditor.corpus.compression import file_head, marked_encoding, refuses_unmarked
from auditor.corpus.problems import FileReport

_SIGNATURES = {
    b"\x7fELF": "an ELF program or library",
    b"\x89PNG\r\n\x1a\n": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF87a": "a GIF image",
    b"GIF89a": "a GIF image",
    b"%PDF-": "a PDF document",
    b"PK\x03\x04": "a ZIP archive (also .docx, .xlsx, .npz and .pt)",
    b"Rar!\x1a\x07": "a RAR archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"\x1f\x8b\x08": "gzip data; name it .gz",
    b"\x28\xb5\x2f\xfd": "Zstandard data; name it .zst",
    b"\xfd7zXZ\x00": "xz data; name it .xz",
    b"BZh91AY&SY": "bzip2 data",
    b"SQLite format 3\x00": "an SQLite database",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"PAR1\x15": "a Parquet table; name it .parquet",
    b"ARROW1\x00\x00": "an Arrow table",
    b"GGUF\x02\x00\x00\x00": "a GGUF model",
    b"GGUF\x03\x00\x00\x00": "a GGUF model",
    b"\x80\x04\x95": "a Python pickle",
    b"\x00asm": "a WebAssembly module",
    b"\xca\xfe\xba\xbe": "a Java class or a macOS program",
    b"\xcf\xfa\xed\xfe": "a macOS program",
}
_TAR_MARK = 257  # offset of "ustar" in a tar header
_MOST_CONTROLS = 0.1  # share of control characters in text
_CONTROLS = bytes({*range(32), 127} - set(b"\t\n\v\f\r\b\x1b"))


def refuses_binary(path: Path, report: FileReport) -> bool:
    """Refuse a file whose first bytes are not text, or UTF-16 without a mark; returns whether."""
    head = file_head(path)
    if marked_encoding(head):
        return False
    kind = known_kind(head, path.stat().st_size)
    if kind is None and refuses_unmarked(path, report):
        return True
    if kind := kind or _with_controls(head):
        report.refuse("binary", f"the file is not text: it seems to be {kind}", "Name text files")
    return kind is not None


def known_kind(head: bytes, size: int) -> str | None:
    """The kind of a binary file, in words; None if its first bytes are those of no known kind.

    head : its first bytes
    size : bytes of the whole file

    >>> known_kind(b"\x7fELF\x02", 1000), known_kind(b"Elf", 3)
    ('an ELF program or library', None)
    """
    for signature, kind in _SIGNATURES.items():
        if head.startswith(signature):
            return kind
    if head[_TAR_MARK : _TAR_MARK + 5] == b"ustar":
        return "a tar archive"
    # The length of the header, which is JSON.
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") <= size:
        return "a safetensors file (the weights of a model)"
    return None


def _with_controls(head: bytes) -> str | None:
    """Binary data of an unknown kind, in words; None if there are few control characters."""
    n_controls = len(head) - len(head.translate(None, _CONTROLS))
    if n_controls <= _MOST_CONTROLS * len(head):
        return None
    return f"binary data ({n_controls / len(head):.0%} of its start are control characters)"
