"""A short list whose share of false entries is held: conformal p-values and Benjamini-Hochberg."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attacks.multiplicity import benjamini_hochberg

ASSUMPTION = (
    "a candidate that is no member scores like a control: same kind of text, and the score was "
    "chosen without looking at these candidates"
)
_LAMBDA = 0.5  # p-values above are taken to be those of non-members (Storey)


@dataclass(frozen=True, eq=False)
class ShortList:
    """Candidates called members at a chosen false discovery rate; made by `calibrated_list`.

    chosen : int array (n_chosen,)
        Which candidates, the highest score first.
    p_values : float64 array (n_candidates,)
        Conformal; NaN where the score is.
    fdr : float
        The share of the list that is false on average is at most this.
    estimated_false : float
        How many of the list are false, as the controls suggest: a low estimate, the lower the
        shorter the list, since a list ends where few controls score as high. At most fdr ×
        n_chosen, though a list may hold more: the rate is held on average over lists.
    n_candidates, n_controls : int
        With a defined score.
    n_undefined : int
        NaN left out, candidates and controls together.
    withheld : str
        Why no list could be made, whatever the scores; empty if one could.
    assumption : str
        What the rate rests on.
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
    """The share of controls that score at least as high, the candidate counted among them.

    Parameters
    ----------
    candidates : float array (n_candidates,)
        Higher = more likely a member.
    controls : float array (n_controls,)
        Known non-members; NaN is left out.

    Returns
    -------
    float64 array (n_candidates,): (1 + number of controls >= score) / (n_controls + 1); NaN where
    the score is.

    Raises
    ------
    ValueError
        If there is no control.

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


def calibrated_list(candidates: ArrayLike, controls: ArrayLike, *, fdr: float = 0.05) -> ShortList:
    """The candidates that can be called members with a share of at most `fdr` false on average.

    Parameters
    ----------
    candidates, controls : float arrays (n_candidates,), (n_controls,)
        Higher = more likely a member; controls are known non-members.
    fdr : float, between 0 and 1

    Returns
    -------
    ShortList; empty and withheld where even a candidate above all controls could not be listed,
    since there are fewer than 1 / fdr - 1 of them.

    Raises
    ------
    ValueError
        If there is no candidate or control with a defined score, or fdr lies outside (0, 1).

    Source
    ------
    Benjamini and Hochberg 1995 on conformal p-values, which share their controls; that the rate
    holds nevertheless: Bates et al. 2023, section 2. The estimate of how many are false is
    Storey's 2002, "A Direct Approach to False Discovery Rates", section 3, at lambda 1/2; it would
    be right at a cut that was not chosen by the same controls.

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
    # The least p-value must not exceed the rate, even if every candidate had it.
    if 1 / (n_controls + 1) > fdr:
        reason = f"needs {math.ceil(1 / fdr - 1):,} controls, got {n_controls:,}"
        return ShortList(np.array([], np.int64), p, fdr, 0.0, *counts, reason)
    # A p-value of exactly the rate counts, whatever its last bit.
    listed = np.flatnonzero(defined & (benjamini_hochberg(p) <= fdr * (1 + 1e-12)))
    chosen = listed[np.argsort(-scores[listed], kind="stable")]
    return ShortList(chosen, p, fdr, _n_false(p[defined], p[listed], fdr), *counts)


def _n_false(p: NDArray[np.float64], listed: NDArray[np.float64], fdr: float) -> float:
    """Non-members, as the high p-values show them, times the share of them that is listed."""
    if not len(listed):
        return 0.0
    n_non = min(len(p), (1 + np.count_nonzero(p > _LAMBDA)) / (1 - _LAMBDA))
    return float(min(n_non * listed.max(), fdr * len(listed)))
