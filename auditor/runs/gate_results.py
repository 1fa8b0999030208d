"""Results of a run's gates and its comparison with the last run, kept in its manifest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from auditor.errors import GateError
from auditor.system.validation import STRICT, Text


class Decision(BaseModel):
    """The result of one gate.

    passed : False = failed; the state of a gate that passed is "pass" or "warn"
    value, low, high : the figure and its interval, in the unit of the limit; None = not available
    sentence : the figure, its interval and the limit
    """

    model_config = {**STRICT, "frozen": True}

    gate: Text
    limit: int | float | Text
    passed: bool
    sentence: Text
    value: int | float | None = None
    low: int | float | None = None
    high: int | float | None = None

    @property
    def state(self) -> str:
        """One of "fail", "pass" and "warn": only the figure exceeds the limit, not its interval."""
        if not self.passed:
            return "fail"
        is_over = isinstance(self.limit, int | float) and (self.value or 0) > self.limit
        return "warn" if is_over else "pass"

    @property
    def word(self) -> str:
        """The state in a sentence: "failed", "warns" or "holds"."""
        return {"fail": "failed", "warn": "warns", "pass": "holds"}[self.state]

    def record(self) -> dict[str, Any]:
        """The decision with its state, as plain data."""
        return self.model_dump() | {"state": self.state}

    def __str__(self) -> str:
        """One line, without its full stop."""
        return f"gate {self.gate} {self.word}: {self.sentence}"


def check(decisions: Iterable[Decision]) -> None:
    """Raise a GateError that names every failed gate, with its figure and its limit.

    >>> check([Decision(gate="max_verified", limit=3, passed=True, sentence="2 of 9; allowed 3")])
    """
    failed = "; ".join(str(d) for d in decisions if not d.passed)
    if failed:
        raise GateError(f"{failed[0].upper()}{failed[1:]}.")


class RunDiff(BaseModel):
    """Passages found verbatim, compared with the last run of the same audit.

    run, when : folder and time of that run
    new, gone, unchanged : number of passages only in this run, only in that run, or in both
    same_seed, same_weights : whether both runs used the same seed and the same weights
    """

    model_config = {**STRICT, "frozen": True}

    run: Text
    when: Text
    new: int
    gone: int
    unchanged: int
    same_seed: bool
    same_weights: bool

    def __str__(self) -> str:
        """One sentence.

        >>> counts = {"new": 1, "gone": 0, "unchanged": 2}
        >>> same = {"same_seed": True, "same_weights": True}
        >>> print(RunDiff(run="runs/x", when="2026-11-17", **counts, **same))
        Since runs/x (2026-11-17): 1 passage new, 0 gone, 2 unchanged.
        """
        passages = "passage" if self.new == 1 else "passages"
        drawn = "" if self.same_seed else "; the seeds differ, so part of the change is chance"
        return (
            f"Since {self.run} ({self.when[:10]}): {self.new:,} {passages} new, {self.gone:,} gone,"
            f" {self.unchanged:,} unchanged{drawn}."
        )
