"""Run an audit, compare it with the last run, decide its gates and call its hooks."""

from __future__ import annotations

import hashlib
import json
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from auditor.audit.pipeline import default_folder, run_audit
from auditor.audit.provenance import now
from auditor.config.audit import AuditConfig
from auditor.errors import AuditError
from auditor.gates.decide import compare_with_last, judge
from auditor.gates.notify import call_hooks, check_hooks
from auditor.runs.figures import verified
from auditor.runs.gate_results import Decision, RunDiff, check
from auditor.runs.manifest import GateResults
from auditor.runs.result_folder import storable
from auditor.runs.run import Run, load_run
from auditor.runs.writer import RunWriter, open_for_writing
from auditor.system.offline import offline
from auditor.system.progress import NullProgress, progress_display
from reports.analysis.found_verbatim import verdict_counts
from reports.analysis.summary import without_control
from reports.safe_text import visible


@dataclass(frozen=True)
class GatedAudit:
    """A finished run with its gate results.

    run : Run, complete
    decisions : one Decision per gate
    since : comparison with the last run of the same audit; None if there is none
    notes : sentences on hooks that failed
    """

    run: Run
    decisions: tuple[Decision, ...] = ()
    since: RunDiff | None = None
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[Decision, ...]:
        """The gates that failed."""
        return tuple(d for d in self.decisions if not d.passed)

    @property
    def state(self) -> str:
        """One of "gate failed", "gate warning" and "finished"."""
        states = {d.state for d in self.decisions}
        return (
            "gate failed"
            if "fail" in states
            else "gate warning"
            if "warn" in states
            else "finished"
        )

    def check(self) -> None:
        """Raise a GateError that names every failed gate; see `gate_results.check`."""
        check(self.decisions)


def run_gated_audit(
    config: AuditConfig, *, occasion: str | None = None, progress: NullProgress | bool | None = True
) -> GatedAudit:
    """Run or resume an audit, decide its gates and call its hooks.

    Hooks are called once per outcome: repeating a finished audit does not call them again.

    Parameters
    ----------
    config : AuditConfig
    occasion : the scheduled time, in ISO 8601
    progress : a progress bar in a notebook and at a terminal; False or None = none

    Returns
    -------
    GatedAudit

    Raises
    ------
    AuditError
        As `run_audit`, after the hooks were called; also if the run lacks a figure for a gate.

    Example::

        gated = run_gated_audit(make_config(load_toml("audit.toml")))
        gated.since  # passages new, gone and unchanged
        gated.check()  # raises GateError if a gate failed
    """
    progress = progress_display(progress)
    check_hooks(config.notify)
    runner = _GateRunner(config, progress)
    try:
        run = run_audit(config, occasion=occasion, progress=progress, judge=runner.judge)
        if runner.error is not None:
            raise runner.error
    except AuditError as error:
        _notify(config, _failure(config, error, occasion), progress, is_trouble=True)
        raise
    gated = GatedAudit(run, runner.decisions, runner.since)
    results, digest = run.manifest.judged, _digest(gated)
    if results is None or results.told == digest:
        return gated
    notes = _notify(config, _success(gated), progress, is_trouble=gated.state != "finished")
    # If a hook failed, call the hooks again when the audit is repeated.
    results.told = None if notes else digest
    if notes:
        results.hooks = list(notes)
    with open_for_writing(run.path, run.config) as writer:
        writer.manifest.judged = results
        writer.save()
    return GatedAudit(load_run(run.path), runner.decisions, runner.since, notes)


class _GateRunner:
    """Decides the gates after a run's tables and before its pages, which show the result.

    If the gates cannot be decided, `error` is set and the run is finished nevertheless.
    """

    def __init__(self, config: AuditConfig, progress: NullProgress):
        self.config, self.progress = config, progress
        self.since: RunDiff | None = None
        self.decisions: tuple[Decision, ...] = ()
        self.error: AuditError | None = None

    def judge(self, run: RunWriter) -> None:
        """Decide the gates and store the result in the run's manifest."""
        before = run.manifest.judged
        run.manifest.clear("judged")
        try:
            self.since = _compare(run, self.config, self.progress)
            self.decisions = judge(run, self.config.gates, self.since)
        except AuditError as error:
            self.error = error
        if self.decisions or self.since or self.error or self.config.notify.is_set:
            sent = before.told if before else None
            results = GateResults(gates=list(self.decisions), since=self.since, told=sent)
            if self.error is not None:
                results.why = str(self.error)
            run.manifest.judged = results
        run.save()


def _compare(run: Run, config: AuditConfig, progress: NullProgress) -> RunDiff | None:
    """Compare with the last run; if that is damaged, only a gate that needs it fails."""
    try:
        return compare_with_last(run)
    except AuditError as error:
        if config.gates.no_new_passages_since is not None:
            raise
        progress.note(f"The run was not compared with the previous one: {error}")
        return None


def _digest(gated: GatedAudit) -> str:
    """Identifies an outcome, so that hooks are called once for each."""
    gates = [d.model_dump() for d in gated.decisions]
    since = None if gated.since is None else gated.since.model_dump()
    outcome = json.dumps([gates, since], sort_keys=True)
    return hashlib.sha256(storable(outcome).encode()).hexdigest()


def _notify(
    config: AuditConfig, summary: dict[str, Any], progress: NullProgress, *, is_trouble: bool
) -> tuple[str, ...]:
    if not config.notify.is_set:
        return ()
    with offline() if config.offline else nullcontext():
        sentences = call_hooks(config.notify, summary, is_trouble=is_trouble)
    for sentence in sentences:
        progress.note(sentence)
    return tuple(sentences)


def _success(gated: GatedAudit) -> dict[str, Any]:
    """Counts and figures of a finished run, without any text."""
    run = gated.run
    summary = without_control(run.summary()).to_json(orient="records", double_precision=15)
    return {
        "text": _sentences(gated),  # first, for chat services and notify-send
        "state": gated.state,
        "run": str(run.path),
        "report": str(run.report),
        "model": run.config.model,
        "occasion": run.manifest.occasion or None,
        "begun": run.manifest.begun or None,
        "ended": now(),
        "candidates": verdict_counts(run.candidates()),
        "headline": run.headline() or None,
        "summary": json.loads(summary),
        "gates": [d.record() for d in gated.decisions],
        "since": None if gated.since is None else gated.since.model_dump(),
    }


def _sentences(gated: GatedAudit) -> str:
    """The result of a finished run in one line, without text of the run."""
    run = gated.run
    parts = [f"The audit of {run.config.model} has finished"]
    if (found := verified(run)).n:
        parts[0] += f": {found.value:,.0f} of {found.n:,} candidates are verbatim"
    exceeded = [str(d) for d in gated.decisions if d.state != "pass"]
    parts += [f"{sentence[0].upper()}{sentence[1:]}" for sentence in exceeded]
    if gated.since is not None:
        parts.append(str(gated.since).removesuffix("."))
    return visible(". ".join([*parts, f"Report: {run.report}"]))


def _failure(config: AuditConfig, error: AuditError, occasion: str | None) -> dict[str, Any]:
    """The kind of error only: its message may quote text."""
    run = str(config.out or default_folder(config))
    sentence = f"The audit of {config.model} failed with exit code {error.exit_code}. Run: {run}"
    return {
        "text": visible(sentence),
        "state": "failed",
        "run": run,
        "model": config.model,
        "occasion": occasion,
        "ended": now(),
        "error": type(error).__name__,
        "exit_code": error.exit_code,
    }
