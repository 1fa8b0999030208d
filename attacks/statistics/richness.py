"""How many passages are still undiscovered."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attacks.statistics.intervals import clopper_pearson, normal_quantile

ASSUMPTION = (
    "samples are independent and drawn alike; passages that are much rarer than those seen once "
    "are not counted, so the number of passages is a lower bound, and the upper end of its "
    "interval is not an upper bound"
)


@dataclass(frozen=True)
class Richness:
    """Passages found, and an estimate of those not found; made by `richness`.

    n_distinct, n_once, n_twice : int
        Distinct passages found, and those found in exactly one or two samples.
    n_draws : int
        Independent samples.
    new_rate, new_rate_low, new_rate_high : float
        Expected number of new passages in the next sample (Good-Turing). If a sample holds at most
        one passage, this is the missing mass: the probability that the next passage is new.
    total, total_low, total_high : float
        A lower bound of the number of distinct passages that this way of sampling can ever find
        (Chao), with the interval of that bound. If passages differ in frequency, there are more
        than total_high. NaN if withheld.
    withheld : str
        Why there is no total; empty if there is one.
    assumption : str
    """

    n_distinct: int
    n_once: int
    n_twice: int
    n_draws: int
    new_rate: float
    new_rate_low: float
    new_rate_high: float
    total: float
    total_low: float
    total_high: float
    withheld: str = ""
    assumption: str = ASSUMPTION


def richness(
    counts: ArrayLike, *, n_draws: int | None = None, confidence: float = 0.95
) -> Richness:
    """Good-Turing's rate of new passages and Chao's estimate of their total.

    Parameters
    ----------
    counts : int array (n_passages,)
        Number of samples that hold each distinct passage. Zeros are passages not found.
    n_draws : int, optional
        Number of samples, including those without a passage. By default the sum of the counts,
        which is right if every sample holds exactly one.
    confidence : float, between 0 and 1

    Returns
    -------
    Richness; the total is withheld if nothing was found.

    Raises
    ------
    ValueError
        If counts are not whole numbers from 0 on, one exceeds n_draws, or there is no draw.

    Source
    ------
    Good 1953, "The Population Frequencies of Species", section 2. The rate's interval is normal
    with the variance (n_once + 2 n_twice) / n_draws², at most a little wider than Esty's 1983; if
    no passage was seen once or twice, it is Clopper-Pearson's of 0 in n_draws. Chao 1984 and 1987
    (with n_draws samples, Chao2), in the bias-corrected form if nothing was seen twice. Its
    interval is the log-normal one of Chao 1987, rounded outwards to whole passages; if no unseen
    passage is estimated, that of the EstimateS user's guide (Colwell 2013), appendix B.

    Two passages seen once and one twice, in four draws: 3 + 3/4 × 2²/(2 × 1) = 4.5.

    >>> made = richness([1, 1, 2])
    >>> made.new_rate, made.total
    (0.5, 4.5)
    """
    seen, n = _checked(counts, n_draws)
    once, twice = (int(np.count_nonzero(seen == c)) for c in (1, 2))
    found, one_a_sample = len(seen), int(seen.sum()) <= n
    z = normal_quantile(confidence)
    if once == twice == 0:
        low, high = 0.0, float(clopper_pearson(0, n, confidence=confidence)[1])
    else:
        reach = z * math.sqrt(once + 2 * twice) / n
        low, high = max(0.0, once / n - reach), once / n + reach
    rate = (once / n, low, min(1.0, high) if one_a_sample else high)
    start = (found, once, twice, n, *rate)
    if not found:
        reason = f"no passage was found in {n:,} samples"
        return Richness(*start, math.nan, math.nan, math.nan, reason)
    return Richness(*start, *_total(seen, once, twice, n, z))


def _total(
    seen: NDArray[np.int64], once: int, twice: int, n: int, z: float
) -> tuple[float, float, float]:
    """Chao's estimate of all passages, with its interval."""
    found, a = len(seen), (n - 1) / n
    if twice:
        q = once / twice
        unseen = a * once * q / 2
        variance = twice * (a * q**2 / 2 + a**2 * q**3 + a**2 * q**4 / 4)
    else:
        unseen = a * once * (once - 1) / 2
        variance = (
            a * once * (once - 1) / 2
            + a**2 * once * (2 * once - 1) ** 2 / 4
            - a**2 * once**4 / (4 * (found + unseen))
        )
    if unseen <= 0:
        return float(found), *_of_all_seen(seen, n, z)
    factor = math.exp(z * math.sqrt(math.log1p(max(variance, 0.0) / unseen**2)))
    # Whole passages; the log-normal interval alone never reaches the number found.
    return found + unseen, math.floor(found + unseen / factor), math.ceil(found + unseen * factor)


def _of_all_seen(seen: NDArray[np.int64], n: int, z: float) -> tuple[float, float]:
    """The interval without unseen passages: a passage seen i times is missed with e^-i."""
    found = len(seen)
    miss = np.exp(-seen.astype(np.float64))
    variance = float((miss - miss**2).sum() - (seen * miss).sum() ** 2 / n)
    total = found / (1 - float(miss.sum()) / found)
    reach = z * math.sqrt(max(variance, 0.0)) / (1 - float(miss.sum()) / found)
    return max(float(found), total - reach), total + reach


def _checked(counts: ArrayLike, n_draws: int | None):
    array = np.asarray(counts)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu") or (array < 0).any():
        raise ValueError(
            "counts must be whole numbers from 0 on, one per passage; "
            f"got {array.dtype} of shape {array.shape}. Count the samples that hold each passage."
        )
    seen = array[array > 0].astype(np.int64)
    n = int(seen.sum()) if n_draws is None else n_draws
    if n < 1 or (len(seen) and seen.max() > n):
        most = int(seen.max()) if len(seen) else 0
        raise ValueError(
            f"n_draws must be 1 or more and at least the largest count ({most:,}); got {n:,}. "
            "Count each passage once per sample."
        )
    return seen, n
