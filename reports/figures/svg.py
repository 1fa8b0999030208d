"""A matplotlib figure as SVG for a page: its colours follow the page, its text is text.

The page's security policy allows no style attributes, so matplotlib's are rewritten as
presentation attributes; ids get a prefix, so that two figures can stand on one page.
"""

import io
import re
from html import escape

import matplotlib as mpl
from matplotlib.figure import Figure

# role -> colour in the light theme; the stylesheet's variables have the same names.
COLOURS = {
    "ink": "#1c1e21",
    "muted": "#63676e",
    "rule": "#d8d5ce",
    "sample": "#8b9099",
    "candidate": "#2b6cb0",
    "fuzzy": "#a67c00",
    "verbatim": "#c2410c",
}
_STYLE = re.compile(r' style="([^"]*)"')
_SHEET = re.compile(r"<style.*?</style>", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_ID = re.compile(r'(\bid="|href="#|url\(#)')
_KEPT_FONT = ("font-size", "font-weight")


NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def saved(figure: Figure, kind: str, **options) -> bytes:
    """The figure as a file of this kind; the same figure gives the same bytes.

    `options` are those of matplotlib's `savefig`; the metadata must not name a date.
    """
    sink = io.BytesIO()
    # Text stays text in SVG and PDF, and ids do not change from one time to the next.
    with mpl.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": "memorization", "pdf.fonttype": 42}
    ):
        figure.savefig(sink, format=kind, **options)
    return sink.getvalue()


def to_svg(figure: Figure, *, name: str = "figure", label: str = "") -> str:
    """The figure as a self-contained <svg> element; the same figure gives the same text.

    Each colour of COLOURS becomes `var(--role, colour)`.

    name : prefix of all ids in it, unique on the page
    label : description for screen readers

    >>> to_svg(Figure(figsize=(1, 1)), label="nothing").startswith('<svg role="img" aria-label=')
    True
    """
    drawing = saved(figure, "svg", dpi=150, metadata=NO_METADATA, transparent=True).decode()
    view = re.search(r'viewBox="([^"]*)"', drawing)
    body = drawing[drawing.index(">", drawing.index("<svg")) + 1 : drawing.rindex("</svg>")]
    for pattern in (_SHEET, _COMMENT):
        body = pattern.sub("", body)
    body = _STYLE.sub(_attributes, body).replace("xlink:href", "href")
    body = re.sub(r">\s+<", "><", _ID.sub(rf"\g<1>{name}-", body))
    for role, colour in COLOURS.items():
        body = body.replace(f'"{colour}"', f'"var(--{role}, {colour})"')
    box = view.group(1) if view else ""
    width, height = (size * 96 for size in figure.get_size_inches())  # CSS pixels an inch
    return (
        f'<svg role="img" aria-label="{escape(label)}" viewBox="{box}" '
        f'width="{width:.0f}" height="{height:.0f}" '
        f'stroke-linejoin="round" stroke-linecap="butt">{body}</svg>'
    )


def _attributes(match: re.Match[str]) -> str:
    """style="fill: none; stroke: red" to fill="none" stroke="red", fonts left to the page."""
    pairs = [part.split(":", 1) for part in match.group(1).split(";") if ":" in part]
    return "".join(
        f' {key.strip()}="{value.strip()}"'
        for key, value in pairs
        if not key.strip().startswith("font") or key.strip() in _KEPT_FONT
    )
