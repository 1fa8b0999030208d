"""Figures of runs over time: each with its interval, and its limit where there is one."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reports.figures.panels import bare, draw_legend, name_axes, new_figure, one_panel, title_panel
from reports.figures.svg import COLOURS


def trend_figure(
    figures: pd.DataFrame,
    label: str,
    *,
    limit: float | None = None,
    runs: pd.DataFrame | None = None,
) -> Figure:
    """One figure of each run, with its interval.

    figures : when (datetime64 with its zone), value, low, high; a row a run.
    label : what is measured, in which unit.
    limit : drawn as a line: a gate.
    runs : when, of all runs that the axis has room for; by default those of the figure.

    >>> when = pd.to_datetime(["2026-11-17", "2026-11-24"], utc=True)
    >>> frame = pd.DataFrame({"when": when, "value": [1, 2], "low": [0, 1], "high": [2, 4]})
    >>> len(trend_figure(frame, "candidates", limit=3).axes)
    1
    """
    figure, panel = one_panel(9.0, 2.9)
    value = figures["value"].to_numpy(float)
    reach = [value - figures["low"].to_numpy(float), figures["high"].to_numpy(float) - value]
    panel.errorbar(
        _times(figures), value, yerr=reach, fmt="o-", ms=5, lw=1.4, color=COLOURS["verbatim"],
        ecolor=COLOURS["verbatim"], elinewidth=1.2, label="value, 95 % interval",
    )  # fmt: skip
    top = max([figures["high"].max(), limit or 0.0, 1e-9])
    if limit is not None:
        panel.axhline(limit, color=COLOURS["muted"], lw=1, ls="--", label="limit")
    panel.set_ylim(-0.03 * top, 1.06 * top)
    panel.yaxis.set_major_locator(MaxNLocator(5, integer=top >= 5))
    _dates(panel, figures if runs is None else runs)
    name_axes(panel, y=label)
    draw_legend(figure, panel)
    return figure


def precision_trend_figure(
    figures: pd.DataFrame, *, limit: float | None = None, runs: pd.DataFrame | None = None
) -> Figure:
    """Precision of every list over the runs, one panel each: rows are scores, columns strategies.

    figures : when, value, low, high (fractions) and of: "STRATEGY\\nSCORE".
    limit : A fraction, drawn as a line.
    runs : as in `trend_figure`.

    >>> when = pd.to_datetime(["2026-11-24"], utc=True)
    >>> frame = pd.DataFrame({"when": when, "value": 0.5, "low": 0.2, "high": 0.8})
    >>> lists = [frame.assign(of=of) for of in ("top-n\\nzlib", "top-n\\nwindow")]
    >>> len(precision_trend_figure(pd.concat(lists)).axes)
    2
    """
    parts = figures["of"].str.split("\n", n=1, expand=True)
    own = figures.assign(strategy=parts[0], score=parts[1])
    strategies, scores = (list(dict.fromkeys(own[name])) for name in ("strategy", "score"))
    figure = new_figure(9.0, 0.7 + 1.05 * len(scores))
    grid = figure.subplots(len(scores), len(strategies), squeeze=False, sharex=True, sharey=True)
    for i, score in enumerate(scores):
        for j, strategy in enumerate(strategies):
            panel = grid[i][j]
            rows = own[(own["score"] == score) & (own["strategy"] == strategy)]
            _band(panel, rows, limit)
            if j == 0:
                name_axes(panel, y=score)
                panel.yaxis.label.set_rotation(0)
                panel.yaxis.label.set_horizontalalignment("right")
                panel.yaxis.label.set_verticalalignment("center")
            if i == 0:
                muted = {"fontweight": "normal", "color": COLOURS["muted"]}
                title_panel(panel, strategy, fontsize=8.5, **muted)
    for panel in grid[-1]:
        _dates(panel, own if runs is None else runs)
    return figure


def _band(panel: Axes, rows: pd.DataFrame, limit: float | None) -> None:
    bare(panel)
    when = _times(rows)
    low, value, high = (100 * rows[name].to_numpy(float) for name in ("low", "value", "high"))
    colour = COLOURS["verbatim"]
    if len(rows) > 1:
        panel.fill_between(when, low, high, color=colour, alpha=0.18, lw=0)
    panel.plot(when, value, "o-", color=colour, ms=3.5, lw=1.3)
    if len(rows) == 1:
        panel.vlines(when, low, high, color=colour, lw=1.2)
    if limit is not None:
        panel.axhline(100 * limit, color=COLOURS["muted"], lw=1, ls="--")
    panel.set_ylim(-4, 104)
    panel.set_yticks([0, 50, 100])


def passages_figure(figures: pd.DataFrame, *, runs: pd.DataFrame | None = None) -> Figure:
    """Passages that are new since the run before, upwards, and those that are gone, downwards.

    figures : when, figure ("new" or "gone"), value.
    runs : as in `trend_figure`.

    >>> when = pd.to_datetime(["2026-11-24"], utc=True)
    >>> frame = pd.DataFrame({"when": when, "figure": "new", "value": [2.0]})
    >>> len(passages_figure(frame).axes)
    1
    """
    figure, panel = one_panel(9.0, 2.4)
    for name, sign, role in (("new", 1, "verbatim"), ("gone", -1, "sample")):
        rows = figures[figures["figure"] == name]
        panel.vlines(
            _times(rows), 0, sign * rows["value"].to_numpy(float), lw=9, color=COLOURS[role],
            label=name,
        )  # fmt: skip
    panel.axhline(0, color=COLOURS["rule"], lw=1)
    most = max(1.0, figures["value"].max())
    panel.set_ylim(-1.15 * most, 1.15 * most)
    panel.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    panel.yaxis.set_major_formatter(lambda y, _: f"{abs(y):,.0f}")
    _dates(panel, figures if runs is None else runs)
    name_axes(panel, y="passages")
    draw_legend(figure, panel)
    return figure


def _times(figures: pd.DataFrame) -> np.ndarray:
    """Times in UTC as matplotlib takes them."""
    return figures["when"].dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[s]")


def _dates(panel: Axes, figures: pd.DataFrame) -> None:
    """Short, distinct dates, with a margin at both ends."""
    times = _times(figures)
    first, last = times.min(), times.max()
    air = max((last - first) // 20, np.timedelta64(3600 if first == last else 20, "s"))
    panel.set_xlim(first - air, last + air)
    locator = AutoDateLocator(minticks=2, maxticks=7)
    panel.xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator)
    panel.xaxis.set_major_formatter(formatter)
    panel.xaxis.get_offset_text().set(color=COLOURS["muted"], fontsize=8.5)
