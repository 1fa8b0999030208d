"""Runs over time as one HTML file: sentences, figures and a table for each audit."""

from dataclasses import dataclass, field

import pandas as pd
from markupsafe import Markup

from reports.analysis.strategy_estimates import passage_words
from reports.analysis.summary import percent
from reports.figures.svg import to_svg
from reports.figures.trends import passages_figure, precision_trend_figure, trend_figure
from reports.pages.page_shell import render, trusted

_COLUMNS = {
    "when": "when, UTC",
    "run": "run",
    "verified": "verbatim",
    "checked": "of checked",
    "passages": "passages",
    "documents": "documents",
    "new": "new",
    "gone": "gone",
    "unchanged": "unchanged",
    "gate": "gates",
    "seed": "seed",
    "weights": "weights, sha256",
}


@dataclass(frozen=True, eq=False)
class Trend:
    """The runs of one audit.

    title, about : str
        Its model, and how it samples.
    runs : DataFrame
        when (datetime64, UTC), run, seed, weights, verified (with low and high, all three counts),
        checked, passages, documents, new, gone, unchanged, gate; a row a run, the earliest first.
        Missing where a run has no such figure.
    figures : DataFrame
        when, figure ("verified", "precision", "exposure", "personal_data", "new" or "gone"), of,
        value, low, high; counts, fractions or bits.
    limits : dict
        Name of a gate to its limit, in the unit of its figure.
    """

    title: str
    about: str
    runs: pd.DataFrame
    figures: pd.DataFrame
    limits: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class TrendPage:
    """All that a page shows: a title, a Trend an audit, and sentences on what is left out."""

    title: str
    trends: list[Trend]
    notices: list[str] = field(default_factory=list)


def render_trends(page: TrendPage) -> str:
    """The page as one self-contained HTML document; nothing in it runs."""
    return render(
        "trend.html.j2",
        styles=("report.css", "trend.css"),
        page=page,
        lead=_lead(page.trends[0]) if page.trends else "Nothing has run.",
        sections=[
            {
                "title": trend.title,
                "about": trend.about,
                "sentences": sentences(trend),
                "figures": _figures(trend, f"t{i}"),
                "table": _table(trend.runs),
            }
            for i, trend in enumerate(page.trends)
        ],
    )


def _lead(trend: Trend) -> str:
    """The last run of all in one sentence."""
    last = trend.runs.iloc[-1]
    # In large letters, a date with hyphens would break at one.
    day = f"{last['when'].day}\u00a0{last['when']:%B}\u00a0{last['when'].year}"
    begin = f"The last run, of {trend.title} on {day}"
    if not last["checked"]:
        return f"{begin}, was not checked against training text."
    gate = f"; it {_gate_words(last['gate'])}" if last["gate"] else ""
    found = f"{int(last['verified']):,} of {int(last['checked']):,} candidates verbatim"
    found += _passages(last)
    return f"{begin}, found {found}{gate}."


def sentences(trend: Trend) -> list[str]:
    """What the runs of one audit come to.

    >>> runs = pd.DataFrame({"when": pd.to_datetime(["2026-11-24"], utc=True), "run": ["r"],
    ...     "verified": [0], "checked": [4], "low": [0.0], "high": [2.41], "new": [None],
    ...     "gone": [None], "unchanged": [None], "gate": [""], "weights": ["a"], "seed": [0]})
    >>> for sentence in sentences(Trend("gpt2", "", runs, pd.DataFrame())):
    ...     print(sentence)
    1 run, on 2026-11-24.
    In the last, 0 of 4 candidates are verbatim (0.0 %, 95 % interval 0.0–60.2, by Korn and
    Graubard).
    """
    runs = trend.runs
    first, last = runs.iloc[0], runs.iloc[-1]
    days = [f"{row['when']:%Y-%m-%d}" for row in (first, last)]
    count = "1 run" if len(runs) == 1 else f"{len(runs):,} runs"
    told = [
        f"{count}, on {days[0]}." if days[0] == days[1] else f"{count}, {days[0]} to {days[1]}."
    ]
    if last["checked"]:
        k, n = int(last["verified"]), int(last["checked"])
        low, high = (float(last[end]) / n for end in ("low", "high"))
        is_known = not k or pd.notna(last.get("passages"))
        told.append(
            f"In the last, {k:,} of {n:,} candidates are verbatim{_passages(last)} "
            f"({percent(k / n)} %, 95 % interval {percent(low)}–{percent(high)}, by "
            f"{'Korn and Graubard' if is_known else 'Clopper and Pearson'})."
        )
    if pd.notna(last["new"]):
        new, gone, same = (int(last[name]) for name in ("new", "gone", "unchanged"))
        passages = "passage is" if new == 1 else "passages are"
        told.append(
            f"Since the run before it, {new:,} {passages} new, {gone:,} gone, {same:,} unchanged."
        )
    if (failed := int(runs["gate"].str.startswith("failed").sum())) > 0:
        told.append(f"{failed:,} of {count} failed a gate; the last {_gate_words(last['gate'])}.")
    if (n_weights := runs["weights"].nunique()) > 1:
        told.append(f"The model had {n_weights:,} different sets of weights.")
    return told


def _passages(row: pd.Series) -> str:
    """Passages and documents of a run, where they are known."""
    counts = [row.get(name) for name in ("passages", "documents")]
    return "" if pd.isna(counts).any() else passage_words((int(counts[0]), int(counts[1])))


def _gate_words(gate: str) -> str:
    """ "failed max_verified", "passed all", or that none was asked."""
    if gate.startswith("failed: "):
        return gate.replace("failed: ", "failed ", 1)
    return "passed all" if gate else "was asked none"


# figure: caption, label of the axis, name of its gate
_KINDS = {
    "verified": (
        "Candidates found verbatim, with 95 % intervals (Korn–Graubard, a passage one cluster)",
        "candidates",
        "max_verified",
    ),
    "exposure": ("Exposure of the most exposed canary", "bits", "max_exposure_bits"),
    "personal_data": (
        "Candidates that hold personal data, with 95 % intervals of the same kind",
        "candidates",
        "max_personal_data",
    ),
}


def _figures(trend: Trend, name: str) -> list[tuple[str, Markup]]:
    """Caption and drawing of every figure for which there are numbers."""
    drawn = []
    for kind, (caption, label, gate) in _KINDS.items():
        rows = trend.figures[trend.figures["figure"] == kind]
        if len(rows):
            drawing = trend_figure(rows, label, limit=trend.limits.get(gate), runs=trend.runs)
            drawn.append((caption, drawing))
    changes = trend.figures[trend.figures["figure"].isin(["new", "gone"])]
    if changes["value"].any():  # no bars say less than the sentence that says so
        caption = "Passages found verbatim that the run before did not have, and that it alone had"
        drawn.append((caption, passages_figure(changes, runs=trend.runs)))
    rows = trend.figures[trend.figures["figure"] == "precision"]
    if len(rows):
        limit = trend.limits.get("max_precision")
        drawing = precision_trend_figure(rows, limit=limit, runs=trend.runs)
        drawn.append(
            (
                "Share of each list found verbatim, %, with its 95 % interval (Korn–Graubard)",
                drawing,
            )
        )
    return [
        (caption, trusted(to_svg(figure, name=f"{name}f{i}", label=f"{caption}, over the runs.")))
        for i, (caption, figure) in enumerate(drawn)
    ]


def _table(runs: pd.DataFrame) -> tuple[list[str], list[list[str]], int]:
    """All runs, the latest first."""
    frame = runs.iloc[::-1]
    columns = [name for name in _COLUMNS if name in frame and frame[name].notna().any()]
    rows = [[_cell(value) for value in row] for row in frame[columns].itertuples(index=False)]
    return [_COLUMNS[name] for name in columns], rows, len(rows)


def _cell(value: object) -> str:
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d %H:%M}"
    if pd.isna(value) or value == "":  # type: ignore[call-overload]
        return "–"
    return f"{value:,.0f}" if isinstance(value, float) else str(value)
