"""The figures of a report by name: on the page, and as SVG, PNG and PDF files."""

from dataclasses import dataclass

from matplotlib.figure import Figure

from reports.figures.svg import saved

FORMATS = ("svg", "png", "pdf")
_DPI = 160


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure and its description for screen readers."""

    figure: Figure
    label: str


def figure_files(drawings: dict[str, Drawing]) -> dict[str, bytes]:
    """Files of each figure by name: SVG (with text as text), PNG (160 dots per inch) and PDF.

    The files contain no date, so the same figures give the same bytes.

    >>> sorted(figure_files({"x": Drawing(Figure(figsize=(1, 1)), "nothing")}))
    ['x.pdf', 'x.png', 'x.svg']
    """
    nothing = {"svg": {"Date": None}, "png": {"Software": None}, "pdf": {"CreationDate": None}}
    return {
        f"{name}.{kind}": saved(drawing.figure, kind, dpi=_DPI, metadata=nothing[kind])
        for name, drawing in drawings.items()
        for kind in FORMATS
    }
