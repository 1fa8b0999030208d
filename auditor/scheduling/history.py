"""The runs in a folder: what each asked, how it ended, and which came before which."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from auditor.errors import AuditError
from auditor.stages.context import TARGET
from auditor.store import Run, load_run


@dataclass(frozen=True)
class Entry:
    """One run of a history.

    path : its folder
    state : "complete", "incomplete" or "unreadable"
    why : what is wrong with an unreadable one, a sentence
    series : digest of all that was asked but the seed; runs of one audit share it
    when : the occasion that a schedule ran it for, else when it was begun; ISO 8601 with its zone
    occasion : when a schedule asked for it; "" = nobody's schedule
    weights : sha256 of the model's weight files
    judged : gates and comparison, as `judged` wrote them; empty if nothing was judged
    """

    path: Path
    state: str
    why: str = ""
    model: str = ""
    strategies: tuple[str, ...] = ()
    series: str = ""
    seed: int = 0
    begun: str = ""
    occasion: str = ""
    weights: str = ""
    judged: dict[str, Any] = field(default_factory=dict)

    @property
    def when(self) -> str:
        """The occasion, else the begin."""
        return self.occasion or self.begun

    @property
    def gate(self) -> str:
        """ "passed", "failed: max_verified", or "" where no gate was asked."""
        gates = self.judged.get("gates", [])
        failed = [g["gate"] for g in gates if not g["passed"]]
        if failed:
            return f"failed: {', '.join(failed)}"
        return "passed" if gates else ""


def read_history(folder: str | Path) -> list[Entry]:
    """The runs in a folder, the earliest first; unreadable ones, which have no time, before all.

    Parameters
    ----------
    folder : the folder that holds the runs' folders

    Returns
    -------
    list of Entry; empty if there is no such folder.
    """
    entries = [_entry(file.parent) for file in sorted(Path(folder).glob("*/manifest.json"))]
    return sorted(entries, key=lambda entry: timestamp(entry.when))


def timestamp(when: str) -> float:
    """Seconds since 1970 of a time in ISO 8601; of what is none, before all others.

    >>> timestamp("1970-01-01T01:00:05+01:00"), timestamp("")
    (5.0, -inf)
    """
    from datetime import datetime

    try:
        return datetime.fromisoformat(when).timestamp()
    except ValueError:
        return float("-inf")


def last_before(run: Run) -> Entry | None:
    """The last complete run beside this one that asked the same and came earlier."""
    own, series = timestamp(_when(run)), run.config.series
    earlier = [
        entry
        for entry in read_history(run.path.resolve().parent)
        if entry.state == "complete"
        and entry.series == series
        and entry.path.resolve() != run.path.resolve()
        and timestamp(entry.when) < own
    ]
    return earlier[-1] if earlier else None


def _when(run: Run) -> str:
    return str(run.manifest.get("occasion") or run.manifest.get("begun", ""))


def _entry(path: Path) -> Entry:
    try:
        run = load_run(path)
        config = run.config
    except AuditError as error:
        return Entry(path, "unreadable", str(error))
    manifest = run.manifest
    judged = manifest.get("judged")
    return Entry(
        path,
        "complete" if run.complete else "incomplete",
        model=config.model,
        strategies=tuple(s.name for s in config.strategies),
        series=config.series,
        seed=config.seed,
        begun=str(manifest.get("begun", "")),
        occasion=str(manifest.get("occasion", "")),
        weights=str(manifest.get("models", {}).get(TARGET, {}).get("sha256", "")),
        judged=judged if isinstance(judged, dict) else {},
    )
