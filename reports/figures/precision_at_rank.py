"""Precision against rank: of the first k of each list, how many are verbatim."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attacks.statistics.intervals import clopper_pearson, effective_trials
from reports.analysis.schema import CONTROL
from reports.analysis.strategy_estimates import clusters_of
from reports.figures.panels import bare, new_figure, title_panel
from reports.figures.svg import COLOURS

_MOST_POINTS = 60  # of a line; more cannot be distinguished in a small panel


def precision_at_rank(candidates: pd.DataFrame) -> pd.DataFrame:
    """The share of verbatim candidates in the first k of each list, with its confidence interval.

    candidates : with strategy, verdict and the columns rank:*; lists that were not verified are
        omitted

    Returns DataFrame: strategy, score, rank (k), n_verbatim, precision, low, high; one row per list
    and rank.

    Source
    ------
    Carlini et al. 2021, section 6.2, "precision"; the intervals are Korn and Graubard's, 95 %,
    as in `tables.summarize`.

    >>> frame = pd.DataFrame({"strategy": "top-n", "verdict": ["verbatim", "not found"],
    ...     "rank:zlib": [2, 1]})
    >>> precision_at_rank(frame)[["rank", "n_verbatim", "precision"]].values.tolist()
    [[1.0, 0.0, 0.0], [2.0, 1.0, 0.5]]
    """
    columns = ["strategy", "score", "rank", "n_verbatim", "precision", "low", "high"]
    parts = []
    candidates = candidates.assign(cluster=clusters_of(candidates).to_numpy())
    ranked = [str(name) for name in candidates.columns if str(name).startswith("rank:")]
    for strategy in dict.fromkeys(candidates["strategy"]):
        own = candidates[candidates["strategy"] == strategy]
        for name in ranked:
            rows = own[own[name].notna()].sort_values(name)
            if rows.empty or (rows["verdict"] == "not checked").any():
                continue
            k = np.arange(1, len(rows) + 1)
            n_verbatim = (rows["verdict"] == "verbatim").to_numpy().cumsum()
            worth = effective_trials(rows["cluster"])
            low, high = clopper_pearson(n_verbatim, k, effective=worth)
            parts.append(
                pd.DataFrame(
                    {"strategy": strategy, "score": name.removeprefix("rank:"), "rank": k}
                    | {"n_verbatim": n_verbatim, "precision": n_verbatim / k}
                    | {"low": low, "high": high}
                )
            )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def precision_at_rank_figure(table: pd.DataFrame) -> Figure:
    """A small panel a list: strategies down, scores across, beside the strategy's random draw.

    table : from `precision_at_rank`.

    >>> frame = pd.DataFrame({"strategy": "top-n", "verdict": ["verbatim"], "rank:zlib": [1]})
    >>> len(precision_at_rank_figure(precision_at_rank(frame)).axes)
    1
    """
    strategies = list(dict.fromkeys(table["strategy"]))
    scores = [s for s in dict.fromkeys(table["score"]) if s != CONTROL]
    figure = new_figure(9.0, 0.5 + 1.35 * max(len(strategies), 1))
    shape = (max(len(strategies), 1), max(len(scores), 1))
    grid = figure.subplots(*shape, squeeze=False, sharex="row", sharey=True)
    for row, strategy in zip(grid, strategies, strict=False):
        own = table[table["strategy"] == strategy]
        for panel, score in zip(row, scores, strict=False):
            _panel(panel, own, score)
            if strategy == strategies[0]:
                title_panel(panel, score, fontsize=8.5, fontweight="normal")
            if strategy == strategies[-1]:
                panel.set_xlabel("rank", fontsize=8.5, color=COLOURS["muted"])
        row[0].set_ylabel(f"{strategy}\n% verbatim", fontsize=8.5, color=COLOURS["muted"])
    return figure


def _panel(panel: Axes, own: pd.DataFrame, score: str) -> None:
    bare(panel)
    panel.set_ylim(-4, 104)
    panel.set_yticks([0, 50, 100])
    control = own[own["score"] == CONTROL]
    if len(control):
        control = _thinned(control)
        panel.plot(
            control["rank"], 100 * control["precision"], color=COLOURS["muted"], lw=1, ls="--"
        )
    line = own[own["score"] == score]
    if line.empty:
        return
    line = _thinned(line)
    colour = COLOURS["verbatim"]
    panel.fill_between(
        line["rank"], 100 * line["low"], 100 * line["high"], color=colour, alpha=0.18, lw=0
    )
    panel.plot(line["rank"], 100 * line["precision"], color=colour, lw=1.4)
    panel.set_xlim(1, max(float(own["rank"].max()), 2))


def _thinned(line: pd.DataFrame) -> pd.DataFrame:
    """Evenly spaced ranks, first and last among them."""
    at = np.unique(np.linspace(0, len(line) - 1, min(len(line), _MOST_POINTS)).round().astype(int))
    return line.iloc[at]
