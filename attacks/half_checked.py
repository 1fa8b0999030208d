"""A list whose share of false entries is held because a coin chose which half of it to check.

No text has to stand in for what was not memorized: the checked half of the same list does.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class HalfChecked:
    """The unchecked entries that can be listed; made by `half_checked_list`.

    chosen : int array (n_chosen,)
        Places in the ranking, from 0 on.
    q_values : float64 array (n,)
        The least rate at which an entry is listed; NaN where it was checked.
    fdr : float
        The share of the list that is false on average, over coins, is at most this.
    estimated_false : float
        One more than were not found among the checked, down to where the list ends: a low
        estimate, the lower the shorter the list, since it ends where these happen to be few. 0 of
        an empty list.
    n_checked, n_unchecked : int
        In the whole ranking.
    withheld : str
        Why no list could be made, whatever the checks say; empty if one could.
    """

    chosen: NDArray[np.int64]
    q_values: NDArray[np.float64]
    fdr: float
    estimated_false: float
    n_checked: int
    n_unchecked: int
    withheld: str = ""


def half_checked_list(
    is_checked: ArrayLike, is_found: ArrayLike, *, fdr: float = 0.05
) -> HalfChecked:
    """The top of a ranking, less what was checked, with a share of at most `fdr` false on average.

    A false entry is checked or not by the toss of a fair coin, so down to any place about as many
    false ones are unchecked as were not found among the checked. The list goes down to the last
    place where (1 + these) / unchecked is at most `fdr`.

    Parameters
    ----------
    is_checked : bool array (n,)
        In rank order, the most suspicious first: by a fair coin a place, thrown after the ranking
        and its passing over of duplicates; see `coin`.
    is_found : bool array (n,)
        Whether a checked entry is what it is suspected to be; not looked at elsewhere.
    fdr : float, between 0 and 1

    Returns
    -------
    HalfChecked; withheld where fewer than 1 / fdr entries are unchecked.

    Raises
    ------
    ValueError
        If the arrays differ in length, or fdr lies outside (0, 1).

    Source
    ------
    Barber and Candès 2015, "Controlling the false discovery rate via knockoffs", section 3.1,
    Selective SeqStep+ at c = 1/2. That some of the checked are known to be true only shortens the
    count: the bound E[false unchecked / (1 + false checked)] <= 1 stays. Nothing is asked of the
    scores, and the true entries may be checked as they like.

    Of two checked entries one was not found, at the end: above it, 1 / 3 is at most 0.4.

    >>> made = half_checked_list([0, 1, 0, 0, 1, 0], [0, 1, 0, 0, 0, 0], fdr=0.4)
    >>> made.chosen, made.q_values.round(2)
    (array([0, 2, 3]), array([0.33,  nan, 0.33, 0.33,  nan, 0.5 ]))
    """
    checked, found = (np.asarray(v, dtype=bool) for v in (is_checked, is_found))
    if checked.ndim != 1 or checked.shape != found.shape:
        raise ValueError(
            "is_checked and is_found must be one value an entry; got shapes "
            f"{checked.shape} and {found.shape}. Pass both in rank order."
        )
    if not 0 < fdr < 1:
        raise ValueError(f"fdr must lie between 0 and 1; got {fdr}. Pass a share such as 0.05.")
    n_missed, n_open = np.cumsum(checked & ~found), np.cumsum(~checked)
    rates = (1 + n_missed) / np.maximum(1, n_open)
    # An entry is listed at a rate if any place from its own on is.
    least = np.minimum(1.0, np.minimum.accumulate(rates[::-1])[::-1])
    q_values = np.where(checked, np.nan, least)
    # A share of exactly the rate counts, whatever its last bit.
    chosen = np.flatnonzero(q_values <= fdr * (1 + 1e-12))
    estimated = float(1 + n_missed[chosen[-1]]) if len(chosen) else 0.0
    counts = (int(checked.sum()), int((~checked).sum()))
    needed = math.ceil(1 / fdr * (1 - 1e-12))
    why = ""
    if counts[1] < needed:
        why = f"needs {needed:,} entries that are not checked, got {counts[1]:,}"
    return HalfChecked(chosen, q_values, fdr, estimated, *counts, why)


def coin(names: Iterable[str], *, seed: int = 0) -> NDArray[np.bool_]:
    """A fair coin for each name, the same in every list that it stands on.

    Parameters
    ----------
    names : iterable of str
    seed : int

    Returns
    -------
    bool array (n,)

    >>> tosses = coin([f"top-n-{i:06}" for i in range(1000)])
    >>> bool(450 < tosses.sum() < 550)
    True
    """
    keys = (f"checked {seed} {name}".encode("utf-8", "surrogatepass") for name in names)
    return np.array([hashlib.blake2b(k, digest_size=1).digest()[0] & 1 for k in keys], dtype=bool)
