"""What is wrong in a file: counted, located, and said in one sentence a kind."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from auditor.errors import CorpusError

# Nothing is wrong there, so a strict reading goes on.
_HARMLESS = ("empty", "empty-split", "left-out")


@dataclass(frozen=True)
class Problem:
    """What was wrong in one file: the kind, how often, and a sentence that locates the first."""

    path: str
    kind: str
    n: int
    message: str


class FileReport:
    """Collects what is wrong in one file, or stops at the first when strict.

    A reader counts what it reads in `n_lines` and may call them otherwise in `unit`.
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
        """Count a problem; `what` is a clause that locates it. Raises CorpusError when strict.

        `then` says what becomes of what is read, where it is not that `n` are skipped.

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
        """Count a file of which nothing can be read; one that was named is an error."""
        if self.is_named:
            raise CorpusError(f"{self.path}: {what}. {remedy}.")
        self.note(kind, what)

    def first(self, kind: str) -> str:
        """What was said of the first problem of a kind, or nothing."""
        return self._first.get(kind, "")

    def problems(self) -> list[Problem]:
        """One problem for each kind that was met, in the order of their first place."""
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
