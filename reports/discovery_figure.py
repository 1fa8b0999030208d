"""Distinct passages against tokens sampled: what more sampling would bring, at a glance."""

from itertools import cycle

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reports.escaping import visible
from reports.svg import COLOURS

_ROLES = ("verbatim", "candidate", "fuzzy", "muted")
_LINES = ("-", "--", ":", "-.")


def discovery_figure(discovery: pd.DataFrame) -> Figure:
    """The discovery curve of each strategy, with its 95 % band.

    Parameters
    ----------
    discovery : DataFrame
        The frame `discovery`. Its `expected` is drawn: the curve as it goes on average.

    Returns
    -------
    Figure

    Source
    ------
    As `attacks.discovery`.

    >>> frame = pd.DataFrame({"strategy": "top-n", "n_tokens": [10.0, 20.0], "expected": [1.0, 1.5],
    ...     "low": [0.0, 0.5], "high": [2.0, 2.5]})
    >>> len(discovery_figure(frame).axes[0].lines)
    1
    """
    figure = Figure(figsize=(7.2, 3.4), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    styles = cycle(zip(_ROLES, _LINES, strict=True))
    groups = discovery.groupby("strategy", sort=False)
    for (name, own), (role, line) in zip(groups, styles, strict=False):
        label = visible(str(name)).encode("ascii", "backslashreplace").decode()
        axes.fill_between(
            own["n_tokens"], own["low"], own["high"], color=COLOURS[role], alpha=0.14, lw=0
        )
        axes.plot(own["n_tokens"], own["expected"], line, color=COLOURS[role], lw=1.4, label=label)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_facecolor("none")
    axes.set_xlabel("Tokens sampled", color=COLOURS["muted"], fontsize=8.5)
    axes.set_ylabel("Distinct passages, expected", color=COLOURS["muted"], fontsize=8.5)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.tick_params(color=COLOURS["rule"], labelcolor=COLOURS["muted"], labelsize=8.5)
    for side, spine in axes.spines.items():
        spine.set(visible=side in ("left", "bottom"), color=COLOURS["rule"])
    if axes.lines:
        key = axes.legend(frameon=False, labelcolor=COLOURS["ink"], fontsize=8.5, loc="upper left")
        for text in key.get_texts():
            text.set_parse_math(False)
    return figure
