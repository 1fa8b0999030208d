"""The figures of a report by name: on the page, and as SVG, PNG and PDF files."""

import io
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.figure import Figure

from reports.figures import by_repeats_figure, figure3, precision_figure
from reports.ranks import precision_at_rank, precision_at_rank_figure
from reports.report_page import ReportPage

FORMATS = ("svg", "png", "pdf")
_DPI = 160


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure, its place in the report, and what a screen reader says of it."""

    figure: Figure
    label: str


def draw_figures(report: ReportPage) -> dict[str, Drawing]:
    """The figures for which a report has numbers: figure3, precision, ranks, truth.

    Parameters
    ----------
    report : ReportPage

    Returns
    -------
    dict of name -> Drawing
    """
    drawn = {}
    if len(report.scores) and {"nll", "zlib_bits"} <= set(report.scores.columns):
        drawn["figure3"] = Drawing(
            figure3(report.scores, report.candidates),
            "Scatter plot: zlib entropy against perplexity, a panel for each strategy.",
        )
    if report.summary["precision"].notna().any():
        drawn["precision"] = Drawing(
            precision_figure(report.summary),
            "Dot plot: share of each list found verbatim, with intervals; numbers in Table 2.",
        )
    ranks = precision_at_rank(report.candidates)
    if len(ranks):
        drawn["ranks"] = Drawing(
            precision_at_rank_figure(ranks),
            "Line plots: precision of the first k of each list against k, beside a random draw.",
        )
    if report.truth_table is not None and len(report.truth_table):
        drawn["truth"] = Drawing(
            by_repeats_figure(report.truth_table),
            "Plot: share of documents extracted, by repeats; numbers in the table beside it.",
        )
    for drawing in drawn.values():
        # Laid out once; each format would lay it out again, which takes longer than drawing it.
        drawing.figure.draw_without_rendering()
        drawing.figure.set_layout_engine("none")
    return drawn


def figure_files(drawings: dict[str, Drawing]) -> dict[str, bytes]:
    """Each figure as SVG (its text is text), PNG (160 dots an inch) and PDF.

    Parameters
    ----------
    drawings : dict of name -> Drawing

    Returns
    -------
    dict of file name -> bytes
        The same figures give the same bytes: no date stands in them.

    >>> sorted(figure_files({"x": Drawing(Figure(figsize=(1, 1)), "nothing")}))
    ['x.pdf', 'x.png', 'x.svg']
    """
    files = {}
    nothing = {"svg": {"Date": None}, "png": {"Software": None}, "pdf": {"CreationDate": None}}
    # Text stays text in SVG and PDF, and ids do not change from one time to the next.
    with mpl.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": "memorization", "pdf.fonttype": 42}
    ):
        for name, drawing in drawings.items():
            for kind in FORMATS:
                sink = io.BytesIO()
                drawing.figure.savefig(sink, format=kind, dpi=_DPI, metadata=nothing[kind])
                files[f"{name}.{kind}"] = sink.getvalue()
    return files
