"""`auditor runs`: list the runs of a folder, or plot their results over time."""

from __future__ import annotations

from pathlib import Path

import click

from auditor.cli.generated import json_option
from auditor.cli.printing import print_json, say


@click.command()
@click.argument("folder", default="runs")
@json_option
@click.option(
    "--html", "as_page", is_flag=True, help="Write FOLDER/trend.html: the results over time."
)
def runs(folder, as_json, as_page) -> None:
    """List the runs in FOLDER (default: runs), the earliest first.

    Each line has the folder, state, model, strategies, date, verified candidates, distinct
    passages and gate results.
    """
    from auditor.errors import RunError
    from auditor.gates.history import read_history

    if not Path(folder).is_dir():
        raise RunError(f"{folder}: no such folder. Give the folder of your runs.")
    entries = read_history(folder)
    if as_page:
        from auditor.gates.trends import write_trends

        say(write_trends(folder, entries))
        return
    rows = [_row(entry) for entry in entries]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        say("  ".join(_words(row)))


def _row(entry) -> dict:
    """The facts of one run."""
    if entry.state == "unreadable":
        return {"run": str(entry.path), "state": entry.state, "why": entry.why}
    row = {
        "run": str(entry.path),
        "state": entry.state,
        "model": entry.model,
        "strategies": list(entry.strategies),
        "begun": entry.begun,
        "when": entry.when,
    }
    if entry.state == "complete":
        row |= _counts(entry)
        since = None if entry.since is None else vars(entry.since)
        row |= {"gate": entry.gate, "since": since}
    return row


def _counts(entry) -> dict:
    """Verified and checked candidates, distinct passages and documents; or why they are unknown."""
    from auditor.errors import AuditError
    from auditor.runs.figures import verified
    from auditor.runs.run import load_run

    try:
        found = verified(load_run(entry.path))
    except AuditError as error:
        return {"why": str(error)}
    n_passages, n_documents = found.passages or (None, None)
    return {
        "verified": int(found.value),
        "checked": found.n,
        "passages": n_passages,
        "documents": n_documents,
    }


def _words(row: dict) -> list[str]:
    """A row as words for a terminal."""
    from reports.analysis.strategy_estimates import passage_words

    if "model" not in row:
        return [row["run"], row["state"], row["why"]]
    words = [row["run"], row["state"], row["model"], ",".join(row["strategies"]), row["when"]]
    if row.get("checked"):
        passages = row["passages"] and passage_words((row["passages"], row["documents"]))
        words.append(f"{row['verified']:,} of {row['checked']:,} verbatim{passages or ''}")
    elif row["state"] == "complete":
        words.append(row.get("why", "not checked"))
    if row.get("gate"):
        words.append(f"gates {row['gate']}")
    return words
