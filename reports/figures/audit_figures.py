"""Frames to figures, by matplotlib's objects alone: no pyplot, nothing global.

Colours have roles. On the page `to_svg` swaps each for the page's own colour of that role, so that
a figure follows the reader's light or dark theme; elsewhere they are what they are here.
"""

from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from reports.analysis.schema import CONTROL
from reports.figures.panels import SMALL, bare_panels, draw_legend, name_axes, one_panel, plain
from reports.figures.svg import COLOURS, to_svg
from reports.listed import listed

__all__ = [
    "COLOURS",
    "by_repeats_figure",
    "by_strategy_figure",
    "figure3",
    "precision_figure",
    "to_svg",
]

_RASTER_FROM = 2_000  # points of one kind above which they are drawn as an image
_OVERVIEW = 5.9  # inches: the picture beside the verdict
_FEW = 5  # documents: their intervals are wider than half of the plot
_PLURALS = {"text": "documents", "canary": "canaries"}


def figure3(scores: pd.DataFrame, candidates: pd.DataFrame) -> Figure:
    """zlib entropy against perplexity: all samples, the candidates, and what was found.

    Parameters
    ----------
    scores : DataFrame
        strategy, nll and zlib_bits of all samples.
    candidates : DataFrame
        The same of the candidates, with verdict and best_rank; those of the control alone are
        not drawn.

    Returns
    -------
    Figure
        One panel a strategy.

    Source
    ------
    Carlini et al. 2021, Figure 3.

    >>> scores = pd.DataFrame({"strategy": ["top-n"], "nll": [1.0], "zlib_bits": [900.0]})
    >>> len(figure3(scores, scores.assign(verdict="verbatim", best_rank=1)).axes)
    1
    """
    strategies = list(dict.fromkeys(scores["strategy"]))
    figure, panels = bare_panels(strategies, 3.9)
    chosen = listed(candidates)
    layers = (
        ("fuzzy", "near match", "fuzzy", {"marker": "D", "s": 16}),
        ("verbatim", "found verbatim", "verbatim", {"marker": "o", "s": 18}),
    )
    for panel, strategy in zip(panels, strategies, strict=True):
        own = chosen[chosen["strategy"] == strategy]
        everything = scores[scores["strategy"] == strategy]
        _scatter(panel, everything, "all samples", color=COLOURS["sample"], s=5, alpha=0.35, lw=0)
        rest = own[~own["verdict"].isin([layer[0] for layer in layers])]
        blue = COLOURS["candidate"]
        _scatter(panel, rest, "candidates", facecolors="none", edgecolors=blue, s=16, linewidths=1)
        for verdict, label, role, style in layers:
            found = own[own["verdict"] == verdict]
            # A verdict that no candidate has needs no line in the legend.
            if (chosen["verdict"] == verdict).any():
                _scatter(panel, found, label, color=COLOURS[role], lw=0, **style)
        name_axes(panel, x="Perplexity under the target")
    for panel in panels:
        _scale(panel)
    if panels:
        panels[0].set_ylabel("zlib entropy, bits")
        draw_legend(figure, panels[0])
    return figure


def _scale(panel: Axes) -> None:
    """Perplexity on a log axis with plain numbers, enough of them for its range; bits linear."""
    panel.set_xscale("log")
    low, high = panel.get_xlim()
    n_decades = np.log10(high / low)
    panel.xaxis.set_major_locator(LogLocator(subs=(1,) if n_decades > 2 else (1, 2, 5)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}"))


def _scatter(panel: Axes, frame: pd.DataFrame, label: str, **style: object) -> None:
    """Points of a frame that have a place on the plot; an image where they are many."""
    with np.errstate(over="ignore"):
        perplexity = np.exp(frame["nll"].to_numpy(dtype=float, na_value=np.nan))
    bits = frame["zlib_bits"].to_numpy(dtype=float, na_value=np.nan)
    shown = np.isfinite(perplexity) & np.isfinite(bits)
    many = bool(shown.sum() > _RASTER_FROM)
    panel.scatter(perplexity[shown], bits[shown], label=label, rasterized=many, **style)  # type: ignore[arg-type]


def precision_figure(summary: pd.DataFrame) -> Figure:
    """Precision of each list with its interval, beside a random draw.

    Parameters
    ----------
    summary : DataFrame

    Returns
    -------
    Figure
        One panel a strategy; the control is a line, its interval a band.

    >>> frame = pd.DataFrame({"strategy": ["top-n"] * 2, "score": ["zlib", "random"],
    ...     "precision": [0.6, 0.1], "precision_low": [0.5, 0.0], "precision_high": [0.7, 0.2]})
    >>> len(precision_figure(frame).axes)
    1
    """
    strategies = list(dict.fromkeys(summary["strategy"]))
    names = [score for score in dict.fromkeys(summary["score"]) if score != CONTROL]
    height = 1.1 + 0.32 * len(names)
    figure, panels = bare_panels(strategies, height)
    for panel, strategy in zip(panels, strategies, strict=True):
        own = summary[summary["strategy"] == strategy].set_index("score")
        if CONTROL in own.index:
            control = 100 * own.loc[CONTROL, ["precision", "precision_low", "precision_high"]]
            low, high = control["precision_low"], control["precision_high"]
            panel.axvspan(low, high, color=COLOURS["sample"], alpha=0.18, lw=0)
            label = "random draw, 95 % interval"
            panel.axvline(control["precision"], color=COLOURS["muted"], lw=1, ls="--", label=label)
        rows = 100 * own.reindex(names)[["precision", "precision_low", "precision_high"]]
        value = rows["precision"]
        reach = [value - rows["precision_low"], rows["precision_high"] - value]
        panel.errorbar(
            value, range(len(names)), xerr=reach, fmt="o", ms=5, lw=1.4,
            color=COLOURS["verbatim"], label="list of a score, 95 % interval",
        )  # fmt: skip
        panel.set_yticks(range(len(names)), names)
        panel.tick_params(axis="y", length=0, labelcolor=COLOURS["ink"])
        panel.spines["left"].set_visible(False)
        panel.grid(axis="y", color=COLOURS["rule"], lw=0.6)
        panel.set_axisbelow(True)
        panel.set_xlim(-2, 102)
        panel.set_ylim(len(names) - 0.5, -0.5)
        name_axes(panel, x="Found verbatim, % of the list")
    if panels:
        draw_legend(figure, panels[0])
    return figure


def by_strategy_figure(strategies: pd.DataFrame) -> Figure:
    """The share of unselected samples that repeat training text, a line for each strategy.

    strategies : the frame `strategies`; those whose samples were looked up are drawn

    >>> frame = pd.DataFrame({"strategy": ["top-n"], "n_looked_up": [9], "precision": [0.5],
    ...     "precision_low": [0.2], "precision_high": [0.8]})
    >>> len(by_strategy_figure(frame).axes)
    1
    """
    own = strategies[strategies["n_looked_up"] > 0]
    figure, panel = one_panel(_OVERVIEW, 1.1 + 0.45 * len(own))
    value = 100 * own["precision"].to_numpy(float)
    low, high = (100 * own[f"precision_{end}"].to_numpy(float) for end in ("low", "high"))
    low, high = np.where(np.isnan(low), value, low), np.where(np.isnan(high), value, high)
    at = range(len(own))
    panel.errorbar(
        value, at, xerr=[value - low, high - value], fmt="o", ms=6, lw=1.6,
        color=COLOURS["verbatim"],
    )  # fmt: skip
    for y, share in zip(at, value, strict=True):
        panel.annotate(
            f"{share:.1f} %", (share, y), xytext=(0, 6), textcoords="offset points", ha="center",
            fontsize=SMALL, color=COLOURS["ink"],
        )  # fmt: skip
    panel.set_yticks(at, [plain(str(name)) for name in own["strategy"]])
    panel.tick_params(axis="y", length=0, labelcolor=COLOURS["ink"])
    panel.spines["left"].set_visible(False)
    panel.set_ylim(len(own) - 0.5, -0.5)
    most = max(high.max(), 1.0)
    panel.set_xlim(-0.04 * most, 1.05 * most)
    name_axes(panel, x="Samples that repeat training text, % (95 % interval)")
    return figure


def by_repeats_figure(table: pd.DataFrame) -> Figure:
    """The share of documents extracted, by number of repeats in the training text.

    Of a kind with fewer than five documents at most of its points, only the shares are drawn: the
    intervals would fill the plot.

    table : what `tables.by_repeats` returns.

    Source
    ------
    Carlini et al. 2021, section 7.

    >>> table = pd.DataFrame({"kind": ["text"], "repeats": [4], "share": [0.5], "low": [0.1],
    ...     "high": [0.9], "n_documents": [9]})
    >>> len(by_repeats_figure(table).axes)
    1
    """
    figure, panel = one_panel(_OVERVIEW, 3.1)
    repeats = sorted(table["repeats"].unique())
    kinds = sorted(table["kind"].unique(), reverse=True)
    colours = cycle(COLOURS[role] for role in ("verbatim", "candidate", "fuzzy", "muted"))
    for at, (kind, colour) in enumerate(zip(kinds, colours, strict=False)):
        own = table[table["kind"] == kind].sort_values("repeats")
        # Side by side, so that points of two kinds do not hide each other.
        x = [repeats.index(n) + 0.12 * (at - (len(kinds) - 1) / 2) for n in own["repeats"]]
        value = 100 * own["share"]
        if (n_documents := own["n_documents"].median()) < _FEW:
            label = f"{_PLURALS.get(kind, kind)}, {n_documents:.0f} each (intervals in the table)"
            panel.plot(x, value, "D", ms=5, mfc="none", color=colour, label=label)
            continue
        reach = [value - 100 * own["low"], 100 * own["high"] - value]
        label = f"{_PLURALS.get(kind, kind)}, with 95 % interval"
        panel.errorbar(x, value, yerr=reach, fmt="o-", ms=5, lw=1.6, color=colour, label=label)
    panel.set_xticks(range(len(repeats)), [f"{n:,}" if n else "held out" for n in repeats])
    panel.set_ylim(-3, 103)
    panel.yaxis.set_major_locator(MaxNLocator(5))
    name_axes(panel, "Repeats in the training text", "Extracted, %")
    draw_legend(figure, panel)
    return figure
