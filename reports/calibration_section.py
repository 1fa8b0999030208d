"""The page's section on lists against controls, and the same for a terminal."""

import math
from dataclasses import dataclass

import pandas as pd

from reports.calibration import ASSUMES
from reports.pages import rows_of


@dataclass(frozen=True, eq=False)
class CalibrationSection:
    """What `calibration.html.j2` prints; made by `calibration_section`.

    fdr : str
        The rate, as it is read.
    table : (header, rows, total)
        Cells are text.
    sentences, assumes : tuples of str
        What came out; what it rests on.
    """

    fdr: str
    table: tuple[list[str], list[list[str]], int]
    sentences: tuple[str, ...]
    assumes: tuple[str, ...]


def calibration_section(calibration: pd.DataFrame) -> CalibrationSection | None:
    """The section of a frame `calibration`; None where there were no controls."""
    if calibration.empty:
        return None
    fdr = f"{100 * calibration['fdr'].iloc[0]:g} %"
    told = (calibration_sentence(calibration),)
    return CalibrationSection(fdr, rows_of(shown_calibration(calibration)), told, ASSUMES)


def calibration_sentence(calibration: pd.DataFrame) -> str:
    """How many lists stand, and how many were withheld.

    >>> calibration_sentence(pd.DataFrame({"withheld": ["", "why", "why"]}))
    'Of 3 lists (a strategy and a score each), 1 stands against the controls; 2 are withheld, for
    the reason in their place.'
    """
    n, n_withheld = len(calibration), int((calibration["withheld"] != "").sum())
    stand = f"{n - n_withheld:,} {'stands' if n - n_withheld == 1 else 'stand'}"
    told = f"Of {n:,} lists (a strategy and a score each), {stand} against the controls"
    if not n_withheld:
        return told + "."
    is_one = n_withheld == 1
    return (
        f"{told}; {n_withheld:,} {'is' if is_one else 'are'} withheld, for the reason in "
        f"{'its' if is_one else 'their'} place."
    )


def shown_calibration(calibration: pd.DataFrame) -> pd.DataFrame:
    """The lists as a person reads them; cells are text.

    >>> shown_calibration(pd.DataFrame({"strategy": ["s"], "score": ["zlib"], "n_samples": [9],
    ...     "n_controls": [40], "n_listed": [3], "estimated_false": [0.1], "withheld": [""],
    ...     "n_listed_looked_up": [3], "n_listed_verbatim": [2]})).iloc[0].tolist()
    ['s', 'zlib', '9', '40', '3', '0.1', '1 of 3']
    """
    rows = []
    for row in calibration.to_dict("records"):
        cells = [row["strategy"], row["score"], f"{row['n_samples']:,}", f"{row['n_controls']:,}"]
        if row["withheld"]:
            cells += [f"withheld: {row['withheld']}", "–", "–"]
        else:
            known, false = row["n_listed_looked_up"], row["estimated_false"]
            lost = "–" if pd.isna(known) else f"{known - row['n_listed_verbatim']:,} of {known:,}"
            cells += [f"{row['n_listed']:,}", "–" if math.isnan(false) else f"{false:.1f}", lost]
        rows.append(cells)
    names = ["Strategy", "Score", "Samples", "Controls"]
    names += ["Listed", "False, estimated", "Of those looked up, not found"]
    return pd.DataFrame(rows, columns=names)
