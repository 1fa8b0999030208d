"""An audit's report as one HTML file."""

import re
from dataclasses import replace

import pandas as pd
from markupsafe import Markup

from reports.analysis.content_types import content_table
from reports.analysis.summary import list_intervals, shown_truth, table2, truth_caption
from reports.figures.figure_files import Drawing
from reports.figures.svg import to_svg
from reports.listed import is_control, listed
from reports.pages.page_content import ReportPage, draw_figures, masked, with_personal
from reports.pages.page_shell import render, rows_of, trusted
from reports.pages.payload import packed_candidates
from reports.pages.score_definitions import definition
from reports.privacy.candidates import personal_table

__all__ = ["ReportPage", "render_report"]

_N_STATIC = 20  # candidates shown where scripts do not run
_UNIT = re.compile(r"(?<=\d) (?=(?:bytes?|[kMGT]B|%)(?!\w))")
_STATIC = ("sample_id", "strategy", "verdict", "match_n_tokens", "n_documents", "doc_id", "text")


def render_report(report: ReportPage, drawings: dict[str, Drawing] | None = None) -> str:
    """The page as one self-contained HTML document.

    The same report gives the same text. Save it as UTF-8. Personal data is masked unless the report
    has `reveal`.

    drawings : from `page_content.draw_figures`, if already drawn

    Raises
    ------
    ValueError
        If the summary has a score that `definitions` does not define.
    """
    report = with_personal(report)
    tables = _tables(report.candidates)
    report, places, masks = masked(report)
    return render(
        "report.html.j2",
        scripts=("tools.js", "opened.js", "browser.js"),
        report=replace(report, headline=[_unbroken(s) for s in report.headline]),
        tables=tables,
        table2=table2(report.summary),
        definitions=[(s, definition(s)) for s in dict.fromkeys(report.summary["score"])],
        figures=_figures(draw_figures(report) if drawings is None else drawings),
        summary=rows_of(_of_lists(report.summary)),
        truth=None if report.truth_table is None else rows_of(shown_truth(report.truth_table)),
        truth_caption=None if report.truth_table is None else truth_caption(report.truth_table),
        list_intervals=list_intervals(report.summary),
        claims=report.claims,
        calibration=report.calibration,
        static=_static_rows(report.candidates),
        candidates=trusted(packed_candidates(report.candidates, places, masks, report.attention)),
        n_candidates=len(listed(report.candidates)),
        n_controls=int(is_control(report.candidates).sum()),
    )


def _unbroken(sentence: str) -> str:
    """A sentence in which a line may not end between a number and its unit."""
    return _UNIT.sub("\u00a0", sentence)


def _tables(candidates: pd.DataFrame) -> dict[str, tuple]:
    """Counts by kind, for the kinds that were searched for."""
    tables = {}
    if "n_personal" in candidates:
        tables["personal"] = rows_of(personal_table(candidates))
    if "content_kinds" in candidates:
        tables["content"] = rows_of(content_table(candidates))
    return tables


def _figures(drawings: dict[str, Drawing]) -> dict[str, Markup]:
    """The figures as SVG."""
    return {
        name: trusted(to_svg(drawing.figure, name=f"f-{name}", label=drawing.label))
        for name, drawing in drawings.items()
    }


def _of_lists(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary without the columns that have sections of their own."""
    elsewhere = ("strategy_", "with_personal_")
    return summary[[n for n in summary.columns if not str(n).startswith(elsewhere)]]


def _static_rows(candidates: pd.DataFrame) -> tuple[list[str], list[list[str]], int]:
    head = listed(candidates).head(_N_STATIC)
    return rows_of(head[[name for name in _STATIC if name in head]])
