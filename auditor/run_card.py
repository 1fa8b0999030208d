"""What Jupyter shows of a run: what was audited, how far it is, the verdict, where to look."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import quote

from auditor.errors import AuditError
from reports.card import Card, render_card
from reports.headline import headline

if TYPE_CHECKING:
    from auditor.store import Run

_FILES = (
    ("report", "report.html"),
    ("candidates.csv", "candidates.csv"),
    ("summary.csv", "summary.csv"),
)


def run_card(run: Run) -> str:
    """A run as HTML. What cannot be read of it is said in the card; nothing is raised."""
    try:
        verdict = _verdict(run)
    except AuditError as error:
        verdict = [str(error)]
    links = [(label, _address(run, name)) for label, name in _FILES if run.has(name)]
    try:
        facts = _facts(run)
    except AuditError as error:
        facts = [("Config", str(error))]
    state = "complete" if run.complete else "incomplete"
    title = f"Memorization audit of {run.manifest['config'].get('model', '?')}"
    return render_card(Card(title, state, facts, verdict, links))


def _verdict(run: Run) -> list[str]:
    if not run.has("candidates.parquet"):
        return [f"No verdict yet. Finish the run with: auditor audit --resume {run.path}."]
    corpus = run.manifest.get("corpus", {})
    return headline(
        run.candidates(),
        run.summary(),
        corpus_bytes=corpus.get("bytes"),
        n_documents=corpus.get("documents"),
    )


def _facts(run: Run) -> list[tuple[str, str]]:
    config, shards = run.config, run.manifest["shards"]
    names = [s.name for s in config.strategies]
    drawn = sum(facts.get("rows", 0) for n, facts in shards.items() if n.startswith("samples/"))
    asked = config.samples * len(names)
    rows = [("Samples", f"{drawn:,} of {asked:,} ({', '.join(names)})")]
    if config.references:
        rows.append(("References", ", ".join(config.references)))
    if "candidates.parquet" in shards:
        rows.append(("Candidates", f"{shards['candidates.parquet'].get('rows', 0):,}"))
    if config.has_training_text:
        rows.append(("Training text", ", ".join(config.corpus) or str(config.index)))
    rows.append(("Begun", str(run.manifest.get("begun", "unknown"))))
    rows.append(("Folder", str(run.path)))
    return rows


def _address(run: Run, name: str) -> str:
    """Relative to where the notebook runs: Jupyter serves what lies below."""
    return quote(os.path.relpath(run.path / name))
