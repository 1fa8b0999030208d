"""`auditor runs`: list the runs of a folder, or plot their results over time."""

from __future__ import annotations

import shlex
from datetime import UTC
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

    A table of folder, date, state, model, strategies, verbatim candidates, distinct passages and
    gate results, and the command that resumes each unfinished run.
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
    _print(Path(folder), rows)


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


def _print(folder: Path, rows: list[dict]) -> None:
    """Print the runs as a table, then how to resume those that are not finished."""
    from pandas import DataFrame

    from auditor.cli.show import print_frame

    if not rows:
        say(f"No run in {folder}. Start one with: auditor audit --model SPEC --out {folder}/NAME")
        return
    shown = DataFrame([_cells(folder, row) for row in rows])
    named = [name for name in shown if (shown[name] != "").any()]
    print_frame(shown[named], f"Runs in {folder}, the earliest first")
    unfinished = [row for row in rows if row["state"] == "incomplete"]
    if unfinished:
        say("\nTo resume:")
    for row in unfinished:
        say(f"  auditor audit --resume {shlex.quote(row['run'])}")
    for row in rows:
        if row["state"] == "unreadable":
            say(f"Note: {row['why']}", err=True)


def _cells(folder: Path, row: dict) -> dict[str, str]:
    """A row of the table, as text."""
    found = passages = ""
    if row.get("checked"):
        found = f"{row['verified']:,} of {row['checked']:,}"
        passages = "" if row["passages"] is None else f"{row['passages']:,}"
    elif row["state"] == "complete":
        found = row.get("why", "not checked")
    return {
        "Run": Path(row["run"]).relative_to(folder).as_posix(),
        "Date (UTC)": _date(row.get("when", "")),
        "State": row["state"],
        "Model": row.get("model", ""),
        "Strategies": ", ".join(row.get("strategies", ())),
        "Verbatim": found,
        "Passages": passages,
        "Gates": row.get("gate", ""),
    }


def _date(when: str) -> str:
    """An ISO 8601 time in UTC, to the minute; as it is if it is invalid.

    >>> _date("2026-11-24T05:00+02:00"), _date("yesterday")
    ('2026-11-24 03:00', 'yesterday')
    """
    from auditor.runs.collection import moment_of

    moment = moment_of(when)
    return when if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"
