"""Count and locate the problems of a file, with one message for each kind."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from auditor.errors import CorpusError
from reports.number_text import count

# These are no errors, so strict reading continues.
_HARMLESS = ("empty", "empty-split", "left-out")
_REPLACED = ("utf8", "utf16", "charset")


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
        # Description and consequence of the first problem of each kind.
        self._first: dict[str, tuple[str, str]] = {}
        self._counts: Counter[str] = Counter()

    def note(self, kind: str, what: str, n: int = 1, *, then: str = "") -> None:
        """Count a problem, which `what` describes and locates. Raises CorpusError when strict.

        `then` states the consequence, by default that `n` lines are skipped.

        >>> report = FileReport(Path("a.txt"), strict=False)
        >>> report.note("utf8", "byte 7 is not UTF-8", n=2)
        >>> report.problems()[0].message
        'a.txt: byte 7 is not UTF-8. 2 places replaced by U+FFFD; strict stops instead.'
        """
        if self.strict and kind not in _HARMLESS:
            raise CorpusError(f"{self.path}: {what}. Correct it, or read without strict.")
        self._first.setdefault(kind, (what, then))
        self._counts[kind] += n

    def refuse(self, kind: str, what: str, remedy: str = "Correct it or leave it out") -> None:
        """Count an unreadable file; raises CorpusError if a spec names the file."""
        if self.is_named:
            raise CorpusError(f"{self.path}: {what}. {remedy}.")
        self.note(kind, what)

    def note_if_empty(self) -> None:
        """Report a file of which nothing was read."""
        if self.n_lines == 0:
            nothing = "is empty" if self.unit == "lines" else f"has no {self.unit}"
            self.note("empty", f"the file {nothing}")

    def first(self, kind: str) -> str:
        """The description of the first problem of a kind, or ""."""
        return self._first.get(kind, ("",))[0]

    def problems(self) -> list[Problem]:
        """One problem for each kind, in order of first occurrence."""
        return [
            Problem(
                str(self.path), kind, n, f"{self.path}: {what}. {self._consequence(kind, n, then)}."
            )
            for kind, (what, then) in self._first.items()
            for n in [self._counts[kind]]
        ]

    def _consequence(self, kind: str, n: int, then: str) -> str:
        if kind == "left-out":
            return f"{n:,} left out"
        if kind in _REPLACED:
            then = f"{count(n, 'place')} replaced by U+FFFD"
        elif not then:
            then = f"{n:,} of {self.n_lines:,} {self.unit} skipped" if self.n_lines else "Skipped"
        return then if kind in _HARMLESS else f"{then}; strict stops instead"
