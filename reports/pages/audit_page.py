"""An audit's report as one HTML file."""

import re
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from reports.analysis.content_types import content_table
from reports.analysis.summary import list_intervals, shown_truth, table2, truth_caption
from reports.figures.figure_files import Drawing
from reports.figures.svg import to_svg
from reports.listed import is_control, listed
from reports.pages.page_content import (
    ReportPage,
    draw_figures,
    masked,
    strategies_found,
    with_personal,
)
from reports.pages.page_shell import render, rows_of, trusted
from reports.pages.passages_section import shown_passages
from reports.pages.payload import packed_candidates
from reports.pages.score_definitions import definition
from reports.pages.tables import shown_counts
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
    is_found = (report.candidates["verdict"] == "verbatim").any()
    verdict = report.headline[: 1 if is_found else 2]  # the second says why nothing is claimed
    found = strategies_found(report.summary)
    figures = _figures(draw_figures(report) if drawings is None else drawings)
    return render(
        "report.html.j2",
        scripts=("tools.js", "opened.js", "browser.js"),
        report=report,
        verdict=[_split(_unbroken(sentence)) for sentence in verdict],
        findings=report.headline[len(verdict) :],
        passages=shown_passages(report.candidates),
        overview=figures.get("truth") or figures.get("strategies"),
        tables=tables,
        table2=table2(report.summary),
        definitions=[(s, definition(s)) for s in dict.fromkeys(report.summary["score"])],
        figures=figures,
        counts=rows_of(shown_counts(report.summary)),
        empty=[s for s in dict.fromkeys(report.summary["strategy"]) if found and s not in found],
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


def _split(sentence: str) -> tuple[str, str]:
    """A sentence, and what it has in brackets at its end, which the page shows in small letters.

    >>> _split("Of 9, 3 are (33 %, 95 % interval 7–70).")
    ('Of 9, 3 are.', '33 %, 95 % interval 7–70.')
    """
    head, bracket, inside = sentence.partition(" (")
    is_last = bracket and inside.endswith(").") and inside.count(")") == 1
    return (f"{head}.", f"{inside[:-2]}.") if is_last else (sentence, "")


def _tables(candidates: pd.DataFrame) -> dict[str, Any]:
    """Counts by kind, for the kinds that were searched for; kinds of personal data not found."""
    tables: dict[str, Any] = {}
    if "n_personal" in candidates:
        personal = personal_table(candidates)
        is_found = personal["n_items"] > 0
        tables["personal"] = rows_of(personal[is_found])
        tables["not_found"] = ", ".join(personal["kind"][~is_found])
    if "content_kinds" in candidates:
        tables["content"] = rows_of(content_table(candidates))
    return tables


def _figures(drawings: dict[str, Drawing]) -> dict[str, Markup]:
    """The figures as SVG."""
    return {
        name: trusted(to_svg(drawing.figure, name=f"f-{name}", label=drawing.label))
        for name, drawing in drawings.items()
    }


def _static_rows(candidates: pd.DataFrame) -> tuple[list[str], list[list[str]], int]:
    """The first candidates, verbatim ones before the others."""
    rows = listed(candidates)
    rest = (rows["verdict"] != "verbatim").to_numpy()
    head = rows.iloc[np.argsort(rest, kind="stable")].head(_N_STATIC)
    return rows_of(head[[name for name in _STATIC if name in head]])
