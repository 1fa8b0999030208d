"""File formats: one file -> its documents, and a report of what was wrong in it."""

import codecs
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from auditor.corpora.files import SourceFile
from auditor.errors import CorpusError

_TEXT_FIELDS = ("text", "content", "body", "document")
_ID_FIELDS = ("id", "doc_id")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Document:
    """A document of a corpus: a stable id, its text, and the file it came from."""

    doc_id: str
    text: str
    source: str


@dataclass(frozen=True)
class Problem:
    """What was wrong in one file: the kind, how often, and a sentence that locates the first."""

    path: str
    kind: str
    n: int
    message: str


class FileReport:
    """Collects what is wrong in one file, or stops at the first when strict."""

    def __init__(self, path: Path, strict: bool):
        self.path = path
        self.strict = strict
        self.n_lines = 0
        self._first: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    def note(self, kind: str, what: str, n: int = 1) -> None:
        """Count a problem; `what` is a clause that locates it. Raises CorpusError when strict.

        >>> report = FileReport(Path("a.txt"), strict=False)
        >>> report.note("utf8", "byte 7 is not UTF-8", n=2)
        >>> report.problems()[0].message
        'a.txt: byte 7 is not UTF-8. 2 place(s) replaced by U+FFFD; strict stops instead.'
        """
        # An empty file says nothing wrong: it must not stop a strict reading.
        if self.strict and kind != "empty":
            raise CorpusError(f"{self.path}: {what}. Mend it, or read without strict.")
        self._first.setdefault(kind, what)
        self._counts[kind] += n

    def problems(self) -> list[Problem]:
        """One problem for each kind that was met, in the order of their first place."""
        return [
            Problem(str(self.path), kind, self._counts[kind], f"{self.path}: {what}. {tail}")
            for kind, what in self._first.items()
            for tail in [self._consequence(kind)]
        ]

    def _consequence(self, kind: str) -> str:
        n = self._counts[kind]
        if kind == "utf8":
            return f"{n:,} place(s) replaced by U+FFFD; strict stops instead."
        if kind == "empty":
            return f"{n:,} of {self.n_lines:,} lines skipped." if self.n_lines else "Skipped."
        if self.n_lines:
            return f"{n:,} of {self.n_lines:,} lines skipped; strict stops instead."
        return "Skipped; strict stops instead."


def decode(raw: bytes, offset: int, report: FileReport) -> str:
    """UTF-8 bytes to text; what cannot be decoded is reported and becomes U+FFFD.

    `offset` is where in the file `raw` begins.

    >>> decode(b"caf\\xc3\\xa9", 0, FileReport(Path("a.txt"), strict=True))
    'café'
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        text = raw.decode("utf-8", "replace")
        # A U+FFFD may also stand in the file itself; that one is not ours.
        n_replaced = text.count("\ufffd") - raw.count(b"\xef\xbf\xbd")
        what = f"byte {offset + error.start:,} is not UTF-8 (0x{raw[error.start]:02x}, "
        report.note("utf8", f"{what}{error.reason})", n_replaced)
        return text


def first_undecodable(path: Path) -> int | None:
    """The first byte of a file that is not UTF-8, or None; read in parts, however large it is.

    >>> first_undecodable(Path(__file__)) is None
    True
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = 0
    with path.open("rb") as stream:
        while True:
            part = stream.read(1 << 20)
            # The decoder keeps back a character that is cut; its bytes come first.
            n_kept = len(decoder.getstate()[0])
            try:
                decoder.decode(part, final=not part)
            except UnicodeDecodeError as error:
                return offset - n_kept + error.start
            if not part:
                return None
            offset += len(part)


def read_text(
    file: SourceFile, text_field: str | None, is_alone: bool, report: FileReport
) -> Iterator[Document]:
    """A plain text file: one document, its text as it stands."""
    raw = file.path.read_bytes()
    offset = len(_BOM) if raw.startswith(_BOM) else 0
    text = decode(raw[offset:], offset, report)
    if text:
        yield Document(file.name, text, str(file.path))
    else:
        report.note("empty", "the file is empty")


def read_jsonl(
    file: SourceFile, text_field: str | None, is_alone: bool, report: FileReport
) -> Iterator[Document]:
    """JSON lines: one document an object; lines that give no text are reported."""
    offset = 0
    is_first = True
    with file.path.open("rb") as stream:
        for line in stream:
            report.n_lines += 1
            begin, offset = offset, offset + len(line)
            if begin == 0 and line.startswith(_BOM):
                line, begin = line[len(_BOM) :], len(_BOM)
            if not line.strip():
                continue
            row = _parse(line, begin, report)
            if row is None:
                continue
            text = _text_of(row, text_field, is_first, report)
            is_first = False
            if text:
                doc_id = _id_of(row, file, is_alone, report.n_lines)
                yield Document(doc_id, text, str(file.path))
    if report.n_lines == 0:
        report.note("empty", "the file is empty")


def _parse(line: bytes, begin: int, report: FileReport) -> dict | None:
    """A line's JSON object, or None if it has none, which is reported."""
    number = f"line {report.n_lines:,}"
    try:
        row = json.loads(decode(line, begin, report))
    except json.JSONDecodeError as error:
        report.note("json", f"{number} is not JSON ({error.msg}, column {error.colno})")
        return None
    except (ValueError, RecursionError) as error:
        # A number of thousands of digits, or brackets nested thousands deep.
        report.note("json", f"{number} is not JSON that can be read ({error})")
        return None
    if not isinstance(row, dict):
        report.note("json", f"{number} is not a JSON object but {type(row).__name__}")
        return None
    return row


def _text_of(row: dict, text_field: str | None, is_first: bool, report: FileReport) -> str | None:
    """The text of an object. Missing in a file's first object: the wrong field, an error."""
    names = (text_field,) if text_field else _TEXT_FIELDS
    name = next((name for name in names if name in row), None)
    number = f"line {report.n_lines:,}"
    if name is None:
        wanted = repr(text_field) if text_field else f"any of {', '.join(_TEXT_FIELDS)}"
        what = f"{number} has no field {wanted}; it has {', '.join(row) or 'none'}"
        if is_first:
            raise CorpusError(f"{report.path}: {what}. Set text_field to the one that holds text.")
        report.note("field", what)
        return None
    text = row[name]
    if not isinstance(text, str):
        report.note("field", f"{number}: {name} is not text but {type(text).__name__}")
        return None
    if not text:
        report.note("empty", f"{number} has empty text")
    return text


def _id_of(row: dict, file: SourceFile, is_alone: bool, line: int) -> str:
    """The object's own id where it has one (NAME#ID among several files), else NAME:LINE."""
    for name in _ID_FIELDS:
        if isinstance(row.get(name), str | int):
            return str(row[name]) if is_alone else f"{file.name}#{row[name]}"
    return f"{file.name}:{line}"
