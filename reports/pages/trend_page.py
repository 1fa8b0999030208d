"""Runs over time as one HTML file: sentences, figures and a table for each audit."""

from dataclasses import dataclass, field

import pandas as pd
from markupsafe import Markup

from reports.analysis.strategy_estimates import passage_words
from reports.figures.svg import to_svg
from reports.figures.trends import passages_figure, precision_trend_figure, trend_figure
from reports.number_text import DASH, cell, count, percent, percents
from reports.pages.page_shell import render, trusted

_COLUMNS = {
    "when": "time (UTC)",
    "run": "run",
    "verified": "verbatim",
    "checked": "checked",
    "passages": "passages",
    "documents": "documents",
    "new": "new",
    "gone": "gone",
    "unchanged": "unchanged",
    "gate": "gates",
    "seed": "seed",
    "weights": "weights (SHA-256)",
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
    is_scheduled : bool
        Whether its last run was started by a schedule.
    """

    title: str
    about: str
    runs: pd.DataFrame
    figures: pd.DataFrame
    limits: dict[str, float] = field(default_factory=dict)
    is_scheduled: bool = False


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
        lead=lead(page.trends),
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


def lead(trends: list[Trend]) -> list[str]:
    """Sentences for the top of the page: audits whose last run failed a gate; the last run."""
    if not trends:
        return ["No audit has run yet."]
    ends = [(trend.title, trend.runs["gate"].iloc[-1]) for trend in trends]
    failed = [f"{t} ({g.removeprefix('failed: ')})" for t, g in ends if g.startswith("failed")]
    last = _last_run(max(trends, key=lambda trend: trend.runs["when"].max()))
    if not failed or len(trends) == 1:
        return [last]
    told = f"{len(failed):,} of {count(len(trends), 'audit')} failed a gate in the last run: "
    return [f"{told}{'; '.join(failed)}.", last]


def _last_run(trend: Trend) -> str:
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
    """A summary of the runs of one audit, in sentences.

    >>> runs = pd.DataFrame({"when": pd.to_datetime(["2026-11-24"], utc=True), "run": ["r"],
    ...     "verified": [0], "checked": [4], "low": [0.0], "high": [2.41], "new": [None],
    ...     "gone": [None], "unchanged": [None], "gate": [""], "weights": ["a"], "seed": [0]})
    >>> for sentence in sentences(Trend("gpt2", "", runs, pd.DataFrame())):
    ...     print(sentence)
    1 run, on 2026-11-24.
    In the last run, 0 of 4 candidates are verbatim (0.0 %, 95 % interval 0.0–60.2,
    Korn–Graubard).
    """
    runs = trend.runs
    first, last = runs.iloc[0], runs.iloc[-1]
    days = [f"{row['when']:%Y-%m-%d}" for row in (first, last)]
    n_runs = count(len(runs), "run")
    told = [
        f"{n_runs}, on {days[0]}." if days[0] == days[1] else f"{n_runs}, {days[0]} to {days[1]}."
    ]
    if last["checked"]:
        k, n = int(last["verified"]), int(last["checked"])
        low, high = (float(last[end]) / n for end in ("low", "high"))
        is_known = not k or pd.notna(last.get("passages"))
        told.append(
            f"In the last run, {k:,} of {n:,} candidates {'is' if k == 1 else 'are'} verbatim"
            f"{_passages(last)} ({percent(k / n)} %, 95 % interval {percents(low, high)}, "
            f"{'Korn–Graubard' if is_known else 'Clopper–Pearson'})."
        )
    if pd.notna(last["new"]):
        new, gone, same = (int(last[name]) for name in ("new", "gone", "unchanged"))
        passages = "passage is" if new == 1 else "passages are"
        told.append(
            f"Since the previous run, {new:,} {passages} new, {gone:,} gone, {same:,} unchanged."
        )
    gates = [
        f"{n:,} of {n_runs} {words}"
        for state, words in (("failed: ", "failed a gate"), ("warning: ", "had a gate warning"))
        if (n := int(runs["gate"].str.contains(state, regex=False).sum()))
    ]
    if gates:
        told.append(f"{'; '.join(gates)}; the last run {_gate_words(last['gate'])}.")
    if (n_weights := runs["weights"].nunique()) > 1:
        told.append(f"The runs used {n_weights:,} different sets of weights.")
    return told


def _passages(row: pd.Series) -> str:
    """Passages and documents of a run, where they are known."""
    counts = [row.get(name) for name in ("passages", "documents")]
    return "" if pd.isna(counts).any() else passage_words((int(counts[0]), int(counts[1])))


def _gate_words(gate: str) -> str:
    """The gates of a run after "it" or "the run".

    >>> _gate_words("failed: max_verified; warning: max_precision"), _gate_words("passed")
    ('failed max_verified and got a warning for max_precision', 'passed all gates')
    """
    if gate in ("", "passed"):
        return "passed all gates" if gate else "had no gates"
    words = gate.replace("failed: ", "failed ").replace("warning: ", "got a warning for ")
    return words.replace("; ", " and ")


# figure: caption, label of the axis, name of its gate
_KINDS = {
    "verified": (
        "Candidates found verbatim, with 95 % intervals (Korn–Graubard, one cluster per passage)",
        "candidates",
        "max_verified",
    ),
    "exposure": (
        (
            "Exposure of the most exposed canary, with 95 % intervals (Clopper–Pearson, of the "
            "controls that are as likely; none if all secrets were scored)"
        ),
        "bits",
        "max_exposure_bits",
    ),
    "personal_data": (
        (
            "Candidates that contain personal data, with 95 % intervals (Korn–Graubard, one "
            "cluster per passage)"
        ),
        "candidates",
        "max_personal_data",
    ),
}


def _figures(trend: Trend, name: str) -> list[tuple[str, Markup]]:
    """Caption and drawing of every figure for which there are numbers; none of a single run."""
    if len(trend.runs) < 2:
        return []
    drawn = []
    for kind, (caption, label, gate) in _KINDS.items():
        rows = trend.figures[trend.figures["figure"] == kind]
        if len(rows):
            drawing = trend_figure(rows, label, limit=trend.limits.get(gate), runs=trend.runs)
            drawn.append((caption, drawing))
    changes = trend.figures[trend.figures["figure"].isin(["new", "gone"])]
    if changes["value"].any():  # without bars the sentence above is enough
        caption = (
            "Verbatim passages that are new since the previous run (up), and that are gone (down)"
        )
        drawn.append((caption, passages_figure(changes, runs=trend.runs)))
    rows = trend.figures[trend.figures["figure"] == "precision"]
    if len(rows):
        limit = trend.limits.get("max_precision")
        drawing = precision_trend_figure(rows, limit=limit, runs=trend.runs)
        caption = (
            "Percentage of each list found verbatim, with 95 % intervals (Korn–Graubard, one "
            "cluster per passage)"
        )
        drawn.append((caption, drawing))
    return [
        (caption, trusted(to_svg(figure, name=f"{name}f{i}", label=f"{caption}, over the runs.")))
        for i, (caption, figure) in enumerate(drawn)
    ]


def _table(runs: pd.DataFrame) -> tuple[list[str], list[list[str]], int]:
    """All runs, the latest first."""
    frame = runs.iloc[::-1]
    columns = [name for name in _COLUMNS if name in frame and frame[name].notna().any()]
    rows = [[_whole(value) for value in row] for row in frame[columns].itertuples(index=False)]
    return [_COLUMNS[name] for name in columns], rows, len(rows)


def _whole(value: object) -> str:
    if isinstance(value, float) and value == value:
        return f"{value:,.0f}"
    return DASH if value == "" else cell(value)
