"""Print a run; control characters in text of a model are escaped."""

from __future__ import annotations

import sys

import pandas as pd

from auditor.audit.ground_truth import TRUTH
from auditor.audit.status import status_of
from auditor.cli.printing import print_json, records, say
from auditor.cli.verbosity import level, remark
from auditor.gates.gated_audit import GatedAudit
from auditor.runs.figures import exposure
from auditor.runs.run import Run
from reports.analysis.found_verbatim import verdict_counts
from reports.analysis.summary import (
    list_intervals,
    shown_truth,
    table2,
    truth_caption,
    without_control,
)
from reports.pages.calibration_section import assumptions, calibration_caption, shown_calibration
from reports.pages.sentences import headline, not_claimed
from reports.pages.tables import shown_costs, shown_strategies
from reports.safe_text import visible


def show_run(run: Run, *, as_json: bool = False) -> None:
    """Print the headline, Table 2 and the path of the report, or the summary as JSON.

    With --verbose, also the other tables and the notes of the report.
    """
    if as_json:
        print_json(summary_json(run))
        return
    candidates, summary = run.candidates(), run.summary()
    corpus = run.manifest.corpus
    for sentence in headline(
        candidates,
        summary,
        corpus_bytes=corpus.bytes if corpus else None,
        n_documents=corpus.documents if corpus else None,
        is_pending=run.config.has_training_text,
    ):
        say(sentence)
    say()
    print_frame(table2(summary), f"Verbatim candidates and precision ({list_intervals(summary)})")
    _show_lists(run)
    if level() > 0:
        _show_estimates(run)
        _show_truth(run)
        for sentence in [*not_claimed(candidates), *(f"Note: {note}" for note in run.notes())]:
            say(sentence, err=True)
    for sentence in status_of(run).sentences(run.path):
        say(sentence, err=True)
    if run.manifest.revealed:
        say("The report and candidates.csv show personal data: keep them confidential.", err=True)
    say(f"\nReport: {run.report}")
    if run.remote is not None:
        say(f"This is a local copy; the run is at {run.remote.url}.")


def after_audit(run: Run) -> str:
    """What to do after an audit or a report."""
    if not run.complete:
        return f"auditor audit --resume {run.path}"
    if run.config.has_training_text:
        return f"open {run.report}"
    return f"auditor verify {run.path} --corpus TRAINING-TEXT"


def show_gated_audit(gated: GatedAudit, *, as_json: bool = False) -> None:
    """Print a run as `show_run` does, its gates, and the changes since the last run."""
    run = gated.run
    if as_json:
        gates = [d.record() for d in gated.decisions]
        since = None if gated.since is None else gated.since.model_dump()
        kept = {"gates": gates, "since": since}
        print_json(summary_json(run) | kept)
        return
    show_run(run)
    if run.config.canaries is not None and (most := exposure(run)) is not None:
        say(
            f"The most exposed canary of {most.n:,} is {most.of}: {most.value:.1f} bits "
            f"(95 % {most.interval} interval {most.low:.1f}–{most.high:.1f})."
        )
    if gated.since is not None:
        say(gated.since)
    for decision in gated.decisions:
        if decision.passed:  # failed gates are printed last, as an error
            sentence = str(decision)
            say(f"{sentence[0].upper()}{sentence[1:]}.")


def _show_estimates(run: Run) -> None:
    """Print the estimates and costs of each strategy, if its samples were looked up."""
    from auditor.audit.estimates import costs_of

    strategies = run.strategies()
    if not (strategies["n_looked_up"] > 0).any():
        return
    say()
    print_frame(
        shown_strategies(strategies),
        "Unselected samples, and what is left to find (95 % intervals: Clopper–Pearson; "
        "Good–Turing; Chao)",
    )
    say()
    print_frame(
        shown_costs(costs_of(run, strategies)),
        "Sampling cost per verbatim sample and per distinct passage (95 % intervals: "
        "Clopper–Pearson)",
    )


def _show_lists(run: Run) -> None:
    """Print the lists at a false discovery rate, if one was requested."""
    calibration = run.calibration()
    if calibration.empty:
        return
    say()
    print_frame(shown_calibration(calibration), calibration_caption(calibration))
    remark(assumptions(calibration)[-1])
    remark(f"Assumption: {assumptions(calibration)[0]}")


def _show_truth(run: Run) -> None:
    """Print the documents extracted, if the ground truth is known."""
    if not run.has(TRUTH):
        if run.config.truth is not None and run.config.has_training_text and run.complete:
            # Earlier versions counted only the candidates.
            say(f"To count known truth over all samples: auditor report {run.path}", err=True)
        return
    table = run.known_truth()
    say()
    print_frame(shown_truth(table), truth_caption(table))


def summary_json(run: Run) -> dict:
    """The results of a run as plain data, without text."""
    from auditor.audit.estimates import costs_of

    strategies = run.strategies()
    return {
        "run": str(run.path),
        "model": run.config.model,
        "complete": run.complete,
        "candidates": verdict_counts(run.candidates()),
        "headline": run.headline() or None,
        "summary": records(without_control(run.summary())),
        "strategies": records(strategies),
        "costs": records(costs_of(run, strategies)),
        "calibration": records(run.calibration()),
        "known_truth": records(run.known_truth()) if run.has(TRUTH) else None,
    }


def print_frame(frame: pd.DataFrame, title: str) -> None:
    """Print a frame as a table on stdout."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if frame.index.name or frame.columns.name:
        frame = frame.rename_axis(columns=None).reset_index()
    say(title)
    table = Table()
    for name in frame.columns:
        numeric = pd.api.types.is_numeric_dtype(frame[name])
        table.add_column(
            Text(visible(str(name))), justify="right" if numeric else "left", overflow="fold"
        )
    for row in frame.astype(str).to_numpy().tolist():
        table.add_row(*(Text(visible(value)) for value in row))
    # With its file, rich draws ASCII tables for an encoding other than UTF-8.
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 140).print(table)
