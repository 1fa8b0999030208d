"""The share of a document that lies in extractable spans."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Coverage:
    """Characters of a document in spans whose p_z is at least `tau`.

    Parameters
    ----------
    tau : float
        A probability.
    n_chars : int
        Characters so covered.
    share : float
        The same as a fraction of the document; NaN of an empty one.
    longest_run, longest_start : int
        Characters of the longest unbroken run of them, and where the first such run begins
        (-1 = none).
    """

    tau: float
    n_chars: int
    share: float
    longest_run: int
    longest_start: int


def best_log_p(
    starts: ArrayLike, ends: ArrayLike, log_p: ArrayLike, n_chars: int
) -> NDArray[np.float64]:
    """The highest log p_z of the spans over each character, float64 (n_chars,), nats.

    Parameters
    ----------
    starts, ends : int arrays (n,), characters; a span is [start, end)
    log_p : float array (n,), nats; -inf is allowed
    n_chars : int

    Returns
    -------
    NaN for a character that no span covers.

    Raises
    ------
    ValueError
        If lengths differ or a span leaves the document.

    Source
    ------
    Cooper et al. 2025, "Extracting memorized pieces of (copyrighted) books from open-weight
    language models": the heat maps.

    >>> best_log_p([0, 1], [2, 3], [-5.0, -1.0], 4)
    array([-5., -1., -1., nan])
    """
    start, end, value = np.asarray(starts), np.asarray(ends), np.asarray(log_p, dtype=np.float64)
    if not start.shape == end.shape == value.shape or start.ndim != 1:
        raise ValueError(
            "starts, ends and log_p must be of one length; "
            f"got {start.shape}, {end.shape} and {value.shape}. Pass one of each per span."
        )
    if np.any((start < 0) | (end < start) | (end > n_chars)):
        raise ValueError(
            f"spans must lie within [0, {n_chars}] and end after they start. Check whether "
            "they count characters."
        )
    best = np.full(n_chars, np.nan)
    for i in np.argsort(value, kind="stable").tolist():  # the best is written last
        best[start[i] : end[i]] = value[i]
    return best


def coverage(best: ArrayLike, tau: float) -> Coverage:
    """Characters whose best p_z is at least tau, and the longest run of them.

    Parameters
    ----------
    best : float array (n_chars,), nats
        From `best_log_p`; NaN counts as not covered.
    tau : float, above 0 and at most 1

    Raises
    ------
    ValueError
        If tau lies outside (0, 1].

    Source
    ------
    Cooper et al. 2025, as `best_log_p`.

    >>> coverage(np.log([0.6, 0.1, 0.5, 0.9]), 0.5)
    Coverage(tau=0.5, n_chars=3, share=0.75, longest_run=2, longest_start=2)
    """
    if not 0 < tau <= 1:
        raise ValueError(f"tau must be above 0 and at most 1; got {tau}. Pass 0.5, say.")
    values = np.asarray(best, dtype=np.float64)
    # Tolerance for rounding, so that a p_z of exactly tau counts.
    covered = values >= math.log(tau) - 1e-12
    edges = np.diff(np.concatenate([[0], covered.astype(np.int8), [0]]))
    begins, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    runs = stops - begins
    longest = int(runs.argmax()) if len(runs) else -1
    n = int(covered.sum())
    return Coverage(
        tau,
        n,
        n / len(values) if len(values) else math.nan,
        int(runs[longest]) if longest >= 0 else 0,
        int(begins[longest]) if longest >= 0 else -1,
    )
