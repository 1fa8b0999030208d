"""What can be read in more than one way, and its readings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """One way to read a score: its value for each text, and who prints it."""

    formula: str
    values: tuple[float, ...]
    printed_by: str
    is_followed: bool = False


@dataclass(frozen=True)
class Question:
    """What can be read in more than one way, which reading we follow, and why."""

    title: str
    columns: tuple[str, ...]
    readings: tuple[Reading, ...]
    why: str


def ours(formula: str, values: Iterable[float], printed_by: str) -> Reading:
    """The reading that we follow."""
    return Reading(formula, tuple(map(float, values)), printed_by, is_followed=True)


def other(formula: str, values: Iterable[float], printed_by: str) -> Reading:
    """A reading that we do not follow."""
    return Reading(formula, tuple(map(float, values)), printed_by)
