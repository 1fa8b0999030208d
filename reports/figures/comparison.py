"""Figures of a comparison: every text's change, and exposure through training."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.figures.panels import bare, name_axes, new_figure
from reports.figures.svg import COLOURS

_MOST_POINTS = 2_000


def change_figure(texts: pd.DataFrame, figures: list[tuple[str, str]]) -> Figure:
    """Each text's change, members above held-out text, a panel a figure; ticks are the means.

    Without held-out text there is no row for it.

    Parameters
    ----------
    texts : DataFrame: member (bool), and NAME_change of each figure
    figures : list of (name, label of the axis)

    Returns
    -------
    Figure
        At most 2,000 points a group, the first of them; what is not finite is not drawn.

    >>> texts = pd.DataFrame({"member": [True, False], "zlib_change": [2.0, 0.5]})
    >>> len(change_figure(texts, [("zlib", "bits a nat")]).axes)
    1
    """
    groups = [(False, "held out", "sample"), (True, "members", "verbatim")]
    groups = [group for group in groups if (texts["member"] == group[0]).any()]
    figure = new_figure(9.0, 0.8 + (0.5 + 0.5 * len(groups)) * len(figures))
    panels = figure.subplots(len(figures), 1, squeeze=False).flat
    for panel, (name, label) in zip(panels, figures, strict=True):
        bare(panel)
        for level, (is_member, group, role) in enumerate(groups):
            own = texts.loc[texts["member"] == is_member, f"{name}_change"].to_numpy(float)
            own = own[np.isfinite(own)]
            if not len(own):
                continue
            # A fixed scatter across the row, so that the same frame gives the same picture.
            off = 0.28 * np.sin(2.4 * np.arange(len(own)))[:_MOST_POINTS]
            panel.scatter(
                own[:_MOST_POINTS], level + off, s=9, alpha=0.45, lw=0, color=COLOURS[role],
                label=group,
            )  # fmt: skip
            panel.plot([own.mean()] * 2, [level - 0.42, level + 0.42], color=COLOURS["ink"], lw=2)
        panel.axvline(0, color=COLOURS["rule"], lw=1, zorder=0)
        panel.set_yticks(range(len(groups)), [group for _, group, _ in groups])
        panel.set_ylim(-0.6, len(groups) - 0.4)
        name_axes(panel, x=label)
    return figure


def exposure_by_step(probes: pd.DataFrame) -> pd.DataFrame:
    """Mean exposure of canaries during training: one row per step, one column per repeat count.

    Returns DataFrame: step; "1x", "2x", ...: mean bits of the canaries with so many copies in the
    training text. No rows if no canaries were measured.

    >>> probes = pd.DataFrame({"step": [5], "exposure": [[1.0, 3.0, 8.0]], "repeats": [[1, 1, 4]]})
    >>> exposure_by_step(probes).to_dict("records")
    [{'step': 5, '1x': 2.0, '4x': 8.0}]
    """
    lists = ["exposure", "repeats"]
    every = probes[["step", *lists]].explode(lists, ignore_index=True).dropna()
    every = every.astype({"exposure": float, "repeats": int})
    wide = every.pivot_table(index="step", columns="repeats", values="exposure", aggfunc="mean")
    wide.columns = [f"{n}x" for n in wide.columns]
    return wide.reset_index()


def training_figure(probes: pd.DataFrame, *, expected: float) -> Figure:
    """Exposure and the loss gap through training, by step.

    Parameters
    ----------
    probes : DataFrame: step, exposure and repeats (lists), exposure_most, loss_gap
    expected : float, bits
        What secrets that were never trained on have in mean.

    Returns
    -------
    Figure
        A panel each of what was measured: exposure in bits, a line for each number of repeats;
        and the gap in nats a token.
    """
    exposures = exposure_by_step(probes)
    drawn = [draw for draw, there in (
        (lambda panel: _exposures(panel, exposures, probes["exposure_most"].iloc[-1], expected),
         len(exposures)),
        (lambda panel: _gap(panel, probes), probes["loss_gap"].notna().any()),
    ) if there]  # fmt: skip
    figure = new_figure(9.0, 3.4)
    # Bits and nats have nothing in common, so each panel has its own axis.
    for panel, draw in zip(
        figure.subplots(1, max(1, len(drawn)), squeeze=False)[0], drawn, strict=False
    ):
        bare(panel)
        draw(panel)
    return figure


def _exposures(panel: Axes, exposures: pd.DataFrame, most: float, expected: float) -> None:
    names = [name for name in exposures if name != "step"]
    steps = exposures["step"]
    for at, name in enumerate(names):
        strength = 0.3 + 0.7 * (at + 1) / len(names)
        panel.plot(
            steps, exposures[name], color=COLOURS["verbatim"], alpha=strength, lw=1.6, marker="o",
            ms=3,
        )  # fmt: skip
    ends = exposures[names].iloc[-1].sort_values(kind="stable")
    for name, height in zip(ends.index, _apart(ends.tolist(), 0.07 * most, most), strict=True):
        _beside(panel, steps.iloc[-1], height, str(name), "verbatim")
    # Each name where its line has room: lines begin and rise at the left, and end at the right.
    for level, told, side in (
        (expected, "mean of untrained secrets", "right"), (most, "maximum", "left"),
    ):  # fmt: skip
        panel.axhline(level, color=COLOURS["muted"], lw=1, ls=(0, (4, 3)), zorder=0)
        panel.annotate(
            f"{told}: {level:.2f}", (float(side == "right"), level),
            xycoords=("axes fraction", "data"), xytext=(-3 if side == "right" else 3, -4),
            textcoords="offset points", va="top", ha=side, fontsize=8, color=COLOURS["muted"],
        )  # fmt: skip
    panel.set_ylim(-0.03 * most, 1.14 * most)
    name_axes(panel, x="step", y="mean exposure, bits")


def _apart(places: list[float], room: float, most: float) -> list[float]:
    """Ascending places moved apart, so that names there do not lie on each other; none above most.

    >>> _apart([1.0, 1.0, 5.0], 1.0, 9.0), _apart([8.0, 9.0, 9.0], 1.0, 9.0)
    ([1.0, 2.0, 5.0], [7.0, 8.0, 9.0])
    """
    up: list[float] = []
    for place in places:
        up.append(max(place, up[-1] + room) if up else place)
    down, above = [], most
    for place in reversed(up):
        down.append(min(place, above))
        above = down[-1] - room
    return down[::-1]


def _gap(panel: Axes, probes: pd.DataFrame) -> None:
    panel.plot(
        probes["step"], probes["loss_gap"], color=COLOURS["candidate"], lw=1.6, marker="o", ms=3
    )
    panel.axhline(0, color=COLOURS["rule"], lw=1, zorder=0)
    name_axes(panel, x="step", y="loss gap, nats/token")


def _beside(panel: Axes, x: float, y: float, text: str, role: str) -> None:
    panel.annotate(
        text, (x, y), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8,
        color=COLOURS[role], annotation_clip=False,
    )  # fmt: skip
