"""Shortlists with a controlled false discovery rate: conformal p-values and half-checked lists."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attacks.statistics.multiplicity import benjamini_hochberg

ASSUMPTION = (
    "a candidate that is no member scores like a control: same kind of text, and the score was "
    "chosen without looking at these candidates"
)
_LAMBDA = 0.5  # p-values above this are assumed to belong to non-members (Storey)


@dataclass(frozen=True, eq=False)
class Shortlist:
    """Candidates called members at a chosen false discovery rate; made by `calibrated_list`.

    chosen : int array (n_chosen,)
        Indices of the chosen candidates, the highest score first.
    p_values : float64 array (n_candidates,)
        Conformal; NaN where the score is NaN.
    fdr : float
        Upper bound of the expected share of false entries.
    estimated_false : float
        Estimated number of false entries, at most fdr × n_chosen. It is too low on average,
        because the end of the list is chosen by the same controls.
    n_candidates, n_controls : int
        Numbers with a defined score.
    n_undefined : int
        Number of NaN scores left out, of candidates and controls together.
    withheld : str
        Why no scores could have led to a list; empty otherwise.
    assumption : str
    """

    chosen: NDArray[np.int64]
    p_values: NDArray[np.float64]
    fdr: float
    estimated_false: float
    n_candidates: int
    n_controls: int
    n_undefined: int
    withheld: str = ""
    assumption: str = ASSUMPTION


def conformal_p_values(candidates: ArrayLike, controls: ArrayLike) -> NDArray[np.float64]:
    """Conformal p-values: the share of controls that score at least as high as each candidate.

    Parameters
    ----------
    candidates : float array (n_candidates,)
        Higher = more likely a member.
    controls : float array (n_controls,)
        Known non-members; NaN is left out.

    Returns
    -------
    float64 array (n_candidates,): (1 + number of controls >= score) / (n_controls + 1), or NaN.

    Raises
    ------
    ValueError
        If no control has a defined score.

    Source
    ------
    Vovk et al. 2005, "Algorithmic Learning in a Random World", section 2.2; as p-values of
    outliers, Bates et al. 2023, "Testing for Outliers with Conformal p-values", section 2.

    >>> conformal_p_values([9.0, 2.0, 0.0], [1.0, 2.0, 3.0])
    array([0.25, 0.75, 1.  ])
    """
    scores = np.asarray(candidates, dtype=np.float64)
    known = np.asarray(controls, dtype=np.float64)
    known = np.sort(known[~np.isnan(known)])
    if not len(known):
        raise ValueError(
            "there must be 1 or more controls with a defined score; got none. "
            "Score texts that are known not to be members."
        )
    above = len(known) - np.searchsorted(known, scores, side="left")
    return np.where(np.isnan(scores), np.nan, (1 + above) / (len(known) + 1))


def calibrated_list(candidates: ArrayLike, controls: ArrayLike, *, fdr: float = 0.05) -> Shortlist:
    """Candidates called members, with an expected share of false entries of at most `fdr`.

    Parameters
    ----------
    candidates, controls : float arrays (n_candidates,), (n_controls,)
        Higher = more likely a member; controls are known non-members.
    fdr : float, between 0 and 1

    Returns
    -------
    Shortlist; withheld (empty) if there are fewer than 1 / fdr - 1 controls, because then even a
    candidate above all of them could not be listed.

    Raises
    ------
    ValueError
        If there is no candidate or control with a defined score, or fdr lies outside (0, 1).

    Source
    ------
    Benjamini and Hochberg 1995 on conformal p-values. These depend on each other through the shared
    controls; Bates et al. 2023, section 2, prove that the rate holds nevertheless. The number of
    false entries is estimated as in Storey 2002, "A Direct Approach to False Discovery Rates",
    section 3, with lambda = 1/2; it is unbiased only for a cutoff chosen independently.

    >>> made = calibrated_list([9.0, 8.0, 0.5], np.arange(0, 4, 0.1), fdr=0.05)
    >>> made.chosen, made.p_values.round(3)
    (array([0, 1]), array([0.024, 0.024, 0.878]))
    """
    if not 0 < fdr < 1:
        raise ValueError(f"fdr must lie between 0 and 1; got {fdr}. Pass a share such as 0.05.")
    scores = np.asarray(candidates, dtype=np.float64)
    p = conformal_p_values(scores, controls)
    defined = ~np.isnan(p)
    n_candidates, n_controls = int(defined.sum()), int((~np.isnan(np.asarray(controls))).sum())
    n_undefined = len(p) + np.size(controls) - n_candidates - n_controls
    if not n_candidates:
        raise ValueError(
            f"there must be 1 or more candidates with a defined score; got none of {len(p):,}. "
            "Leave this score out."
        )
    counts = (n_candidates, n_controls, n_undefined)
    # If the smallest possible p-value exceeds the rate, nothing can be listed.
    if 1 / (n_controls + 1) > fdr:
        reason = f"needs {math.ceil(1 / fdr - 1):,} controls, got {n_controls:,}"
        return Shortlist(np.array([], np.int64), p, fdr, 0.0, *counts, reason)
    # Include p-values equal to the rate despite rounding.
    listed = np.flatnonzero(defined & (benjamini_hochberg(p) <= fdr * (1 + 1e-12)))
    chosen = listed[np.argsort(-scores[listed], kind="stable")]
    return Shortlist(chosen, p, fdr, _n_false(p[defined], p[listed], fdr), *counts)


def _n_false(p: NDArray[np.float64], listed: NDArray[np.float64], fdr: float) -> float:
    """Estimated number of non-members, times the expected share of them that is listed."""
    if not len(listed):
        return 0.0
    n_non = min(len(p), (1 + np.count_nonzero(p > _LAMBDA)) / (1 - _LAMBDA))
    return float(min(n_non * listed.max(), fdr * len(listed)))


@dataclass(frozen=True, eq=False)
class HalfChecked:
    """Unchecked entries of a ranking that can be listed; made by `half_checked_list`.

    chosen : int array (n_chosen,)
        Positions in the ranking, from 0.
    q_values : float64 array (n,)
        The lowest rate at which an entry is listed; NaN if it was checked.
    fdr : float
        Upper bound of the expected share of false entries, over random halves.
    estimated_false : float
        1 plus the number of checked entries not found, down to the end of the list; 0 for an empty
        list. It is too low on average.
    n_checked, n_unchecked : int
        Numbers in the whole ranking.
    withheld : str
        Why no outcome of the checks could have led to a list; empty otherwise.
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
    """Unchecked top entries of a ranking, with an expected false share of at most `fdr`.

    Each entry is checked with probability 1/2, so above any rank about as many false entries are
    unchecked as are checked and not found. The list ends at the last rank where
    (1 + number checked and not found) / number unchecked is at most `fdr`.

    Parameters
    ----------
    is_checked : bool array (n,)
        In rank order, the most suspicious first; drawn independently of the ranking, after
        duplicates are removed (see `random_half`).
    is_found : bool array (n,)
        Whether a checked entry was found; ignored for unchecked entries.
    fdr : float, between 0 and 1

    Returns
    -------
    HalfChecked; withheld if fewer than 1 / fdr entries are unchecked.

    Raises
    ------
    ValueError
        If the arrays differ in length, or fdr lies outside (0, 1).

    Source
    ------
    Barber and Candès 2015, "Controlling the false discovery rate via knockoffs", section 3.1,
    Selective SeqStep+ with c = 1/2. Checked entries that were found are not counted; the bound
    E[false unchecked / (1 + false checked)] <= 1 still holds. It makes no assumption about the
    scores, nor about which true entries are checked.

    One of two checked entries was not found, near the end: above it, 1 / 3 is at most 0.4.

    >>> made = half_checked_list([0, 1, 0, 0, 1, 0], [0, 1, 0, 0, 0, 0], fdr=0.4)
    >>> made.chosen, made.q_values.round(2)
    (array([0, 2, 3]), array([0.33,  nan, 0.33, 0.33,  nan, 0.5 ]))
    """
    checked, found = (np.asarray(v, dtype=bool) for v in (is_checked, is_found))
    if checked.ndim != 1 or checked.shape != found.shape:
        raise ValueError(
            "is_checked and is_found must have one value per entry; got shapes "
            f"{checked.shape} and {found.shape}. Pass both in rank order."
        )
    if not 0 < fdr < 1:
        raise ValueError(f"fdr must lie between 0 and 1; got {fdr}. Pass a share such as 0.05.")
    n_missed, n_open = np.cumsum(checked & ~found), np.cumsum(~checked)
    rates = (1 + n_missed) / np.maximum(1, n_open)
    # An entry is listed at a rate if the list can end at its rank or below.
    least = np.minimum(1.0, np.minimum.accumulate(rates[::-1])[::-1])
    q_values = np.where(checked, np.nan, least)
    # Include shares equal to the rate despite rounding.
    chosen = np.flatnonzero(q_values <= fdr * (1 + 1e-12))
    estimated = float(1 + n_missed[chosen[-1]]) if len(chosen) else 0.0
    counts = (int(checked.sum()), int((~checked).sum()))
    needed = math.ceil(1 / fdr * (1 - 1e-12))
    why = ""
    if counts[1] < needed:
        why = f"needs {needed:,} entries that are not checked, got {counts[1]:,}"
    return HalfChecked(chosen, q_values, fdr, estimated, *counts, why)


def random_half(names: Iterable[str], *, seed: int = 0) -> NDArray[np.bool_]:
    """Assign each name to a random half, the same in every list that contains it.

    Parameters
    ----------
    names : iterable of str
    seed : int

    >>> tosses = random_half([f"top-n-{i:06}" for i in range(1000)])
    >>> bool(450 < tosses.sum() < 550)
    True
    """
    keys = (f"checked {seed} {name}".encode("utf-8", "surrogatepass") for name in names)
    return np.array([hashlib.blake2b(k, digest_size=1).digest()[0] & 1 for k in keys], dtype=bool)
