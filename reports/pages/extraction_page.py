"""A document's heat map as one HTML file: its own text, shaded by how likely it comes out.

The same three gates as `reports.pages.audit_page`: hidden characters shown, markup escaped by the
template engine, and a security policy that allows one style sheet, by its hash, and no script.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from reports.figures.extraction import TAUS
from reports.number_text import percent, power
from reports.pages.page_shell import render
from reports.pages.result_page import ResultPage, with_top_masked
from reports.privacy.finding import Finder, find_personal
from reports.privacy.redaction import mask, mask_personal

# Class number, least and greatest p_z of each shade, the darkest first.
_SHADES = [(i + 1, low, high) for i, (low, high) in enumerate(pairwise((*TAUS, 1)))][::-1]


@dataclass(frozen=True, eq=False)
class ScanPage(ResultPage):
    """All that a page shows: the top, and the document.

    coverage : DataFrame
        tau, n_chars, share, longest_run, window_share; see `auditor.extraction.document_scan`.
    text : str
    best : float array (n_chars,), nats
        NaN where no suffix covers a character.
    finders : sequence of Finder
        Finders of what is masked besides personal data by the rules.
    """

    coverage: pd.DataFrame
    text: str
    best: NDArray[np.float64]
    finders: Sequence[Finder] = ()


def render_scan(page: ScanPage) -> str:
    """The page as one self-contained HTML document.

    Raises
    ------
    ValueError
        If text and best differ in length.
    """
    sections = pieces(page.text, page.best, reveal=page.reveal, more=page.finders)
    return render(
        "extraction.html.j2",
        styles=("report.css", "extraction.css"),
        page=with_top_masked(page, partial(mask_personal, more=page.finders)),
        pieces=sections,
        coverage=[_row(row) for row in page.coverage.to_dict("records")],
        legend=[(f"p{i}", f"{low:g} to {high:g}") for i, low, high in _SHADES],
        lowest=f"{TAUS[0]:g}",
        is_blank=not (np.asarray(page.best) >= np.log(TAUS[0])).any(),
    )


def pieces(
    text: str, best: ArrayLike, *, reveal: bool = False, more: Sequence[Finder] = ()
) -> list[tuple[str, str, str]]:
    """The text in sections of one value: (class, tooltip, characters), in order.

    Class p1 to p4 is a shade (from each of TAUS on), p0 below all of them, "" outside every suffix.
    Unless `reveal`, personal data is masked; a mask has the shade of its last character.

    Raises
    ------
    ValueError
        If there is not one value a character.

    >>> pieces("abc", [np.log(0.6), np.log(0.6), np.nan])
    [('p4', 'p_z 0.6', 'ab'), ('', '', 'c')]
    """
    nats = np.asarray(best, dtype=np.float64)
    if nats.shape != (len(text),):
        raise ValueError(
            f"best must hold one value a character, {len(text):,}; got shape {nats.shape}. Pass "
            "what best_log_p returns for this text."
        )
    if not text:
        return []
    same = (nats[1:] == nats[:-1]) | (np.isnan(nats[1:]) & np.isnan(nats[:-1]))
    edges = [0, *(np.flatnonzero(~same) + 1).tolist(), len(text)]
    shown = mask(text, [] if reveal else find_personal(text, more=more))
    sections = [
        (*_shade(nats[begin]), shown.text[shown.place[begin] : shown.place[end]])
        for begin, end in pairwise(edges)
    ]
    return [section for section in sections if section[2]]


def _shade(nats: float) -> tuple[str, str]:
    if np.isnan(nats):
        return "", ""
    if np.isneginf(nats):
        return "p0", "p_z 0"
    log10 = nats / np.log(10)
    return f"p{sum(log10 >= level - 1e-12 for level in np.log10(TAUS))}", f"p_z {power(log10)}"


def _row(row: dict) -> tuple[str, ...]:
    return (
        f"{row['tau']:g}",
        f"{percent(row['share'])} %",
        f"{row['n_chars']:,}",
        f"{row['longest_run']:,}",
        f"{percent(row['window_share'])} %",
    )
