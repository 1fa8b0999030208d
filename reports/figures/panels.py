"""What all figures share: a figure by matplotlib's objects alone, bare panels, labels, a legend.

No pyplot, nothing global. Colours have roles: see `svg`.
"""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from reports.figures.svg import COLOURS
from reports.safe_text import visible

SMALL, BASE = 8.5, 9.5  # font sizes, points


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches that lays itself out."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def one_panel(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure with one bare panel."""
    figure = new_figure(width, height)
    panel = figure.subplots()
    bare(panel)
    return figure, panel


def plain(name: str) -> str:
    """A name in characters that every font has."""
    return visible(name).encode("ascii", "backslashreplace").decode()


def title_panel(panel: Axes, title: str, **style) -> None:
    """A panel's title at the left; a dollar sign in it starts no formula."""
    style = {"fontsize": BASE, "fontweight": "bold", "color": COLOURS["ink"], **style}
    panel.set_title(title, loc="left", parse_math=False, **style)


def draw_inner_legend(panel: Axes, **style) -> None:
    """A legend within the panel, whose labels may hold any character."""
    for text in panel.legend(frameon=False, **style).get_texts():
        text.set_parse_math(False)


def bare_panels(names: Sequence[str], height: float) -> tuple[Figure, list[Axes]]:
    """A figure with one bare panel for each name, at most three side by side, on equal axes."""
    n_columns = min(max(len(names), 1), 3)
    n_rows = -(-max(len(names), 1) // n_columns)
    figure = new_figure(9.0 if n_columns > 1 else 7.2, height * n_rows)
    grid = figure.subplots(n_rows, n_columns, squeeze=False, sharex=True, sharey=True)
    panels = list(grid.flat)
    for panel in panels[max(len(names), 1) :]:
        panel.set_axis_off()
    for panel, name in zip(panels, names, strict=False):
        bare(panel)
        title_panel(panel, name)
    return figure, panels[: len(names)]


def bare(panel: Axes) -> None:
    """A panel with two axes, in the colours of their role."""
    for side, spine in panel.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(COLOURS["rule"])
    panel.tick_params(
        which="both", color=COLOURS["rule"], labelcolor=COLOURS["muted"], labelsize=SMALL
    )
    panel.tick_params(which="minor", length=0)
    panel.set_facecolor("none")


def name_axes(panel: Axes, x: str = "", y: str = "") -> None:
    """Name a panel's axes."""
    panel.set_xlabel(x, fontsize=SMALL, color=COLOURS["muted"])
    panel.set_ylabel(y, fontsize=SMALL, color=COLOURS["muted"])


def draw_legend(figure: Figure, panel: Axes) -> None:
    """Above the figure, what the marks of a panel mean."""
    handles, labels = panel.get_legend_handles_labels()
    if handles:
        box = figure.legend(
            handles, labels, loc="outside upper left", ncols=4, frameon=False,
            fontsize=SMALL, labelcolor=COLOURS["muted"], handletextpad=0.4, columnspacing=1.6,
        )  # fmt: skip
        for handle in box.legend_handles:
            if isinstance(handle, PathCollection):
                handle.set_sizes([24])  # samples are too small to see in a legend
                handle.set_alpha(1)
