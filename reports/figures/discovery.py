"""Distinct passages against tokens sampled: what more sampling would find."""

from itertools import cycle

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reports.figures.panels import SMALL, draw_inner_legend, name_axes, one_panel, plain
from reports.figures.svg import COLOURS

_ROLES = ("verbatim", "candidate", "fuzzy", "muted")
_LINES = ("-", "--", ":", "-.")


def discovery_figure(discovery: pd.DataFrame) -> Figure:
    """The discovery curve of each strategy, with its 95 % band.

    discovery : the frame `discovery`. Its `expected` is drawn: the curve as it goes on average.

    Source
    ------
    As `attacks.statistics.discovery_curve`.

    >>> frame = pd.DataFrame({"strategy": "top-n", "n_tokens": [10.0, 20.0], "expected": [1.0, 1.5],
    ...     "low": [0.0, 0.5], "high": [2.0, 2.5]})
    >>> len(discovery_figure(frame).axes[0].lines)
    1
    """
    figure, axes = one_panel(7.2, 3.4)
    styles = cycle(zip(_ROLES, _LINES, strict=True))
    groups = discovery.groupby("strategy", sort=False, observed=True)
    for (name, own), (role, line) in zip(groups, styles, strict=False):
        axes.fill_between(
            own["n_tokens"], own["low"], own["high"], color=COLOURS[role], alpha=0.14, lw=0
        )
        axes.plot(
            own["n_tokens"],
            own["expected"],
            line,
            color=COLOURS[role],
            lw=1.4,
            label=plain(str(name)),
        )
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    name_axes(axes, "Tokens sampled", "Distinct passages, expected")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    if axes.lines:
        draw_inner_legend(axes, labelcolor=COLOURS["ink"], fontsize=SMALL, loc="upper left")
    return figure
