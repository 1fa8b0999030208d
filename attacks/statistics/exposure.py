"""Canary exposure: how far a secret stands out among those that might have been there, in bits.

A canary's ranking statistic is the total log-probability of its secret given its prefix (the
paper's log-perplexity with its sign turned, in nats): higher = more likely memorized. Ties count
against the canary: among equals its rank is the worst, so a model that tells nothing apart exposes
nothing.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

# Fewer controls than these leave a fit of three parameters to chance.
LEAST_CONTROLS = 20
# Below this SciPy's distribution function is a difference of two numbers that are nearly equal.
_PLAIN_CDF = 1e-6
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)
# e^-50 of an integral is left out.
_REACH = 50.0


def exposure(rank: ArrayLike, n_candidates: int) -> NDArray[np.float64]:
    """Exposure of canaries, in bits: log2(n_candidates) - log2(rank).

    Parameters
    ----------
    rank : int array (n_canaries,)
        1 = the most likely of all candidates.
    n_candidates : int
        Size of the space the secret was drawn from; any whole number, however large.

    Returns
    -------
    float64 array (n_canaries,), bits; between 0 and log2(n_candidates).

    Raises
    ------
    ValueError
        If a rank is no whole number or lies outside [1, n_candidates].

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
    # Rounding of two logarithms must not make a last rank's exposure -0.0 or less.
    return np.maximum(math.log2(max(n_candidates, 1)) - np.log2(ranks), 0.0) + 0.0


def ranks_among_all(logprob: ArrayLike) -> NDArray[np.int64]:
    """Rank of every candidate of a space that was scored whole; equals share the worst of theirs.

    Parameters
    ----------
    logprob : float array (n_candidates,), nats

    Returns
    -------
    int64 array (n_candidates,): how many candidates are as likely or likelier, itself included.

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

    A canary that k of n controls equal or outdo has rank k + 1 of the n + 1, itself among them.
    So no exposure is above log2(n + 1): more controls see further.

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
    Privacy subtracts from log2(n), so that a canary behind all controls comes out below 0.)

    Of 7 controls none, three and all are as likely:

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
    log2(n) - log2(n!) / n; it rises from 0 towards log2(e), about 1.44.

    Raises
    ------
    ValueError
        If there is no candidate.

    Of two candidates, one has 1 bit and the other none:

    >>> expected_exposure(2)
    0.5
    >>> round(expected_exposure(10**9), 3)
    1.443
    """
    if n_candidates < 1:
        raise ValueError(f"n_candidates must be 1 or more; got {n_candidates}. Count the space.")
    if n_candidates <= 1000:
        # Few terms: exact to the last digits, where differences of large logarithms are not.
        return math.fsum(math.log2(n_candidates / i) for i in range(1, n_candidates + 1)) / (
            n_candidates
        )
    # Stirling's series: what is left out is below 1e-9 from n = 1000 on.
    series = 0.5 * (math.log(2 * math.pi) + math.log(n_candidates)) + 1 / (12 * n_candidates)
    return (1 - series / n_candidates) / math.log(2)


@dataclass(frozen=True)
class SkewNormal:
    """A skew-normal law of log-perplexities, and how well it fits those it was made from.

    Parameters
    ----------
    shape : float
        0 = the normal law; above 0 the tail lies to the right.
    location, scale : float, nats
    n : int
        Values it was fitted to.
    ks_statistic, ks_p : float
        Kolmogorov-Smirnov distance and p-value of those values. They were fitted to, so the test
        is lenient: a small p-value speaks against the law, a large one hardly for it.
    """

    shape: float
    location: float
    scale: float
    n: int
    ks_statistic: float
    ks_p: float

    def log_cdf(self, value: ArrayLike) -> NDArray[np.float64]:
        """Natural logarithm of P(X <= value), to full precision however far out it lies.

        >>> standard = SkewNormal(0.0, 0.0, 1.0, 0, 0.0, 1.0)
        >>> standard.log_cdf([0.0, -40.0]).round(3).tolist()
        [-0.693, -804.608]
        """
        z = (np.asarray(value, np.float64) - self.location) / self.scale
        plain = stats.skewnorm.cdf(z, self.shape)
        # A value that is infinitely unlikely lies above all others.
        far = (plain < _PLAIN_CDF) & np.isfinite(z)
        out = np.zeros(z.shape)
        np.log(plain, out=out, where=~far & (plain > 0))
        out[far] = _log_cdf_far_left(z[far], self.shape)
        return np.minimum(out, 0.0)


def fit_skew_normal(values: ArrayLike) -> SkewNormal:
    """The skew-normal law that fits values best (maximum likelihood).

    Parameters
    ----------
    values : float array (n,), at least 20, finite and not all the same

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
            f"a skew-normal law needs {LEAST_CONTROLS} values or more; got {len(sample)}. "
            "Make more controls."
        )
    if not np.isfinite(sample).all() or np.ptp(sample) <= 1e-9 * np.abs(sample).max():
        raise ValueError(
            "a skew-normal law needs finite values that differ; got "
            f"{sample.min():.6g} to {sample.max():.6g}. Use interpolation."
        )
    mean, std = float(sample.mean()), float(sample.std())
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # The search steps through parameters at which the likelihood is 0.
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
    """Exposures beyond what the controls reach, bits float64 (n_canaries,), and the law behind."""

    exposure: NDArray[np.float64]
    law: SkewNormal


def exposure_by_extrapolation(
    logprob: ArrayLike, controls: ArrayLike, *, n_candidates: int | None = None
) -> Extrapolation:
    """Exposure of canaries from a skew-normal law of the controls' log-perplexities, in bits.

    It is -log2 of the law's share of secrets that are as likely as the canary's. Further out than
    the controls reach that is an assumption, not an observation: look at the law's fit.

    Parameters
    ----------
    logprob : float array (n_canaries,), nats
    controls : float array (n_controls,), nats
        At least 20, of secrets of the same space, given the canaries' prefix.
    n_candidates : int, optional
        Size of the space. No exposure is then above its log2: the law knows no end.

    Raises
    ------
    ValueError
        If a log-probability is NaN, or the law cannot be fitted.

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
    """How many of the scores are as high as each of `own`, or higher."""
    return len(scores) - np.searchsorted(np.sort(scores), np.asarray(own, np.float64), side="left")


def _checked(name: str, logprob: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(logprob, np.float64)
    if np.isnan(array).any():
        raise ValueError(
            f"{name} must hold no NaN; got {int(np.isnan(array).sum()):,}. Leave out what has no "
            "probability."
        )
    return array


def _log_density(z: NDArray[np.float64], shape: float) -> NDArray[np.float64]:
    return math.log(2) - z**2 / 2 - 0.5 * math.log(2 * math.pi) + special.log_ndtr(shape * z)


def _log_cdf_far_left(z: NDArray[np.float64], shape: float) -> NDArray[np.float64]:
    """log of the integral of the density up to z, where its logarithm rises steeply.

    The density is log-concave, so left of z it falls at least as fast as exp(slope * (t - z)):
    a few multiples of 1 / slope hold all of the integral.
    """
    mills = -((shape * z) ** 2) / 2 - 0.5 * math.log(2 * math.pi) - special.log_ndtr(shape * z)
    slope = np.maximum(-z + shape * np.exp(mills), 1.0)[:, None]
    steps = _REACH * (1 + _NODES) / 2  # (200,)
    heights = _log_density(z[:, None] - steps / slope, shape)  # (n, 200)
    return special.logsumexp(heights + np.log(_WEIGHTS * _REACH / 2 / slope), axis=1)
