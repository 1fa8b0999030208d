"""How much is left: what further sampling would still bring to light."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attacks.statistics.intervals import clopper_pearson, normal_quantile

ASSUMPTION = (
    "samples are independent and drawn alike; passages much rarer than those seen once are beyond "
    "it, so the number of passages is a lower bound, and the upper end of its interval bounds "
    "nothing"
)


@dataclass(frozen=True)
class Richness:
    """What was found, and an estimate of what was not; made by `richness`.

    n_distinct, n_once, n_twice : int
        Distinct passages found, and those that one sample held, or two.
    n_draws : int
        Independent samples.
    new_rate, new_rate_low, new_rate_high : float
        New passages that the next sample brings, expected (Good-Turing). Where a sample holds one
        passage at most, this is the missing mass: the chance that the next one is new.
    total, total_low, total_high : float
        A lower bound of the distinct passages that this way of sampling would ever bring (Chao),
        and the interval of that bound: where passages differ in how often they come, there are
        more than total_high. NaN if withheld.
    confidence : float
    withheld : str
        Why there is no total; empty if there is one.
    assumption : str
        What it rests on.
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
    confidence: float
    withheld: str = ""
    assumption: str = ASSUMPTION

    def after(self, n_more: int) -> float:
        """Distinct passages after so many more samples, extrapolated as in Colwell et al. 2012.

        >>> made = richness([1, 1, 2], n_draws=4)
        >>> round(made.after(0), 9), made.after(10**6) <= made.total
        (3.0, True)
        """
        if self.withheld:
            return math.nan
        unseen = self.total - self.n_distinct
        if unseen <= 0:
            return float(self.n_distinct)
        missed = 1 - self.n_once / (self.n_draws * unseen + self.n_once)
        return self.n_distinct + unseen * (1 - missed**n_more)


def richness(
    counts: ArrayLike, *, n_draws: int | None = None, confidence: float = 0.95
) -> Richness:
    """Good-Turing's rate of new passages and Chao's estimate of all there are.

    Parameters
    ----------
    counts : int array (n_passages,)
        How many samples held each distinct passage. Zeros are passages not found.
    n_draws : int, optional
        Samples drawn, those without any passage included; by default the sum of the counts, as
        where every sample holds just one.
    confidence : float, between 0 and 1

    Returns
    -------
    Richness; the total is withheld where nothing was found.

    Raises
    ------
    ValueError
        If counts are not whole numbers from 0 on, one exceeds n_draws, or there is no draw.

    Source
    ------
    Good 1953, "The Population Frequencies of Species", section 2; the rate's interval is normal
    with the variance (n_once + 2 n_twice) / n_draws², at most a little wider than Esty's 1983;
    where no passage was seen once or twice, Clopper-Pearson's of 0 in n_draws. Chao 1984 and 1987
    (with n_draws samples, Chao2), the bias-corrected form where nothing was seen twice; its
    interval is the log-normal one of Chao 1987, out to whole passages, or, where nothing unseen
    is estimated, that of the EstimateS user's guide (Colwell 2013), appendix B.

    Two passages seen once and one twice, of four draws: 3 + 3/4 × 2²/(2 × 1) = 4.5.

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
        return Richness(*start, math.nan, math.nan, math.nan, confidence, reason)
    return Richness(*start, *_total(seen, once, twice, n, z), confidence)


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
    # There are only whole passages, and the log-normal never admits that none is left.
    return found + unseen, math.floor(found + unseen / factor), math.ceil(found + unseen * factor)


def _of_all_seen(seen: NDArray[np.int64], n: int, z: float) -> tuple[float, float]:
    """The interval where nothing unseen is estimated: a passage seen i times is missed e^-i."""
    found = len(seen)
    miss = np.exp(-seen.astype(np.float64))
    variance = float((miss - miss**2).sum() - (seen * miss).sum() ** 2 / n)
    all_told = found / (1 - float(miss.sum()) / found)
    reach = z * math.sqrt(max(variance, 0.0)) / (1 - float(miss.sum()) / found)
    return max(float(found), all_told - reach), all_told + reach


def _checked(counts: ArrayLike, n_draws: int | None):
    array = np.asarray(counts)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu") or (array < 0).any():
        raise ValueError(
            "counts must be whole numbers from 0 on, one a passage; "
            f"got {array.dtype} of shape {array.shape}. Count the samples that hold each passage."
        )
    seen = array[array > 0].astype(np.int64)
    n = int(seen.sum()) if n_draws is None else n_draws
    if n < 1 or (len(seen) and seen.max() > n):
        most = int(seen.max()) if len(seen) else 0
        raise ValueError(
            f"n_draws must be 1 or more and at least the largest count ({most:,}); got {n:,}. "
            "Count a passage once a sample."
        )
    return seen, n
