"""Lists at a false discovery rate, as a section of the page and as tables of the terminal."""

import math
from dataclasses import dataclass

import pandas as pd

from attacks.statistics.intervals import clopper_pearson
from reports.analysis import calibration as held_out
from reports.analysis import checked_lists
from reports.analysis.schema import CHECKED
from reports.analysis.strategy_estimates import interval_of, interval_words
from reports.number_text import DASH, count, percent, share
from reports.pages.page_shell import rows_of

_WORTH_TELLING = 0.5  # a list that is mostly false is useless
_WHICH = "A sample is listed if its q_value:SCORE in candidates.csv is at most the rate."
_REMEDY = (
    "Training text was given, so you can verify half of each list instead, which needs no "
    "held-out text: auditor report RUN --controls verified."
)


@dataclass(frozen=True, eq=False)
class CalibrationSection:
    """What `calibration.html.j2` prints; made by `calibration_section`.

    title, caption : str
        Of the section and of its table.
    table : (header, rows, total)
        Cells are text.
    sentences, assumes : tuples of str
        What came out; what it rests on.
    """

    title: str
    caption: str
    table: tuple[list[str], list[list[str]], int]
    sentences: tuple[str, ...]
    assumes: tuple[str, ...]


def calibration_section(calibration: pd.DataFrame) -> CalibrationSection | None:
    """The section of a frame `calibration`; None where no list is held at a rate."""
    if calibration.empty:
        return None
    title = "Lists calibrated on held-out text"
    if _by_checks(calibration):
        title = "Lists calibrated on verified candidates"
    table = rows_of(shown_calibration(calibration))
    told = [calibration_sentence(calibration)]
    if _by_checks(calibration):
        told.append(_WHICH)
    elif (calibration["auc_not_found"].notna()).any():
        told.append(_REMEDY)
    caption = calibration_caption(calibration)
    return CalibrationSection(title, caption, table, tuple(told), assumptions(calibration))


def assumptions(calibration: pd.DataFrame) -> tuple[str, ...]:
    """What the lists rest on, a sentence each."""
    rests_on = checked_lists.ASSUMES if _by_checks(calibration) else held_out.ASSUMES
    return (*rests_on, list_intervals(calibration))


def list_intervals(calibration: pd.DataFrame) -> str:
    """A sentence on the intervals of these lists."""
    filled = calibration[calibration["n_listed_looked_up"].fillna(0) > 0]
    is_known = "n_listed_effective" in filled and filled["n_listed_effective"].notna().all()
    method = interval_words(interval_of(knows_passages=bool(is_known)))
    return f"In brackets: 95 % intervals ({method})."


def calibration_caption(calibration: pd.DataFrame) -> str:
    """What the table holds, and at which rate."""
    rate = f"at a false discovery rate of {100 * calibration['fdr'].iloc[0]:g} %"
    if _by_checks(calibration):
        return f"Unverified candidates of each shortlist that are listed {rate}"
    return f"Samples that score above the controls, {rate}"


def calibration_sentence(calibration: pd.DataFrame) -> str:
    """How many lists hold something, and how many were withheld.

    >>> calibration_sentence(pd.DataFrame({"controls": "", "withheld": ["", "", "why", "why"],
    ...     "n_listed": [0, 9, None, None]}))
    'Of 4 lists (one per strategy and score), 1 contains samples, 1 is empty and 2 are withheld for
    the reason given.'
    """
    n, withheld = len(calibration), calibration["withheld"] != ""
    n_full = int((calibration["n_listed"].fillna(0) > 0).sum())
    n_withheld = int(withheld.sum())
    n_empty = n - n_full - n_withheld
    parts = [f"{n_full or 'none'} {'contain' if n_full > 1 else 'contains'} samples"]
    if n_empty:
        parts.append(f"{n_empty:,} {'is' if n_empty == 1 else 'are'} empty")
    if n_withheld:
        is_are = "is" if n_withheld == 1 else "are"
        parts.append(f"{n_withheld:,} {is_are} withheld for the reason given")
    last = f" and {parts[-1]}" if len(parts) > 1 else ""
    of = f"Of {count(n, 'list')} (one per strategy and score)"
    return f"{of}, {', '.join(parts[:-1] or parts)}{last}."


def shown_calibration(calibration: pd.DataFrame) -> pd.DataFrame:
    """The lists as a person reads them; cells are text.

    >>> shown_calibration(pd.DataFrame({"strategy": ["s"], "score": ["zlib"], "n_samples": [9],
    ...     "n_controls": [40], "n_listed": [3], "estimated_false": [0.1], "withheld": [""],
    ...     "least_fdr": [0.01],
    ...     "n_listed_looked_up": [3], "n_listed_verbatim": [2], "controls": "checked half"})
    ...     ).iloc[0].tolist()
    ['s', 'zlib', '9', '40', '3', '0.1', '1 of 3: 33.3 % (0.8–90.6)']
    """
    rows = []
    for row in calibration.to_dict("records"):
        cells = [row["strategy"], row["score"], f"{row['n_samples']:,}", f"{row['n_controls']:,}"]
        if row["withheld"]:
            cells += [f"withheld: {row['withheld']}", DASH, DASH]
        else:
            false = row["estimated_false"]
            cells += [_n_listed(row), DASH if math.isnan(false) else f"{false:.1f}"]
            cells.append(_not_found(row))
        rows.append(cells)
    names = ["Strategy", "Score", "Samples", "Controls"]
    if _by_checks(calibration):
        names = ["Strategy", "Score", "Unverified", "Verified"]
    names += ["Listed", "Estimated false (tends low)", "Not found, of those checked"]
    return pd.DataFrame(rows, columns=names)


def _n_listed(row) -> str:
    """How many are listed; of an empty list, from which rate on it holds any."""
    least = row["least_fdr"]
    if row["n_listed"] or math.isnan(least) or least > _WORTH_TELLING:
        return f"{row['n_listed']:,}"
    # Rounded up: at the rate that is printed it does.
    return f"0 (first at {percent(math.ceil(1000 * least - 1e-9) / 1000)} %)"


def _not_found(row: dict) -> str:
    """How many of a list were not found, with the share and its interval."""
    n_known, worth = row["n_listed_looked_up"], row.get("n_listed_effective", math.nan)
    if pd.isna(n_known) or not n_known:
        return DASH
    n = int(n_known) - int(row["n_listed_verbatim"])
    effective = None if math.isnan(worth) else worth
    low, high = clopper_pearson(n, int(n_known), effective=effective)
    return f"{n:,} of {n_known:,}: {share(n / n_known, float(low), float(high))}"


def _by_checks(calibration: pd.DataFrame) -> bool:
    return bool((calibration["controls"] == CHECKED).all())
