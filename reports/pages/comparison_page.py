"""A comparison as one HTML file: sentences, figures and tables, nothing that runs."""

from dataclasses import dataclass, field

import pandas as pd
from matplotlib.figure import Figure

from reports.figures.svg import to_svg
from reports.pages.page_shell import render, rows_of, trusted


@dataclass(frozen=True, eq=False)
class ComparisonPage:
    """All that a page shows.

    title : str
    headline, notices : list of str, sentences
    about : list of (label, value)
    tables : list of (caption, DataFrame); of each the first 100 rows are shown
    figures : list of (caption, Figure); the caption is also what a screen reader says
    reveal : bool
        Mark the page as sensitive; its tables show personal data and canary secrets.
    """

    title: str
    headline: list[str]
    about: list[tuple[str, str]]
    tables: list[tuple[str, pd.DataFrame]]
    figures: list[tuple[str, Figure]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    reveal: bool = False


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
