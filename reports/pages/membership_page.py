"""Members against non-members as one HTML file: the verdict, the table, ROC curves, the shortlist.

The same three gates as `reports.pages.audit_page`: hidden characters shown, markup escaped by the
template engine, and a security policy that allows one style sheet, by its hash, and no script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from attacks.statistics.roc import roc_curve
from reports.figures.panels import draw_inner_legend, new_figure, plain
from reports.figures.svg import COLOURS, to_svg
from reports.pages.page_shell import render, rows_of, trusted
from reports.pages.result_page import ResultPage, with_top_masked
from reports.privacy.redaction import mask_personal

_N_LISTED = 20  # texts of the short list
_N_CURVES = 4  # of a kind; more cannot be distinguished
_LINES = ("-", "--", ":", "-.")


@dataclass(frozen=True, eq=False)
class MembersPage(ResultPage):
    """All that a page shows: the top, with the verdict first, and the scores.

    rests_on : list of str
        What the claims assume.
    table : DataFrame
        Cells as they are to be read, a row a score. A column in which all is withheld is left out;
        a notice says why.
    listed : DataFrame
        The shortlist; its first 20 rows are shown.
    list_by : str
        Its score.
    curves : mapping of score to (members, nonmembers), float arrays
        Each becomes a ROC curve, at most four attacks and four baselines.
    blind : list of str
        Which of them are baselines.
    """

    rests_on: list[str]
    table: pd.DataFrame
    listed: pd.DataFrame
    list_by: str
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]]
    blind: Sequence[str]


def render_members(page: MembersPage) -> str:
    """The page as one self-contained HTML document."""
    figure = roc_figure(page.curves, page.blind)
    if not page.reveal:
        hidden = page.listed.map(lambda v: mask_personal(v) if isinstance(v, str) else v)
        page = replace(with_top_masked(page, mask_personal), listed=hidden)
    label = "ROC curves on logarithmic axes; the numbers are in the table."
    table = page.table.astype(str)
    told = [name for name in table if not table[name].isin(["withheld", ""]).all()]
    return render(
        "members.html.j2",
        page=page,
        table=rows_of(table[told]),
        listed=rows_of(page.listed, _N_LISTED),
        figure=trusted(to_svg(figure, name="roc", label=label)),
    )


def roc_figure(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]], blind: Sequence[str] = ()
) -> Figure:
    """ROC curves on logarithmic axes, where what counts is at the left; baselines in grey.

    curves : mapping of score to (members, nonmembers), float arrays. One without two different
        values is left out.

    Source
    ------
    Carlini et al. 2022, "Membership Inference Attacks From First Principles", section III.

    >>> len(roc_figure({"loss": ([2.0, 4.0], [1.0, 3.0])}).axes[0].lines)  # and chance
    2
    """
    figure = new_figure(6.4, 4.4)
    axes = figure.subplots()
    least = 1.0
    for names, colour, width in (
        ([n for n in curves if n not in blind], COLOURS["verbatim"], 1.4),
        ([n for n in curves if n in blind], COLOURS["sample"], 1.0),
    ):
        for name, line in zip(names[:_N_CURVES], _LINES, strict=False):
            try:
                curve = roc_curve(*curves[name])
            except ValueError:  # says the same of all texts
                continue
            known = ~np.isnan(np.asarray(curves[name][1], dtype=np.float64))
            least = min(least, 1 / int(known.sum()))
            axes.step(curve.fpr, curve.tpr, line, where="post", color=colour, lw=width)
            axes.lines[-1].set_label(plain(name))
    least = min(least, 0.1)
    axes.plot([least, 1], [least, 1], color=COLOURS["rule"], lw=1, label="chance")
    axes.set(xscale="log", yscale="log", xlim=(least, 1), ylim=(least, 1.05))
    axes.set_xlabel("FPR: non-members called members", color=COLOURS["muted"])
    axes.set_ylabel("TPR: members called members", color=COLOURS["muted"])
    axes.tick_params(which="both", colors=COLOURS["muted"])
    for side, spine in axes.spines.items():
        spine.set(visible=side in ("left", "bottom"), color=COLOURS["rule"])
    if axes.lines:
        draw_inner_legend(axes, labelcolor=COLOURS["ink"], fontsize=8.5, loc="lower right")
    return figure
