"""Training text, streamed: files, folders and globs -> documents.

A corpus can be iterated any number of times; each time it is read anew from disk, in the same
order and with the same ids, so a corpus larger than memory is no trouble. Nothing that goes wrong
inside a file is lost: it is counted, located and told, and `strict` stops at the first instead.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from auditor.corpora.files import SourceFile, list_files
from auditor.corpora.formats import (
    Document,
    FileReport,
    Problem,
    first_undecodable,
    read_jsonl,
    read_text,
)
from auditor.errors import CorpusError

__all__ = ["Corpus", "Document", "Problem", "read_corpus"]

_Reader = Callable[[SourceFile, str | None, bool, FileReport], Iterator[Document]]

# What an ending is read with. An ending in neither table is read as text if it is UTF-8.
_READERS: dict[str, _Reader] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".txt": read_text,
    ".text": read_text,
    ".md": read_text,
    ".rst": read_text,
    ".tex": read_text,
    ".html": read_text,
    ".htm": read_text,
    ".xml": read_text,
    ".py": read_text,
    ".c": read_text,
    ".h": read_text,
    ".cpp": read_text,
    ".java": read_text,
    ".js": read_text,
    ".rs": read_text,
    ".go": read_text,
}

# Formats that hold many documents or are packed: as plain text they would match wrongly.
_NOT_READ = (
    *(".json", ".csv", ".tsv", ".parquet", ".arrow", ".feather"),
    *(".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".wet", ".warc"),
)

_N_PROBLEMS_KEPT = 20


@dataclass(eq=False)
class Corpus:
    """Documents streamed from files; made by `read_corpus`.

    Iterating yields `Document`s. The counters describe the latest iteration and are complete when
    it has ended: `n_documents`; `n_bytes` of text as UTF-8; `problems`, the first 20, one for each
    file and kind; `problem_counts`, how often each kind was met in all.
    """

    files: list[SourceFile] = field(repr=False)
    text_field: str | None = None
    strict: bool = False
    n_documents: int = field(default=0, init=False)
    n_bytes: int = field(default=0, init=False)
    problems: list[Problem] = field(default_factory=list, init=False)
    problem_counts: Counter[str] = field(default_factory=Counter, init=False)

    def __iter__(self) -> Iterator[Document]:
        self.n_documents = self.n_bytes = 0
        self.problems, self.problem_counts = [], Counter()
        # Ids that are unique in one file need not be so in two.
        is_alone = len(self.files) == 1
        for file in self.files:
            report = FileReport(file.path, self.strict)
            reader = _READERS.get(file.path.suffix.lower(), read_text)
            try:
                if _may_read(file, report):
                    for document in reader(file, self.text_field, is_alone, report):
                        self.n_documents += 1
                        self.n_bytes += n_utf8_bytes(document.text)
                        yield document
            except OSError as error:
                _refuse(file, report, "unreadable", f"cannot be read ({error.strerror})")
            self._note(report)
        if self.n_documents == 0:
            raise CorpusError(self._nothing_found())

    def fingerprint(self) -> list[tuple[str, int, str]]:
        """What exactly was read: (path as given, size in bytes, sha256) of every file."""
        rows = []
        for file in self.files:
            try:
                with file.path.open("rb") as stream:
                    digest = hashlib.file_digest(stream, "sha256").hexdigest()
                    rows.append((str(file.path), stream.tell(), digest))
            except OSError:
                # Counted as a problem by the iteration; it gave no text, so it has no print.
                continue
        return rows

    def _note(self, report: FileReport) -> None:
        for problem in report.problems():
            self.problem_counts[problem.kind] += problem.n
            if len(self.problems) < _N_PROBLEMS_KEPT:
                self.problems.append(problem)

    def _nothing_found(self) -> str:
        why = f" First problem: {self.problems[0].message}" if self.problems else ""
        return (
            f"The corpus has no documents: {len(self.files):,} file(s) from "
            f"{self.files[0].path} on hold no text. Name files that hold text.{why}"
        )


def n_utf8_bytes(text: str) -> int:
    """Bytes of a text in UTF-8, lone surrogates included (3 bytes each).

    >>> n_utf8_bytes("aé")
    3
    """
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def read_corpus(
    specs: Sequence[str | Path], *, text_field: str | None = None, strict: bool = False
) -> Corpus:
    """Make a corpus of files, folders and globs, to be streamed as often as one likes.

    Plain text is one document a file, and a file is read whole: one of more than 1 GB should be
    cut first. JSONL is one document a line. A byte order mark at the front is dropped; otherwise
    text stays as it is, newlines included. A folder's links to files are followed, and no real
    file is read twice.

    Ids are the same in every run: a text file's path below the folder named (or its own name); a
    JSONL object's "id" or "doc_id", else NAME:LINE. Where the corpus has more than one file, an
    explicit id becomes NAME#ID, since shards often number their rows from 0 each.

    Parameters
    ----------
    specs : sequence of str or Path
        Files, folders or globs.
    text_field : str, optional
        The field of a JSONL object that holds the text; by default the first it has of text,
        content, body, document.
    strict : bool
        Stop at the first problem within a file; otherwise it is skipped or replaced, and counted.

    Returns
    -------
    Corpus

    Raises
    ------
    CorpusError
        At once: if a path is missing or its format cannot be read. While iterating: if there is
        no document at all, or a JSONL file has no such field; with strict, at any problem.

    >>> corpus = read_corpus([Path(__file__)])
    >>> [document.doc_id for document in corpus], corpus.n_documents
    (['reading.py'], 1)
    """
    files = list_files(specs)
    for file in files:
        if file.is_named and file.path.suffix.lower() in _NOT_READ:
            raise CorpusError(f"{file.path}: {_unsupported(file)}.")
    return Corpus(files, text_field, strict)


def _unsupported(file: SourceFile) -> str:
    return (
        f"{file.path.suffix} is not read; {' '.join(sorted(_READERS))} and other UTF-8 text are. "
        "Convert it to JSONL, one object a line"
    )


def _may_read(file: SourceFile, report: FileReport) -> bool:
    """Whether a file found in a folder is of a kind that is read; reports it if not."""
    suffix = file.path.suffix.lower()
    if not file.path.is_file():
        _refuse(file, report, "unreadable", "is no file, or a link to nothing")
        return False
    if suffix in _NOT_READ:
        report.note("unsupported", _unsupported(file))
        return False
    if suffix not in _READERS and not file.is_named:
        place = first_undecodable(file.path)
        if place is not None:
            report.note("binary", f"is not UTF-8 text (byte {place:,})")
            return False
    return True


def _refuse(file: SourceFile, report: FileReport, kind: str, what: str) -> None:
    """Report a file that cannot be opened; one that was named is an error."""
    if file.is_named:
        raise CorpusError(f"{file.path}: {what}. Check its permissions or leave it out.")
    report.note(kind, what)
