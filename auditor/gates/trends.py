"""The figures of a history as frames, and the page that plots them over time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from attacks.statistics.intervals import Estimate
from auditor.config.audit import AuditConfig
from auditor.errors import AuditError, RunError
from auditor.gates.history import Entry
from auditor.runs.collection import timestamp
from auditor.runs.figures import exposure, has_personal_data, personal_data, verified
from auditor.runs.result_folder import storable
from auditor.runs.run import Run, load_run
from auditor.system.atomic_files import write_atomically
from reports.pages.trend_page import Trend, TrendPage, render_trends

PAGE = "trend.html"
_PASSAGES = ("passages", "documents")


def write_trends(folder: str | Path, entries: list[Entry]) -> Path:
    """Write the trend page FOLDER/trend.html; raises a RunError if no run is complete."""
    trends, notices = read_trends(entries)
    if not trends:
        raise RunError(
            f"{folder} contains no complete run, so there is nothing to plot. Run an audit first."
        )
    page = TrendPage(f"Audits in {Path(folder).resolve().name}", trends, notices)
    path = Path(folder) / PAGE
    write_atomically(path, storable(render_trends(page)).encode())
    return path


def read_trends(entries: list[Entry]) -> tuple[list[Trend], list[str]]:
    """One Trend per audit, and sentences on the runs that are left out.

    Scheduled audits come first, then the latest. They are named by what tells them apart.
    """
    notices = [
        f"{e.path.name} is left out: {e.why or 'it is not complete.'}"
        for e in entries
        if e.state != "complete"
    ]
    of_series: dict[str, list[tuple[Entry, Run, list[dict[str, Any]]]]] = {}
    for entry in entries:
        if entry.state != "complete":
            continue
        try:
            run = load_run(entry.path)
            rows = _figures(run, entry)
        except AuditError as error:
            notices.append(f"{entry.path.name} is left out: {error}")
            continue
        of_series.setdefault(entry.series, []).append((entry, run, rows))
    titles = series_titles([found[-1][1].config for found in of_series.values()])
    trends = [_trend(*pair) for pair in zip(of_series.values(), titles, strict=True)]
    return sorted(trends, key=_place, reverse=True), notices


def _place(trend: Trend) -> tuple[bool, pd.Timestamp]:
    return trend.is_scheduled, trend.runs["when"].max()


def series_titles(configs: Sequence[AuditConfig]) -> list[str]:
    """A name for each audit: its model, and every setting in which the audits differ.

    >>> from auditor.config.audit import make_config
    >>> one, other = ({"model": "gpt2", "samples": n, "corpus": ["texts"]} for n in (100, 200))
    >>> series_titles([make_config(one), make_config(other)])
    ['gpt2, 100 samples', 'gpt2, 200 samples']
    """
    shown = [
        {
            "model": config.model,
            "strategies": " + ".join(s.name for s in config.strategies),
            "training text": ", ".join(Path(p).name for p in (*config.corpus, config.index) if p),
            "samples": f"{config.samples:,} samples",
        }
        for config in configs
    ]
    names = [n for n in shown[0] if len({one[n] for one in shown}) > 1] if shown else []
    titles = [
        ", ".join(one[n] or f"no {n}" for n in dict.fromkeys(["model", *names])) for one in shown
    ]
    if len(set(titles)) == len(titles):
        return titles
    # Told apart by other settings, under the names that they have in audit.toml.
    whole = [config.identity() for config in configs]
    others = [n for n in whole[0] if n not in (*shown[0], "corpus", "index", "seed")]
    others = [n for n in others if len({json.dumps(one[n], default=str) for one in whole}) > 1]
    return [
        ", ".join([title, *(f"{n} {_brief(one[n])}" for n in others)])
        for title, one in zip(titles, whole, strict=True)
    ]


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 40 else text[:39] + "…"


def _trend(found: list[tuple[Entry, Run, list[dict[str, Any]]]], title: str) -> Trend:
    last = found[-1][0]
    config = found[-1][1].config
    rows = [row for _, _, rows in found for row in rows]
    return Trend(
        title=title,
        is_scheduled=bool(last.scheduled),
        about=(
            f"{'Scheduled. ' if last.scheduled else ''}{last.model}: {', '.join(last.strategies)}; "
            f"{config.samples:,} samples per strategy; top {config.top:,} by each score"
        ),
        runs=pd.DataFrame([_line(entry, rows) for entry, _, rows in found]),
        figures=pd.DataFrame(rows, columns=["when", "figure", "of", "value", "low", "high"]),
        limits={
            decision.gate: decision.limit
            for decision in last.decisions
            if isinstance(decision.limit, int | float)
        },
    )


def _when(entry: Entry) -> pd.Timestamp:
    seconds = timestamp(entry.when)
    if seconds == float("-inf"):
        raise RunError("its manifest has no valid start time.")
    return pd.Timestamp(seconds, unit="s", tz="UTC")


def _line(entry: Entry, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A run's row in the table."""
    since = {} if entry.since is None else vars(entry.since)
    found = next((r for r in rows if r["figure"] == "verified"), None)
    return {
        "run": entry.path.name,
        "when": _when(entry),
        "seed": entry.seed,
        "weights": entry.weights[:12],
        "verified": None if found is None else int(found["value"]),
        "checked": None if found is None else found["n"],
        **{end: None if found is None else found[end] for end in ("low", "high", *_PASSAGES)},
        "new": since.get("new"),
        "gone": since.get("gone"),
        "unchanged": since.get("unchanged"),
        "gate": entry.gate,
    }


def _figures(run: Run, entry: Entry) -> list[dict[str, Any]]:
    """Every figure of a run, one row each, in the unit of its gate."""
    when = _when(entry)

    def row(figure: str, found: Estimate, of: str = "") -> dict[str, Any]:
        ends = {"value": found.value, "low": found.low, "high": found.high}
        return {"when": when, "figure": figure, "of": of, "n": found.n, **ends}

    rows = []
    if run.config.has_training_text:
        found = verified(run)
        rows.append(row("verified", found))
        rows[-1] |= dict(zip(_PASSAGES, found.passages or (None, None), strict=True))
        for line in run.summary().to_dict("records"):
            share = (line["precision"], line["precision_low"], line["precision_high"])
            if line["precision"] == line["precision"]:
                rows.append(
                    row("precision", Estimate(*share), f"{line['strategy']}\n{line['score']}")
                )
    if run.config.canaries is not None and (most := exposure(run)) is not None:
        rows.append(row("exposure", most, most.of))
    if has_personal_data(run):
        rows.append(row("personal_data", personal_data(run)))
    if entry.since is not None:
        for name, n in (("new", entry.since.new), ("gone", entry.since.gone)):
            rows.append(row(name, Estimate(n, n, n)))
    return rows
