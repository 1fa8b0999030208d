"""A comparison as one HTML file: sentences, figures and tables, nothing that runs."""

from dataclasses import dataclass, field

import pandas as pd
from matplotlib.figure import Figure

from reports.figures.svg import to_svg
from reports.pages.page_shell import render, rows_of, trusted
from reports.pages.result_page import ResultPage


@dataclass(frozen=True, eq=False)
class ComparisonPage(ResultPage):
    """All that a page shows: the top, and tables and figures of it, masked already.

    tables : list of (caption, DataFrame); of each the first 100 rows are shown
    figures : list of (caption, Figure); the caption is also what a screen reader says
    """

    tables: list[tuple[str, pd.DataFrame]]
    figures: list[tuple[str, Figure]] = field(default_factory=list)


def render_comparison(page: ComparisonPage) -> str:
    """The page as one self-contained HTML document.

    >>> page = ComparisonPage("<b>", ["One."], [], [("t", pd.DataFrame({"a": ["<i>"]}))])
    >>> html = render_comparison(page)
    >>> "<b>" in html, "<i>" in html, "&lt;i&gt;" in html
    (False, False, True)
    """
    return render(
        "compare.html.j2",
        page=page,
        tables=[(caption, rows_of(frame)) for caption, frame in page.tables],
        figures=[
            (caption, trusted(to_svg(figure, name=f"c{i}", label=caption)))
            for i, (caption, figure) in enumerate(page.figures)
        ],
    )
