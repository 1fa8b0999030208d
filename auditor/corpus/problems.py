"""Count and locate the problems of a file, with one message for each kind."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from auditor.errors import CorpusError
from reports.number_text import count

# These are no errors, so strict reading continues.
_HARMLESS = ("empty", "empty-split", "left-out")
# The whole file is skipped.
_SKIPPED = ("binary", "unsupported", "unreadable", "utf16-unmarked")
_N_SHOWN = 2
_REPLACED = ("utf8", "utf16", "charset")


@dataclass(frozen=True)
class Problem:
    """A kind of problem in one file, its count, and a message that locates the first."""

    path: str
    kind: str
    n: int
    message: str


def in_few_lines(problems: Sequence[Problem], counts: Mapping[str, int]) -> list[str]:
    """Sentences on a corpus's problems: at most two messages, and the number of all others.

    problems : the problems that were kept
    counts : the number of problems of each kind

    >>> skipped = [Problem(f"{i}.png", "binary", 1, "Not text.") for i in range(4)]
    >>> in_few_lines(skipped, {"binary": 12})
    ['12 files were skipped (see --verbose).']
    """
    if len(problems) <= _N_SHOWN:
        return [problem.message for problem in problems]
    lines = [problem.message for problem in problems if problem.kind not in _SKIPPED]
    if len(lines) > _N_SHOWN:
        n_more = len(lines) - _N_SHOWN + 1
        lines[_N_SHOWN - 1 :] = [f"{n_more:,} or more other files have problems (see --verbose)."]
    n_skipped = sum(counts.get(kind, 0) for kind in _SKIPPED)
    if n_skipped:
        files = "1 file was" if n_skipped == 1 else f"{n_skipped:,} files were"
        lines.append(f"{files} skipped (see --verbose).")
    return lines


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
