"""Count and locate the problems of a file, with one message for each kind."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from auditor.errors import CorpusError

# These are no errors, so strict reading continues.
_HARMLESS = ("empty", "empty-split", "left-out")


@dataclass(frozen=True)
class Problem:
    """A kind of problem in one file, its count, and a message that locates the first."""

    path: str
    kind: str
    n: int
    message: str


class FileReport:
    """Collects the problems of one file; when strict, raises at the first.

    Readers count lines in `n_lines`, or other units, named in `unit`.
    """

    def __init__(self, path: Path, strict: bool, *, is_named: bool = False):
        self.path = path
        self.strict = strict
        self.is_named = is_named
        self.n_lines = 0
        self.unit = "lines"
        self._first: dict[str, str] = {}
        self._then: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    def note(self, kind: str, what: str, n: int = 1, *, then: str = "") -> None:
        """Count a problem, which `what` describes and locates. Raises CorpusError when strict.

        `then` states the consequence, by default that `n` lines are skipped.

        >>> report = FileReport(Path("a.txt"), strict=False)
        >>> report.note("utf8", "byte 7 is not UTF-8", n=2)
        >>> report.problems()[0].message
        'a.txt: byte 7 is not UTF-8. 2 place(s) replaced by U+FFFD; strict stops instead.'
        """
        if self.strict and kind not in _HARMLESS:
            raise CorpusError(f"{self.path}: {what}. Mend it, or read without strict.")
        if kind not in self._first:
            self._first[kind], self._then[kind] = what, then
        self._counts[kind] += n

    def refuse(self, kind: str, what: str, remedy: str = "Mend it or leave it out") -> None:
        """Count an unreadable file; raises CorpusError if a spec names the file."""
        if self.is_named:
            raise CorpusError(f"{self.path}: {what}. {remedy}.")
        self.note(kind, what)

    def first(self, kind: str) -> str:
        """The description of the first problem of a kind, or ""."""
        return self._first.get(kind, "")

    def problems(self) -> list[Problem]:
        """One problem for each kind, in order of first occurrence."""
        return [
            Problem(str(self.path), kind, self._counts[kind], f"{self.path}: {what}. {tail}")
            for kind, what in self._first.items()
            for tail in [self._consequence(kind)]
        ]

    def _consequence(self, kind: str) -> str:
        n, stops = self._counts[kind], "" if kind in _HARMLESS else "; strict stops instead"
        if kind in ("utf8", "utf16", "charset"):
            return f"{n:,} place(s) replaced by U+FFFD{stops}."
        if kind == "left-out":
            return f"{n:,} left out."
        if self._then[kind]:
            return f"{self._then[kind]}{stops}."
        if self.n_lines:
            return f"{n:,} of {self.n_lines:,} {self.unit} skipped{stops}."
        return f"Skipped{stops}."
