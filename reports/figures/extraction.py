"""Figures of extraction: a document's heat map, and the laws of repeats, prefix and size."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from reports.figures.panels import SMALL, bare, draw_inner_legend, new_figure, title_panel
from reports.figures.svg import COLOURS, NO_METADATA, saved
from reports.safe_text import visible

# The p_z from which on text has each shade; below the first it has no colour. The scale is
# absolute: documents can be compared, and a text of which nothing comes out stays blank.
TAUS = (0.001, 0.01, 0.1, 0.5)
_FLOOR = -3  # log10 of the first of them
_SERIES = ("verbatim", "candidate", "fuzzy", "muted")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_MOST_NAMED = 8
_NAME_CHARS = 25  # of a model, in a legend
_AXES = {
    "repeats": "Repeats in the training text",
    "prefix_tokens": "Prefix tokens",
    "n_parameters": "Model parameters",
}


def heatmap_figure(best: Sequence[float] | np.ndarray, *, title: str = "", columns: int = 100):
    """A document from its first character to its last, row by row, shaded by p_z.

    The scale is absolute: from 1 down to 0.001, below which a cell has no colour.

    best : float array (n_chars,), nats. From `attacks.statistics.coverage.best_log_p`; NaN where no
        suffix covers a character.
    columns : cells a row. Where a document has more characters than 60 rows hold, a cell stands for
        several and shows the best of them.

    Source
    ------
    Cooper et al. 2025, "Extracting memorized pieces of (copyrighted) books from open-weight
    language models": the heat maps.

    >>> len(heatmap_figure(np.log([0.5, 0.9]), columns=2).axes)
    2
    """
    cells, per_cell = _cells(np.asarray(best, dtype=float) / np.log(10), columns)
    figure = new_figure(9.0, 1.3 + 0.07 * len(cells))
    panel = figure.subplots()
    ends = ["#fbdcc4", COLOURS["verbatim"]]
    plain = LinearSegmentedColormap.from_list("p_z", ends)
    shades = plain.with_extremes(bad="#dedbd4", under="#ffffff")
    image = panel.imshow(
        np.ma.masked_invalid(cells),
        cmap=shades, vmin=_FLOOR, vmax=0.0, aspect="auto", interpolation="nearest",
    )  # fmt: skip
    bare(panel)
    panel.set_yticks([0, len(cells) - 1] if len(cells) > 1 else [0])
    panel.set_yticklabels([f"{row * columns * per_cell:,}" for row in panel.get_yticks()])
    panel.set_xticks([])
    unit = "one character" if per_cell == 1 else f"the best of {per_cell:,} characters"
    panel.set_ylabel("Character", fontsize=SMALL, color=COLOURS["muted"])
    told = f"One cell: {unit}; white: below 0.001; grey: in no suffix"
    panel.set_xlabel(told, fontsize=SMALL, color=COLOURS["muted"])
    title_panel(panel, visible(title))
    bar = figure.colorbar(image, ax=panel, pad=0.01, fraction=0.04, extend="min")
    ticks = range(_FLOOR, 1)
    bar.set_ticks(list(ticks), labels=[f"{10.0**tick:g}" for tick in ticks])
    bar.ax.tick_params(labelsize=SMALL, labelcolor=COLOURS["muted"], color=COLOURS["rule"])
    bar.set_label("best p_z", fontsize=SMALL, color=COLOURS["muted"])
    return figure


def _cells(log10: np.ndarray, columns: int) -> tuple[np.ndarray, int]:
    """The document as rows of cells; what a last row lacks, and what is not covered, is NaN."""
    per_cell = max(1, -(-len(log10) // (columns * 60)))
    width = columns * per_cell
    n_rows = max(1, -(-len(log10) // width))
    padded = np.full(n_rows * width, np.nan)
    # -inf (a suffix that is never drawn) is below the scale, not left out.
    padded[: len(log10)] = np.where(np.isneginf(log10), 10.0 * _FLOOR, log10)
    grouped = padded.reshape(n_rows, columns, per_cell)
    best = np.where(np.isnan(grouped), -np.inf, grouped).max(axis=2)
    return np.where(np.isneginf(best), np.nan, best), per_cell


def laws_figure(summary: pd.DataFrame, fits: pd.DataFrame) -> Figure | None:
    """The greedily extractable share against repeats, prefix length and model size, with fits.

    summary, fits : from `auditor.extraction.tables`; a panel for each x that has two values or
        more. None if no x has.

    Source
    ------
    Carlini et al. 2022, "Quantifying Memorization Across Neural Language Models", figure 1.

    >>> columns = ["model", "n_parameters", "prefix_tokens", "repeats_from", "repeats_to",
    ...            "outcome", "share", "low", "high"]
    >>> laws_figure(pd.DataFrame(columns=columns), pd.DataFrame()) is None
    True
    """
    greedy = summary[summary["outcome"] == "greedy"]
    series = {name: _series(greedy, name) for name in _AXES}
    drawn = [name for name, lines in series.items() if any(len(line) > 1 for _, line in lines)]
    if not drawn:
        return None
    figure = new_figure(3.4 * max(len(drawn), 2), 3.4)
    panels = list(figure.subplots(1, len(drawn), squeeze=False, sharey=True).flat)
    for panel, name in zip(panels, drawn, strict=True):
        _law(panel, name, series[name], fits)
    panels[0].set_ylabel("Extracted by greedy decoding, %", color=COLOURS["muted"], fontsize=SMALL)
    return figure


def _series(greedy: pd.DataFrame, of: str) -> list[tuple[dict, pd.DataFrame]]:
    """What is held fixed, and the points of x, its name, share, low and high."""
    is_whole = greedy["repeats_from"].isna()
    if of == "repeats":
        rows = greedy[~is_whole]
        # On a log axis the middle of a range is its geometric mean.
        low, high = (rows[name].astype(float) for name in ("repeats_from", "repeats_to"))
        x, held = np.sqrt(low * high), ["model", "prefix_tokens"]
        ends = zip(rows["repeats_from"], rows["repeats_to"], strict=True)
        names = [f"{a}" if a == b else f"{a}–{b}" for a, b in ends]
    else:
        rows = greedy[is_whole]
        x = rows[of].astype(float)
        held = ["model"] if of == "prefix_tokens" else ["prefix_tokens"]
        names = [f"{v / 1e6:.2g} M" if v >= 1e4 else f"{v:,.0f}" for v in x]
    rows = rows.assign(x=x, name=names)
    return [
        (dict(zip(held, key, strict=True)), own.sort_values("x"))
        for key, own in rows.groupby(held, sort=False)
    ]


def _law(panel: Axes, of: str, lines: list[tuple[dict, pd.DataFrame]], fits: pd.DataFrame) -> None:
    bare(panel)
    # What is held fixed: the first by colour, a second one by the shape of the points.
    kinds = [
        list(dict.fromkeys(values)) for values in zip(*(h.values() for h, _ in lines), strict=True)
    ]
    spread = _spread([points["x"] for _, points in lines])
    for (held, points), nudge in zip(lines, spread, strict=True):
        at = [kind.index(value) for kind, value in zip(kinds, held.values(), strict=True)]
        colour = COLOURS[_SERIES[at[0] % len(_SERIES)]]
        marker = _MARKERS[at[-1] % len(_MARKERS)] if len(at) > 1 else "o"
        value = 100 * points["share"].astype(float)
        reach = [
            value - 100 * points["low"].astype(float),
            100 * points["high"].astype(float) - value,
        ]
        x = points["x"] * nudge
        panel.errorbar(x, value, yerr=reach, fmt=marker, ms=4.5, lw=1.2, color=colour)
        fit = _found(fits, of, held)
        if fit is not None and len(points):
            ends = np.array([points["x"].min(), points["x"].max()])
            line = 100 * (fit["intercept"] + fit["slope"] * np.log10(ends))
            panel.plot(ends, line, color=colour, lw=1, ls="--")
    panel.set_xscale("log")
    panel.xaxis.set_minor_formatter(NullFormatter())
    names = {x: name for _, part in lines for x, name in zip(part["x"], part["name"], strict=True)}
    if len(names) <= 8:  # the values themselves say more than powers of ten
        panel.set_xticks(list(names), list(names.values()))
    panel.set_ylim(-3, 103)
    panel.set_xlabel(_AXES[of], fontsize=SMALL, color=COLOURS["muted"])
    _legend(panel, kinds)


def _spread(lines: list[pd.Series]) -> np.ndarray:
    """Factors that set lines side by side on a log axis, so that none hides another's interval."""
    gaps = np.diff(np.log(np.unique(np.concatenate(lines))))
    step = min(0.07, 0.4 * min(gaps, default=0.0) / len(lines))
    return np.exp(step * (np.arange(len(lines)) - (len(lines) - 1) / 2))


def _legend(panel: Axes, kinds: list[list]) -> None:
    """A colour for each of the first kind, a shape for each of the second; above the points."""
    entries = []
    for at, kind in enumerate(kinds):
        for i, value in enumerate(kind[:_MOST_NAMED]):
            label = _short(visible(value)) if isinstance(value, str) else f"{value} tokens"
            colour = COLOURS["muted"] if at else COLOURS[_SERIES[i % len(_SERIES)]]
            marker = _MARKERS[i % len(_MARKERS)] if at else "o"
            entries.append(
                Line2D([], [], ls="", marker=marker, ms=4.5, color=colour, label=f" {label}")
            )
    draw_inner_legend(
        panel, handles=entries, fontsize=7, labelcolor=COLOURS["muted"],
        loc="lower left", bbox_to_anchor=(0, 1), ncols=2, columnspacing=1,
    )  # fmt: skip


def _short(name: str) -> str:
    """The end of a long name, where names differ: a legend must leave its panel room.

    >>> _short("testbed:runs/of/some/very/long/folder/testbed/target")
    '…ng/folder/testbed/target'
    """
    return name if len(name) <= _NAME_CHARS else "…" + name[1 - _NAME_CHARS :]


def _found(fits: pd.DataFrame, of: str, held: dict) -> pd.Series | None:
    if not len(fits):
        return None
    rows = fits[(fits["of"] == of) & (fits["withheld"] == "")]
    for name, value in held.items():
        rows = rows[rows[name] == value]
    return rows.iloc[0] if len(rows) else None


def figure_files(figure: Figure, name: str) -> dict[str, bytes]:
    """The figure as NAME.png and NAME.svg; the same figure gives the same bytes.

    >>> sorted(figure_files(Figure(figsize=(1, 1)), "a"))
    ['a.png', 'a.svg']
    """
    return {
        f"{name}.png": saved(figure, "png", dpi=150, metadata={"Software": None}),
        f"{name}.svg": saved(figure, "svg", dpi=150, metadata=NO_METADATA),
    }
