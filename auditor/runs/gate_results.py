"""Results of a run's gates and its comparison with the last run, kept in its manifest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic.dataclasses import dataclass as validated

from auditor.errors import GateError
from auditor.system.validation import STRICT, Text

T = TypeVar("T", "Decision", "Since")


@validated(frozen=True, config=STRICT)
class Decision:
    """The result of one gate.

    value, low, high : the figure and its interval, in the unit of the limit; None = not available
    sentence : the figure, its interval and the limit
    """

    gate: Text
    limit: int | float | Text
    passed: bool
    sentence: Text
    value: int | float | None = None
    low: int | float | None = None
    high: int | float | None = None

    @property
    def word(self) -> str:
        """One of "failed", "holds" and "holds, by its interval alone"."""
        if not self.passed:
            return "failed"
        # The value exceeds the limit, but not significantly.
        is_near = isinstance(self.limit, int | float) and (self.value or 0) > self.limit
        return "holds, by its interval alone" if is_near else "holds"

    def __str__(self) -> str:
        """One line, without its full stop."""
        return f"gate {self.gate} {self.word}: {self.sentence}"


def check(decisions: Iterable[Decision]) -> None:
    """Raise an error if a gate failed.

    Raises
    ------
    GateError
        One line that names every gate that failed, with its figure and its limit.

    >>> check([Decision("max_verified", 3, True, "2 of 9; allowed 3")])
    """
    failed = "; ".join(str(d) for d in decisions if not d.passed)
    if failed:
        raise GateError(f"{failed[0].upper()}{failed[1:]}.")


@validated(frozen=True, config=STRICT)
class Since:
    """Passages found verbatim, compared with the last run of the same audit.

    run, when : folder and time of that run
    new, gone, unchanged : number of passages only in this run, only in that run, or in both
    same_seed, same_weights : whether both runs used the same seed and the same weights
    """

    run: Text
    when: Text
    new: int
    gone: int
    unchanged: int
    same_seed: bool
    same_weights: bool

    def __str__(self) -> str:
        """One sentence.

        >>> print(Since("runs/x", "2026-11-17", 1, 0, 2, True, True))
        Since runs/x (2026-11-17): 1 passage new, 0 gone, 2 unchanged.
        """
        passages = "passage" if self.new == 1 else "passages"
        drawn = "" if self.same_seed else "; drawn with another seed, so some of it is luck"
        return (
            f"Since {self.run} ({self.when[:10]}): {self.new:,} {passages} new, {self.gone:,} gone,"
            f" {self.unchanged:,} unchanged{drawn}."
        )


def read_decisions(there: Any) -> tuple[Decision, ...]:
    """Read the decisions in a manifest; invalid entries are left out.

    >>> read_decisions([{"gate": "max_verified"}, 3])
    ()
    """
    rows = there if isinstance(there, list) else []
    read = (_read(Decision, row) for row in rows)
    return tuple(decision for decision in read if decision is not None)


def read_since(there: Any) -> Since | None:
    """Read the comparison in a manifest; None if missing or invalid.

    >>> read_since(None)
    """
    return _read(Since, there)


def _read(kind: type[T], there: Any) -> T | None:
    if not isinstance(there, dict) or {*there} != {field.name for field in fields(kind)}:
        return None
    try:
        return kind(**there)
    except ValidationError:
        return None


@dataclass(frozen=True)
class Outcome:
    """The gate results in a manifest; `why` is the reason if they could not be decided."""

    decisions: tuple[Decision, ...] = ()
    since: Since | None = None
    why: str = ""


def read_outcome(there: Any) -> Outcome:
    """Read the outcome in a manifest; invalid parts are left out.

    >>> read_outcome({"gates": [], "since": None})
    Outcome(decisions=(), since=None, why='')
    """
    there = there if isinstance(there, dict) else {}
    why = there.get("why")
    return Outcome(
        read_decisions(there.get("gates")),
        read_since(there.get("since")),
        why if isinstance(why, str) else "",
    )
