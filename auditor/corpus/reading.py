"""Stream documents from files, folders, globs and datasets.

A corpus may be larger than memory. Each iteration reads it again, in the same order and with the
same ids. Problems inside a file are counted, located and reported; `strict` stops at the first.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from auditor.corpus.binary import refuses_binary
from auditor.corpus.compression import ending, is_packed, open_stream, open_text
from auditor.corpus.files import LeftOut, SourceFile, list_files
from auditor.corpus.hub import data_files, identity, open_splits, read_dataset
from auditor.corpus.pieces import Piece, cut, to_pieces
from auditor.corpus.problems import FileReport, Problem
from auditor.corpus.tables import read_csv, read_parquet
from auditor.corpus.text_files import (
    Document,
    Source,
    read_json,
    read_jsonl,
    read_text,
    text_parts,
)
from auditor.corpus.warc import read_warc
from auditor.errors import CorpusError

__all__ = ["Corpus", "Document", "Piece", "Problem", "read_corpus"]

_Reader = Callable[[Source], Iterator[Document]]
_Part = TypeVar("_Part", Document, Piece)

_TEXT_ENDINGS = (
    *(".txt", ".text", ".md", ".rst", ".tex", ".html", ".htm", ".xml"),
    *(".py", ".c", ".h", ".cpp", ".java", ".js", ".rs", ".go"),
)
# Readers by extension. Files with other extensions are read as text if they are UTF-8.
_READERS: dict[str, _Reader] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
    ".wet": read_warc,
    ".warc": read_warc,
    **dict.fromkeys(_TEXT_ENDINGS, read_text),
}

_TEXT_READERS = (read_text, read_jsonl, read_json, read_csv)

# Unsupported tables and archives, which must not be read as plain text.
_TABLES_NOT_READ = (".arrow", ".feather")
_NOT_READ = (*_TABLES_NOT_READ, ".bz2", ".zip", ".tar", ".tgz", ".7z")

_N_PROBLEMS_KEPT = 20
# Bytes read at a time to check that a file is UTF-8.
_PART_BYTES = 1 << 20
_CHECK = "Check its permissions or leave it out"


@dataclass(eq=False)
class Corpus:
    """Documents streamed from files and datasets; created by `read_corpus`.

    Iterating yields `Document`s, each whole in memory; `pieces` yields the same text in parts.
    These attributes describe the latest iteration and are complete at its end: `n_documents`;
    `n_bytes` of text as UTF-8; `problems`, the first 20, one for each file and kind;
    `problem_counts`, the total for each kind.
    """

    files: list[SourceFile] = field(repr=False)
    text_field: str | None = None
    strict: bool = False
    left_out: list[LeftOut] = field(default_factory=list, repr=False)
    n_documents: int = field(default=0, init=False)
    n_bytes: int = field(default=0, init=False)
    problems: list[Problem] = field(default_factory=list, init=False)
    problem_counts: Counter[str] = field(default_factory=Counter, init=False)

    def __iter__(self) -> Iterator[Document]:
        return self._read(self._documents)

    def pieces(self, size: int) -> Iterator[Piece]:
        """The documents in pieces of about `size` bytes, in order; files may exceed memory.

        A document's pieces, joined and decoded, are its text. Plain text is streamed; a table row
        or a JSON record is read whole and then cut. Pieces may be shorter than `size`, or longer
        by one character or by replacements of bytes that are not UTF-8. Raises CorpusError as in
        iteration.

        >>> corpus = read_corpus([Path(__file__)])
        >>> b"".join(piece.raw for piece in corpus.pieces(100)) == Path(__file__).read_bytes()
        True
        """
        if size < 1:
            raise ValueError(f"size must be 1 or more; got {size}")
        return self._read(lambda file, report: self._pieces(file, report, size))

    def check(self) -> None:
        """Open every dataset and compressed file once, so that errors appear early.

        Raises CorpusError if a hub is unreachable or has no such dataset, config or split, or if a
        package for decompression is missing.
        """
        for file in self.files:
            if file.hub is not None:
                open_splits(file.hub)
            elif is_packed(file.path) and file.path.is_file():
                open_stream(file.path, FileReport(file.path, strict=False)).close()

    def size(self) -> int | None:
        """Approximate bytes of text in one pass, for a progress bar; None if unknown.

        >>> read_corpus([Path(__file__)]).size() == Path(__file__).stat().st_size
        True
        """
        if self.n_bytes:  # of the previous pass
            return self.n_bytes
        if any(f.hub is not None or is_packed(f.path) or f.path.is_dir() for f in self.files):
            return None
        return sum(file.path.stat().st_size for file in self.files if file.path.is_file())

    def _read(self, read: Callable[[SourceFile, FileReport], Iterator[_Part]]) -> Iterator[_Part]:
        """All parts of all files; resets the counters."""
        self.n_documents = self.n_bytes = 0
        self.problems, self.problem_counts = [], Counter()
        reports: dict[Path, FileReport] = {}
        for path, kind, what, n in self.left_out:
            reports.setdefault(path, FileReport(path, self.strict)).note(kind, what, n)
        for report in reports.values():
            self._note(report)
        for file in self.files:
            report = FileReport(file.path, self.strict, is_named=file.is_named)
            try:
                if _is_readable(file, report):
                    yield from read(file, report)
            except OSError as error:
                report.refuse("unreadable", f"the file cannot be read ({error.strerror})", _CHECK)
            self._note(report)
        if self.n_documents == 0:
            raise CorpusError(self._nothing_found())

    def _documents(self, file: SourceFile, report: FileReport) -> Iterator[Document]:
        # Ids that are unique within one file may repeat in another.
        is_alone = len(self.files) == 1
        for document in _reader(file)(Source(file, self.text_field, is_alone, report)):
            self.n_documents += 1
            self.n_bytes += n_utf8_bytes(document.text)
            yield document

    def _pieces(self, file: SourceFile, report: FileReport, size: int) -> Iterator[Piece]:
        if _reader(file) is not read_text:
            for document in self._documents(file, report):
                parts = cut(document.text.encode("utf-8", "surrogatepass"), size)
                yield from to_pieces(self.n_documents - 1, document.doc_id, parts)
            return
        n_before = self.n_documents
        with open_text(file.path, report) as stream:
            for piece in to_pieces(n_before, file.name, text_parts(stream, size, report)):
                self.n_documents += piece.is_first
                self.n_bytes += len(piece.raw)
                yield piece
        if self.n_documents == n_before:
            report.note("empty", "the file is empty")

    def fingerprint(self) -> list[tuple[str, int, str]]:
        """(path as given, size in bytes, sha256) of every file.

        For a local dataset these are its data files. A hub dataset has one row: its name, 0, and
        its revision and config.
        """
        rows = []
        for file in self.files:
            try:
                if file.hub is not None and not file.hub.is_local:
                    rows.append((str(file.path), 0, identity(file.hub)))
                    continue
                for path in data_files(file) if file.is_dataset else [file.path]:
                    with path.open("rb") as stream:
                        digest = hashlib.file_digest(stream, "sha256").hexdigest()
                        rows.append((str(path), stream.tell(), digest))
            except (OSError, CorpusError):
                continue  # Unreadable: iteration reports it as a problem.
        return rows

    def _note(self, report: FileReport) -> None:
        for problem in report.problems():
            self.problem_counts[problem.kind] += problem.n
            if len(self.problems) < _N_PROBLEMS_KEPT:
                self.problems.append(problem)

    def _nothing_found(self) -> str:
        why = f" First problem: {self.problems[0].message}" if self.problems else ""
        first = self.files[0].path
        n = len(self.files)
        sources = f"{first} holds" if n == 1 else f"{n:,} files, the first {first}, hold"
        return f"The corpus has no documents: {sources} no text. Name files that hold text.{why}"


def n_utf8_bytes(text: str) -> int:
    """Bytes of a text in UTF-8, lone surrogates included (3 bytes each).

    >>> n_utf8_bytes("aé")
    3
    """
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def read_corpus(
    specs: Sequence[str | Path], *, text_field: str | None = None, strict: bool = False
) -> Corpus:
    """Create a corpus of files, folders, globs and datasets, which can be streamed repeatedly.

    A document is a plain text file, a line of JSONL, a row of CSV, TSV or Parquet, a line of JSON
    or an object of its array, or a text record of WET or WARC. Files may be compressed (.gz, .zst,
    .xz). A folder saved by `datasets` is read with all splits; name a split's subfolder to read
    one. A hub dataset is `hf:PATH[:CONFIG][:SPLIT][:COLUMN[+COLUMN]]` and is streamed; PATH may be
    a folder in a hub's layout. A preset, such as "glue/qnli" or "wikitext", is a short name for one
    (`presets`); PRESET@FOLDER is a local copy. Text is UTF-8, or UTF-16 or UTF-32 with a byte
    order mark; the mark is removed, all else, newlines included, is kept. Links in a folder are
    followed, and each real file is read once.

    Iteration keeps one document in memory at a time. For plain text files of gigabytes, use
    `Corpus.pieces`.

    Ids are the same in every run: a text file's path relative to the given folder (or its name); a
    record's "id", "doc_id" or WARC-Record-ID, else NAME:LINE or NAME:ROW. In a corpus of several
    files or splits an explicit id becomes NAME#ID, since each shard often numbers its rows from 0.

    Parameters
    ----------
    specs : sequence of str or Path
        Files, folders, globs, hub datasets or presets.
    text_field : str, optional
        The field or column with the text, or several joined by "+", whose texts are joined by
        newlines; by default the first present of text, content, body, document, else, in tables,
        the only text column. A dot selects a nested field (translation.en), `[]` each element of a
        list (messages[].content), joined by newlines. A field whose own name contains dots takes
        precedence. Columns in the name of a hub dataset override this option.
    strict : bool
        Stop at the first problem within a file; by default skip or replace the text and count it.

    Returns
    -------
    Corpus

    Raises
    ------
    CorpusError
        At once: if a path is missing or its format is not supported. During iteration: if there
        is no document, a file lacks the field, a hub is unreachable or a package is missing; with
        strict, at any problem.

    >>> corpus = read_corpus([Path(__file__)])
    >>> [document.doc_id for document in corpus], corpus.n_documents
    (['reading.py'], 1)
    """
    files, left_out = list_files(specs)
    for file in files:
        if not file.is_named or file.is_dataset or not file.path.is_file():
            continue
        if ending(file.path) in _NOT_READ:
            raise CorpusError(f"{file.path}: {_unsupported(file)}.")
        if _reader(file) in _TEXT_READERS and not is_packed(file.path):
            with suppress(OSError):  # reported when the file is read
                refuses_binary(file.path, FileReport(file.path, strict, is_named=True))
    return Corpus(files, text_field, strict, left_out)


def _reader(file: SourceFile) -> _Reader:
    return read_dataset if file.is_dataset else _READERS.get(ending(file.path), read_text)


def _unsupported(file: SourceFile) -> str:
    is_table = ending(file.path) in _TABLES_NOT_READ
    remedy = "Convert it to JSONL, one object a line" if is_table else "Unpack it"
    return (
        f"{ending(file.path)} is not supported; {' '.join(sorted(_READERS))} and other UTF-8 text "
        f"are, also compressed as .gz, .zst or .xz. {remedy}"
    )


def _is_readable(file: SourceFile, report: FileReport) -> bool:
    """Whether a file is of a supported kind; reports it if not."""
    if file.is_dataset:
        return True
    if not file.path.is_file():
        report.refuse("unreadable", "it is not a regular file, or a broken link", _CHECK)
        return False
    if ending(file.path) in _NOT_READ:
        report.note("unsupported", _unsupported(file))
        return False
    if ending(file.path) not in _READERS and not file.is_named:
        # Errors of decompression are reported when the text is read.
        quiet = FileReport(file.path, strict=False)
        with open_text(file.path, quiet) as stream:
            for _ in text_parts(stream, _PART_BYTES, quiet):
                if why := quiet.first("utf8") or quiet.first("utf16"):
                    it = "the unpacked file" if is_packed(file.path) else "the file"
                    report.note("binary", f"{it} is not text: {why}")
                    return False
    if _reader(file) not in _TEXT_READERS:
        return True
    return not refuses_binary(file.path, report)
