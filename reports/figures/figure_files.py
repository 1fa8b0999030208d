"""The figures of a report by name: on the page, and as SVG, PNG and PDF files."""

from dataclasses import dataclass

from matplotlib.figure import Figure

from reports.figures.svg import saved

FORMATS = ("svg", "png", "pdf")
_DPI = 160


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure, its place in the report, and what a screen reader says of it."""

    figure: Figure
    label: str


def figure_files(drawings: dict[str, Drawing]) -> dict[str, bytes]:
    """Each figure as SVG (its text is text), PNG (160 dots an inch) and PDF.

    Returns dict of file name -> bytes. The same figures give the same bytes: no date stands in
    them.

    >>> sorted(figure_files({"x": Drawing(Figure(figsize=(1, 1)), "nothing")}))
    ['x.pdf', 'x.png', 'x.svg']
    """
    nothing = {"svg": {"Date": None}, "png": {"Software": None}, "pdf": {"CreationDate": None}}
    return {
        f"{name}.{kind}": saved(drawing.figure, kind, dpi=_DPI, metadata=nothing[kind])
        for name, drawing in drawings.items()
        for kind in FORMATS
    }
