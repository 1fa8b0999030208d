"""Numbers as text, for pages, Markdown, tables and the terminal."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

DASH = "–"  # no value


def percent(share: float, digits: int = 1) -> str:
    """A share as a percentage without its sign.

    >>> percent(0.357), percent(1.0, 0)
    ('35.7', '100')
    """
    return f"{100 * share:.{digits}f}"


def percents(low: float, high: float, digits: int = 1) -> str:
    """The ends of an interval of shares, as percentages.

    >>> percents(0.318, 0.396)
    '31.8–39.6'
    """
    return f"{percent(low, digits)}–{percent(high, digits)}"


def share(value: float, low: float, high: float) -> str:
    """A share with its interval, as percentages; a dash if it is NaN.

    >>> share(0.5, 0.2, 0.8), share(math.nan, 0, 0)
    ('50.0 % (20.0–80.0)', '–')
    """
    return DASH if math.isnan(value) else f"{percent(value)} % ({percents(low, high)})"


def points(value: float, low: float, high: float) -> str:
    """A difference of shares with its interval, in percentage points with their signs.

    >>> points(0.1, -0.02, 0.3)
    '+10.0 (−2.0 to +30.0)'
    """
    shown = [f"{100 * end + 0.0:+.1f}" for end in (value, low, high)]  # no -0
    return f"{shown[0]} ({shown[1]} to {shown[2]})".replace("-", "−")


def number(value: float) -> str:
    """A number: whole from 100 up, three significant digits below.

    >>> number(1234.5), number(1.2345), number(math.inf), number(math.nan)
    ('1,234', '1.23', '∞', '–')
    """
    if not math.isfinite(value):
        return DASH if math.isnan(value) else "∞"
    return f"{value:,.0f}" if abs(value) >= 99.95 else f"{value:.3g}"


def numbers(ends: Sequence[float]) -> str:
    """A value, its low end and its high end.

    >>> numbers([200, 90, 600])
    '200 (90–600)'
    """
    value, low, high = map(number, ends)
    return f"{value} ({low}–{high})"


def p_value(value: float) -> str:
    """A p-value with four decimals.

    >>> p_value(0.03), p_value(1e-9)
    ('0.0300', '< 0.0001')
    """
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def power(log10: float) -> str:
    """A probability from its logarithm, however small.

    >>> power(math.log10(0.25)), power(-1000)
    ('0.25', '10^-1000')
    """
    return f"10^{log10:.0f}" if log10 < -6 else f"{10**log10:.2g}"


def count(n: int, noun: str, plural: str = "") -> str:
    """A count with its noun in the right form.

    >>> count(1, "passage"), count(1200, "canary", "canaries")
    ('1 passage', '1,200 canaries')
    """
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def size(n_bytes: int) -> str:
    """A number of bytes in the unit that suits it.

    >>> size(1), size(123_456)
    ('1 byte', '123.5 kB')
    """
    units = ("bytes", "kB", "MB", "GB", "TB")
    power = next((p for p in range(len(units)) if n_bytes < 999.95 * 1000**p), len(units) - 1)
    return f"{n_bytes / 1000**power:.1f} {units[power]}" if power else count(n_bytes, "byte")


def cell(value: object) -> str:
    """Any value as a cell of a table: four significant digits; a dash if it is missing.

    >>> cell(1.23456), cell(None), cell([1, 2]), cell(pd.Timestamp("2026-11-24 03:00"))
    ('1.235', '–', '2 values', '2026-11-24 03:00')
    """
    if isinstance(value, float | np.floating):
        return f"{value:.4g}" if np.isfinite(value) else DASH
    if isinstance(value, list | tuple | np.ndarray):
        return f"{len(value):,} values"
    if pd.isna(value):  # type: ignore[call-overload]
        return DASH
    return f"{value:%Y-%m-%d %H:%M}" if isinstance(value, pd.Timestamp) else str(value)
