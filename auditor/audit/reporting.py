"""Stage 5: candidates, summary and the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from auditor.audit.candidates import assemble
from auditor.audit.context import TARGET, Context, name_finders
from auditor.audit.estimates import (
    Estimates,
    make_estimates,
    with_estimates,
    with_p_values,
    write_estimates,
)
from auditor.audit.ground_truth import read_or_make
from auditor.audit.provenance import about
from auditor.audit.status import status_of
from auditor.canaries.masking import secrets_of_audits
from auditor.config.audit_file import to_toml
from auditor.runs.manifest import GateResults
from auditor.runs.result_folder import storable
from auditor.runs.run import Run
from reports.analysis.summary import summarize
from reports.csv_files import as_csv
from reports.figures.figure_files import figure_files
from reports.pages.audit_page import ReportPage, render_report
from reports.pages.calibration_section import calibration_section
from reports.pages.estimates_section import estimates_section
from reports.pages.gates_section import ShownGate, ShownOutcome
from reports.pages.markdown import render_markdown
from reports.pages.page_content import draw_figures
from reports.pages.sentences import headline, known_truth, not_claimed
from reports.privacy import Item
from reports.privacy.candidates import mask_candidates
from reports.privacy.finding import Finder


def report(context: Context) -> None:
    """Write candidates and summary (Parquet and CSV), report.html, report.md and figures/.

    Personal data is masked in all but the Parquet files, unless the config has `reveal`.
    """
    run, config = context.run, context.config
    with context.timed("report"), context.progress.stage("reporting", 1, "pages") as bar:
        secrets = _secrets(context)
        made = assemble(context, name_finders(config), secrets)
        more = (*name_finders(config), *secrets)
        summary = summarize(made.candidates, made.counts)
        if config.price_per_hour is not None:
            run.manifest.price_per_hour = config.price_per_hour
        estimates = make_estimates(run, made.candidates, made.counts)
        candidates = with_p_values(made.candidates, estimates)
        summary = with_estimates(summary, estimates)
        run.write("candidates.parquet", candidates)
        run.write("summary.parquet", summary)
        shown = candidates
        if not config.reveal:
            shown, _ = mask_candidates(shown, made.personal, more=more)
        run.write_bytes("candidates.csv", as_csv(shown))
        run.write_bytes("summary.csv", as_csv(summary))
        write_estimates(run, estimates)
        truth = _known_truth(context, candidates)
        run.manifest.revealed = config.reveal
        if context.judge is not None:
            context.judge(run)
        page = make_page(
            run,
            candidates,
            summary,
            estimates,
            truth,
            personal=made.personal,
            reveal=config.reveal,
            more=more,
        )
        drawings = draw_figures(page)
        for name, text in (
            ("report.html", render_report(page, drawings)),
            ("report.md", render_markdown(page)),
        ):
            run.write_bytes(name, storable(text).encode())
        for name, raw in figure_files(drawings).items():
            run.write_bytes(f"figures/{name}", raw)
        bar.advance(1)


def make_page(
    run: Run,
    candidates: pd.DataFrame,
    summary: pd.DataFrame,
    estimates: Estimates,
    truth: pd.DataFrame | None,
    *,
    personal: Sequence[Sequence[Item]],
    reveal: bool,
    more: Sequence[Finder] = (),
) -> ReportPage:
    """The content of the page, from the run's folder and its tables."""
    config, corpus = run.config, run.manifest.corpus
    status = status_of(run)
    return ReportPage(
        title=f"Memorization audit of {config.model}",
        headline=[
            *headline(
                candidates,
                summary,
                corpus_bytes=corpus.bytes if corpus else None,
                n_documents=corpus.documents if corpus else None,
                is_pending=config.has_training_text,
            ),
            *([] if truth is None else known_truth(truth)),
        ],
        not_claimed=not_claimed(candidates),
        notices=run.notes(),
        outcome=_shown(run.manifest.judged or GateResults()),
        about=about(run),
        command=run.manifest.command or "run_audit(...), called from Python",
        incomplete=status.sentences(run.path),
        personal=personal,
        finders=more,
        reveal=reveal,
        attention={
            Path(name).stem for name in run.manifest.shards if name.startswith("attention/")
        },
        config_toml=to_toml(config),
        summary=summary,
        scores=run.scores(),
        candidates=candidates,
        truth_table=truth,
        claims=estimates_section(
            summary,
            estimates.strategies,
            estimates.discovery,
            estimates.comparisons,
            estimates.costs,
        ),
        strategies=estimates.strategies,
        calibration=calibration_section(estimates.calibration),
    )


def _secrets(context: Context) -> tuple[Finder, ...]:
    """Finders of the secrets of the run's canaries; a note for each manifest that is gone."""
    manifest = context.run.manifest
    manifest.notes = [note for note in manifest.notes if note.stage != "report"]
    known = secrets_of_audits(context.config)
    for sentence in known.notes:
        context.note(sentence)
    return known.finders


def _known_truth(context: Context, candidates: pd.DataFrame) -> pd.DataFrame | None:
    """The known-truth table of all samples; None without a truth."""
    if context.config.truth is None:
        return None
    n = sum(len(ids) for s in context.config.strategies for _, ids in context.shards(s))
    vocabulary = context.vocabulary(TARGET)
    with context.progress.stage("known truth", n, "samples") as bar:
        return read_or_make(context.run, candidates, vocabulary, progress=bar.advance)


def _shown(results: GateResults) -> ShownOutcome:
    """Gates and comparison as sentences for the page."""
    return ShownOutcome(
        gates=[ShownGate(d.gate, d.state, d.word, f"{d.sentence}.") for d in results.gates],
        since="" if results.since is None else str(results.since),
        why=results.why,
    )
