"""The page's section on what is claimed beyond the lists: tables, a curve, what they rest on."""

from dataclasses import dataclass
from typing import TypeAlias

import pandas as pd
from markupsafe import Markup

from reports.analysis.strategy_estimates import RESTS_ON
from reports.figures.discovery import discovery_figure
from reports.figures.svg import to_svg
from reports.pages.page_shell import rows_of, trusted
from reports.pages.tables import (
    shown_comparisons,
    shown_costs,
    shown_precision_at,
    shown_strategies,
)

Rows: TypeAlias = tuple[list[str], list[list[str]], int]


@dataclass(frozen=True, eq=False)
class EstimatesSection:
    """What `claims.html.j2` prints; made by `estimates_section`.

    strategies, costs, comparisons, precision_at : (header, rows, total)
        Cells are text. Without training text only the first has rows.
    discovery : Markup
        The curve as SVG; empty if there is none.
    rests_on : tuple of str
        What the estimates assume.
    """

    strategies: Rows
    costs: Rows
    comparisons: Rows
    precision_at: Rows
    discovery: Markup
    rests_on: tuple[str, ...]


def estimates_section(
    summary: pd.DataFrame,
    strategies: pd.DataFrame,
    discovery: pd.DataFrame,
    comparisons: pd.DataFrame,
    costs: pd.DataFrame,
) -> EstimatesSection | None:
    """The section of these frames; None where no sample was looked up.

    summary, strategies, discovery, comparisons : see `schema`.
    costs : from `claims.cost_table`.
    """
    if not (strategies["n_looked_up"] > 0).any():
        return None
    drawing = trusted("")
    # A strategy that found nothing has a flat line, which says no more than the table.
    found = discovery.groupby("strategy", observed=True)["expected"].transform("max") > 0
    discovery = discovery[found.to_numpy(bool)]
    if len(discovery):
        label = "Curve: distinct passages against tokens sampled, a line for each strategy."
        drawing = trusted(to_svg(discovery_figure(discovery), name="fd", label=label))
    return EstimatesSection(
        rows_of(shown_strategies(strategies)),
        rows_of(shown_costs(costs)),
        rows_of(shown_comparisons(comparisons, summary)),
        rows_of(shown_precision_at(summary)),
        drawing,
        RESTS_ON,
    )
