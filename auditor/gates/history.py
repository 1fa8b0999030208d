"""The runs in a folder: their settings, outcome and order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from auditor.audit.context import TARGET
from auditor.errors import AuditError
from auditor.runs.collection import find_runs, run_time, timestamp
from auditor.runs.gate_results import Decision, RunDiff
from auditor.runs.run import Run


@dataclass(frozen=True)
class Entry:
    """One run of a history.

    path : its folder
    state : "complete", "incomplete" or "unreadable"
    why : the error of an unreadable run, a sentence
    series : digest of all settings except the seed; shared by runs of the same audit
    when : the scheduled time, else when it was begun; ISO 8601 with UTC offset
    scheduled : the scheduled time; "" = not scheduled
    weights : sha256 of the model's weight files
    decisions, since : its gate results, and the comparison with the run before
    """

    path: Path
    state: str
    why: str = ""
    model: str = ""
    strategies: tuple[str, ...] = ()
    series: str = ""
    seed: int = 0
    begun: str = ""
    scheduled: str = ""
    weights: str = ""
    decisions: tuple[Decision, ...] = ()
    since: RunDiff | None = None

    @property
    def when(self) -> str:
        """The scheduled time, else when it was begun."""
        return self.scheduled or self.begun

    @property
    def gate(self) -> str:
        """ "passed", "failed: max_verified; warning: max_precision", or "" if no gate is set."""
        words = [
            f"{word}: {', '.join(gates)}"
            for state, word in (("fail", "failed"), ("warn", "warning"))
            if (gates := [d.gate for d in self.decisions if d.state == state])
        ]
        return "; ".join(words) or ("passed" if self.decisions else "")


def read_history(folder: str | Path, *, nested: bool = True) -> list[Entry]:
    """The runs in a folder, the earliest first, as by `find_runs`; empty if there is no folder."""
    return [_entry(path, run) for path, run in find_runs(Path(folder), nested=nested)]


def last_before(run: Run) -> Entry | None:
    """The last complete earlier run with the same settings in the same parent folder."""
    own, series, path = timestamp(run_time(run)), run.config.series, run.path
    # The parent folder as the user wrote it, if the path allows.
    parent = path.resolve().parent if path.name in ("", "..") else path.parent
    earlier = [
        entry
        for entry in read_history(parent, nested=False)
        if entry.state == "complete"
        and entry.series == series
        and entry.path.resolve() != path.resolve()
        and timestamp(entry.when) < own
    ]
    return earlier[-1] if earlier else None


def _entry(path: Path, run: Run | AuditError) -> Entry:
    if isinstance(run, AuditError):
        return Entry(path, "unreadable", str(run))
    config, manifest = run.config, run.manifest
    target, results = manifest.models.get(TARGET), manifest.judged
    return Entry(
        path,
        "complete" if run.complete else "incomplete",
        model=config.model,
        strategies=tuple(s.name for s in config.strategies),
        series=config.series,
        seed=config.seed,
        begun=manifest.begun,
        scheduled=manifest.occasion,
        weights=target.sha256 if target else "",
        decisions=tuple(results.gates) if results else (),
        since=results.since if results else None,
    )
