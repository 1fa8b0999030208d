"""Canary exposure, in bits: how highly a model ranks a secret among all secrets of its space.

A canary is ranked by the total log-probability of its secret given its prefix, in nats (the
negative of the paper's log-perplexity): higher = more likely memorized. A tied canary gets the
worst rank of the tie, so a model that assigns all secrets the same probability exposes none.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

# With fewer controls, a fit of three parameters is too uncertain.
LEAST_CONTROLS = 20
# Below this value, SciPy's distribution function loses its digits to cancellation.
_PLAIN_CDF = 1e-6
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)
# The integral is truncated where the integrand has fallen by e^-50.
_REACH = 50.0


def exposure(rank: ArrayLike, n_candidates: int) -> NDArray[np.float64]:
    """Exposure of canaries, in bits: log2(n_candidates) - log2(rank).

    Parameters
    ----------
    rank : int array (n_canaries,)
        1 = the most likely of all candidates.
    n_candidates : int
        Size of the space the secret was drawn from; an integer of any size.

    Returns
    -------
    float64 array (n_canaries,), bits; between 0 and log2(n_candidates).

    Raises
    ------
    ValueError
        If a rank is not an integer or lies outside [1, n_candidates].

    Source
    ------
    Carlini et al. 2019, "The Secret Sharer", section 4.2, definition of exposure.

    >>> exposure(np.array([1, 512]), 1024)
    array([10.,  1.])
    """
    ranks = np.asarray(rank)
    if ranks.size and ranks.dtype.kind not in "iu":
        raise ValueError(f"rank must be whole numbers; got {ranks.dtype}. Pass ranks from 1 on.")
    wrong = ranks[(ranks < 1) | (ranks > n_candidates)]
    if wrong.size:
        raise ValueError(
            f"rank must lie between 1 and n_candidates ({n_candidates:,}); got {wrong.flat[0]:,}. "
            "The most likely candidate has rank 1."
        )
    # Rounding must not make the exposure of the last rank negative or -0.0.
    return np.maximum(math.log2(max(n_candidates, 1)) - np.log2(ranks), 0.0) + 0.0


def ranks_among_all(logprob: ArrayLike) -> NDArray[np.int64]:
    """Rank of every candidate of a fully scored space; tied candidates share the worst rank.

    Parameters
    ----------
    logprob : float array (n_candidates,), nats

    Returns
    -------
    int64 array (n_candidates,): number of candidates at least as likely, including itself.

    Raises
    ------
    ValueError
        If a log-probability is NaN.

    >>> ranks_among_all([-1.0, -3.0, -3.0, -2.0])
    array([1, 4, 4, 2])
    """
    return _at_least(_checked("logprob", logprob), logprob)


def exposure_by_interpolation(logprob: ArrayLike, controls: ArrayLike) -> NDArray[np.float64]:
    """Exposure of canaries among controls of the same space that were never trained on, in bits.

    If k of n controls are at least as likely as a canary, its rank is k + 1 of n + 1. Exposure is
    therefore at most log2(n + 1): more controls allow higher values.

    Parameters
    ----------
    logprob : float array (n_canaries,), nats
    controls : float array (n_controls,), nats
        Of each control's secret, given the canaries' prefix.

    Returns
    -------
    float64 array (n_canaries,), bits.

    Raises
    ------
    ValueError
        If a log-probability is NaN, or there is no control.

    Source
    ------
    Carlini et al. 2019, "The Secret Sharer", section 4.3, approximation by sampling. (TensorFlow
    Privacy subtracts from log2(n), so a canary less likely than all controls is below 0.)

    None, three and all of 7 controls are at least as likely:

    >>> exposure_by_interpolation([-1.0, -5.0, -9.0], [-8, -8, -6, -6, -5, -4, -3])
    array([3., 1., 0.])
    """
    others = _checked("controls", controls)
    if not others.size:
        raise ValueError("controls must hold at least one log-probability; got none. Make more.")
    rank = 1 + _at_least(others, _checked("logprob", logprob))
    return exposure(rank, len(others) + 1)


def expected_exposure(n_candidates: int) -> float:
    """Mean exposure of a secret that was never trained on, in bits: its rank is uniform.

    Parameters
    ----------
    n_candidates : int, 1 or more

    Returns
    -------
    log2(n) - log2(n!) / n, which rises from 0 to the limit log2(e), about 1.44.

    Raises
    ------
    ValueError
        If n_candidates is below 1.

    Of two candidates, one has 1 bit and the other none:

    >>> expected_exposure(2)
    0.5
    >>> round(expected_exposure(10**9), 3)
    1.443
    """
    if n_candidates < 1:
        raise ValueError(f"n_candidates must be 1 or more; got {n_candidates}. Count the space.")
    if n_candidates <= 1000:
        # Sum the few terms exactly; a difference of large logarithms would lose digits.
        return math.fsum(math.log2(n_candidates / i) for i in range(1, n_candidates + 1)) / (
            n_candidates
        )
    # Stirling's series; its error is below 1e-9 for n above 1000.
    series = 0.5 * (math.log(2 * math.pi) + math.log(n_candidates)) + 1 / (12 * n_candidates)
    return (1 - series / n_candidates) / math.log(2)


@dataclass(frozen=True)
class SkewNormal:
    """A skew-normal distribution fitted to log-perplexities, with a test of the fit.

    Parameters
    ----------
    shape : float
        0 = the normal distribution; above 0, the right tail is longer.
    location, scale : float, nats
    n : int
        Number of fitted values.
    ks_statistic, ks_p : float
        Kolmogorov-Smirnov statistic and p-value of the fitted values. The test is lenient, because
        it uses the values of the fit: a small p-value is evidence against the distribution, a large
        one is hardly evidence for it.
    """

    shape: float
    location: float
    scale: float
    n: int
    ks_statistic: float
    ks_p: float

    def log_cdf(self, value: ArrayLike) -> NDArray[np.float64]:
        """Natural logarithm of P(X <= value), accurate also far into the tail.

        >>> standard = SkewNormal(0.0, 0.0, 1.0, 0, 0.0, 1.0)
        >>> standard.log_cdf([0.0, -40.0]).round(3).tolist()
        [-0.693, -804.608]
        """
        z = (np.asarray(value, np.float64) - self.location) / self.scale
        plain = stats.skewnorm.cdf(z, self.shape)
        # An infinite log-perplexity lies above all others.
        far = (plain < _PLAIN_CDF) & np.isfinite(z)
        out = np.zeros(z.shape)
        np.log(plain, out=out, where=~far & (plain > 0))
        out[far] = _log_cdf_far_left(z[far], self.shape)
        return np.minimum(out, 0.0)


def fit_skew_normal(values: ArrayLike) -> SkewNormal:
    """Fit a skew-normal distribution to values by maximum likelihood.

    Parameters
    ----------
    values : float array (n,), at least 20, finite and not all equal

    Raises
    ------
    ValueError
        If there are too few values, or they cannot be fitted.

    Source
    ------
    Azzalini 1985, "A class of distributions which includes the normal ones", section 2.
    """
    sample = np.asarray(values, np.float64).ravel()
    if len(sample) < LEAST_CONTROLS:
        raise ValueError(
            f"a skew-normal fit needs {LEAST_CONTROLS} values or more; got {len(sample)}. "
            "Make more controls."
        )
    if not np.isfinite(sample).all() or np.ptp(sample) <= 1e-9 * np.abs(sample).max():
        raise ValueError(
            "a skew-normal fit needs finite values that differ; got "
            f"{sample.min():.6g} to {sample.max():.6g}. Use interpolation."
        )
    mean, std = float(sample.mean()), float(sample.std())
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # The optimizer tries parameters with likelihood 0.
        warnings.simplefilter("ignore")
        shape, location, scale = stats.skewnorm.fit((sample - mean) / std)
        fitted = stats.kstest((sample - mean) / std, "skewnorm", (shape, location, scale))
    return SkewNormal(
        float(shape),
        float(mean + std * location),
        float(std * scale),
        len(sample),
        float(fitted.statistic),
        float(fitted.pvalue),
    )


@dataclass(frozen=True)
class Extrapolation:
    """Extrapolated exposures, float64 (n_canaries,) in bits, and the distribution used."""

    exposure: NDArray[np.float64]
    law: SkewNormal


def exposure_by_extrapolation(
    logprob: ArrayLike, controls: ArrayLike, *, n_candidates: int | None = None
) -> Extrapolation:
    """Exposure of canaries by a skew-normal fit to the controls' log-perplexities, in bits.

    It is -log2 of the probability that a secret is at least as likely as the canary's. Beyond the
    range of the controls this is an assumption, not an observation: check the fit.

    Parameters
    ----------
    logprob : float array (n_canaries,), nats
    controls : float array (n_controls,), nats
        At least 20, of secrets of the same space, given the canaries' prefix.
    n_candidates : int, optional
        Size of the space; exposures are limited to its log2. The distribution has no upper limit.

    Raises
    ------
    ValueError
        If a log-probability is NaN, or the distribution cannot be fitted.

    Source
    ------
    Carlini et al. 2019, "The Secret Sharer", section 4.3, approximation by distribution modelling.
    """
    law = fit_skew_normal(-_checked("controls", controls))
    bits = -law.log_cdf(-_checked("logprob", logprob)) / math.log(2) + 0.0
    if n_candidates is not None:
        bits = np.minimum(bits, math.log2(n_candidates))
    return Extrapolation(bits, law)


def _at_least(scores: NDArray[np.float64], own: ArrayLike) -> NDArray[np.int64]:
    """Number of scores that are at least as high as each of `own`."""
    return len(scores) - np.searchsorted(np.sort(scores), np.asarray(own, np.float64), side="left")


def _checked(name: str, logprob: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(logprob, np.float64)
    if np.isnan(array).any():
        raise ValueError(
            f"{name} must hold no NaN; got {int(np.isnan(array).sum()):,}. Leave out texts "
            "without a probability."
        )
    return array


def _log_density(z: NDArray[np.float64], shape: float) -> NDArray[np.float64]:
    return math.log(2) - z**2 / 2 - 0.5 * math.log(2 * math.pi) + special.log_ndtr(shape * z)


def _log_cdf_far_left(z: NDArray[np.float64], shape: float) -> NDArray[np.float64]:
    """log of the integral of the density up to z, far in the left tail.

    The density is log-concave, so left of z it falls at least as fast as exp(slope * (t - z)), and
    a few multiples of 1 / slope contain nearly all of the integral.
    """
    mills = -((shape * z) ** 2) / 2 - 0.5 * math.log(2 * math.pi) - special.log_ndtr(shape * z)
    slope = np.maximum(-z + shape * np.exp(mills), 1.0)[:, None]
    steps = _REACH * (1 + _NODES) / 2  # (200,)
    heights = _log_density(z[:, None] - steps / slope, shape)  # (n, 200)
    return special.logsumexp(heights + np.log(_WEIGHTS * _REACH / 2 / slope), axis=1)
