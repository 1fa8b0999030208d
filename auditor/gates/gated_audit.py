"""An audit, judged: run it, compare it with the last, decide its gates, tell the hooks."""

from __future__ import annotations

import hashlib
import json
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

from auditor.audit.pipeline import run_audit
from auditor.audit.provenance import now
from auditor.config.audit import AuditConfig
from auditor.errors import AuditError
from auditor.gates.decide import compare_with_last, judge
from auditor.gates.notify import call_hooks, check_hooks
from auditor.runs.gate_results import Decision, Since, check
from auditor.runs.result_folder import storable
from auditor.runs.run import Run, load_run
from auditor.runs.writer import RunWriter, open_for_writing
from auditor.system.offline import offline
from auditor.system.progress import NullProgress


@dataclass(frozen=True)
class Judged:
    """A run that is done, and what became of it.

    run : Run, complete
    decisions : a Decision a gate
    since : against the last run of the same audit; None if there is none
    notes : sentences on hooks that failed
    """

    run: Run
    decisions: tuple[Decision, ...] = ()
    since: Since | None = None
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[Decision, ...]:
        """The gates that failed."""
        return tuple(d for d in self.decisions if not d.passed)

    def check(self) -> None:
        """Raise GateError, one line that names every gate that failed; see `gates.check`."""
        check(self.decisions)


def audit_and_judge(
    config: AuditConfig, *, occasion: str | None = None, progress: NullProgress | None = None
) -> Judged:
    """Run an audit, or go on with it, and do what its audit file says of gates and hooks.

    A hook is told once of each outcome: the same audit asked for again tells it nothing new.

    Parameters
    ----------
    config : AuditConfig
    occasion : when a schedule asked for it, in ISO 8601
    progress : what to tell progress to; nothing by default

    Returns
    -------
    Judged

    Raises
    ------
    AuditError
        As `run_audit`, after the hooks were told, and where a gate asks what the run cannot say.

    Example::

        judged = audit_and_judge(make_config(load_toml("audit.toml")))
        judged.since  # passages new, gone and unchanged
        judged.check()  # raises GateError if a gate failed
    """
    progress = progress or NullProgress()
    check_hooks(config.notify)
    runner = _GateRunner(config, progress)
    try:
        run = run_audit(config, occasion=occasion, progress=progress, judge=runner.judge)
        if runner.error is not None:
            raise runner.error
    except AuditError as error:
        _tell(config, _failure(config, error, occasion), progress, is_trouble=True)
        raise
    judged = Judged(run, runner.decisions, runner.since)
    outcome = run.manifest.get("judged")
    digest = _digest(judged)
    if outcome is None or outcome["told"] == digest:
        return judged
    notes = _tell(config, _success(judged), progress, is_trouble=bool(judged.failed))
    # What was not told is told when the same audit is asked for again.
    outcome |= {"hooks": list(notes), "told": None} if notes else {"told": digest}
    with open_for_writing(run.path, run.config) as writer:
        writer.manifest["judged"] = outcome
        writer.save()
    return Judged(load_run(run.path), runner.decisions, runner.since, notes)


class _GateRunner:
    """Judges a run between its tables and its pages, which show what it says.

    since, decisions : what it says, once it was asked
    error : why it could not; the run is brought to its end all the same
    """

    def __init__(self, config: AuditConfig, progress: NullProgress):
        self.config, self.progress = config, progress
        self.since: Since | None = None
        self.decisions: tuple[Decision, ...] = ()
        self.error: AuditError | None = None

    def judge(self, run: RunWriter) -> None:
        """Decide, and put it into the run's manifest."""
        before = run.manifest.pop("judged", None)
        why = {}
        try:
            self.since = _compare(run, self.config, self.progress)
            self.decisions = judge(run, self.config.gates, self.since)
        except AuditError as error:
            self.error, why = error, {"why": str(error)}
        if self.decisions or self.since or self.error or self.config.notify.is_asked:
            run.manifest["judged"] = {
                "gates": [asdict(d) for d in self.decisions],
                "since": None if self.since is None else asdict(self.since),
                "told": before.get("told") if isinstance(before, dict) else None,
                **why,
            }
        run.save()


def _compare(run: Run, config: AuditConfig, progress: NullProgress) -> Since | None:
    """What changed since the last run; one that is damaged matters only to the gate that asks."""
    try:
        return compare_with_last(run)
    except AuditError as error:
        if config.gates.no_new_passages_since is not None:
            raise
        progress.note(f"Not compared with the run before: {error}")
        return None


def _digest(judged: Judged) -> str:
    """Of what hooks are told: the same outcome is told once."""
    gates = [asdict(d) for d in judged.decisions]
    since = None if judged.since is None else asdict(judged.since)
    told = json.dumps([gates, since], sort_keys=True)
    return hashlib.sha256(storable(told).encode()).hexdigest()


def _tell(
    config: AuditConfig, summary: dict[str, Any], progress: NullProgress, *, is_trouble: bool
) -> tuple[str, ...]:
    if not config.notify.is_asked:
        return ()
    with offline() if config.offline else nullcontext():
        sentences = call_hooks(config.notify, summary, is_trouble=is_trouble)
    for sentence in sentences:
        progress.note(sentence)
    return tuple(sentences)


def _success(judged: Judged) -> dict[str, Any]:
    """Counts and figures of a finished run; no text of samples, training text or documents."""
    run = judged.run
    verdicts = run.candidates()["verdict"].value_counts()
    summary = run.summary().to_json(orient="records", double_precision=15)
    return {
        "state": "gate failed" if judged.failed else "finished",
        "run": str(run.path),
        "report": str(run.report),
        "model": run.config.model,
        "occasion": run.manifest.get("occasion"),
        "begun": run.manifest.get("begun"),
        "ended": now(),
        "candidates": {str(k): int(v) for k, v in verdicts.items()},
        "summary": json.loads(summary),
        "gates": [asdict(d) for d in judged.decisions],
        "since": None if judged.since is None else asdict(judged.since),
    }


def _failure(config: AuditConfig, error: AuditError, occasion: str | None) -> dict[str, Any]:
    """That a run failed, and the kind of trouble; its sentence may quote text, and stays here."""
    return {
        "state": "failed",
        "model": config.model,
        "occasion": occasion,
        "ended": now(),
        "error": type(error).__name__,
        "exit_code": error.exit_code,
    }
