"""Uniform random numbers that depend only on (seed, stream, sample, step).

The generator is counter-based (Philox 4x32-10; Salmon et al. 2011, "Parallel Random Numbers: As
Easy as 1, 2, 3") and stateless: a sample gets the same numbers in any batch, shard, worker or
restart.
"""

from __future__ import annotations

import hashlib

import numpy as np

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Ten rounds of Philox 4x32.

    Parameters
    ----------
    counter : uint32 array (..., 4)
    key : two 32-bit integers

    Returns
    -------
    uint32 array (..., 4)

    >>> [hex(x) for x in philox(np.zeros((1, 4), np.uint32), (0, 0))[0].tolist()]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    x0, x1, x2, x3 = (counter[..., i].astype(np.uint64) for i in range(4))
    k0, k1 = key
    for _ in range(10):
        p0, p1 = _M0 * x0, _M1 * x2
        x0, x1, x2, x3 = (
            (p1 >> _32) ^ x1 ^ np.uint64(k0),
            p1 & _LOW,
            (p0 >> _32) ^ x3 ^ np.uint64(k1),
            p0 & _LOW,
        )
        k0, k1 = (k0 + _W0) & 0xFFFFFFFF, (k1 + _W1) & 0xFFFFFFFF
    return np.stack([x0, x1, x2, x3], axis=-1).astype(np.uint32)


def stream_of(name: str) -> int:
    """A 32-bit number for a strategy's name, so that strategies draw independently."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")


def uniforms(seed: int, stream: str, samples: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Uniform numbers in [0, 1), one for each sample and step.

    Parameters
    ----------
    seed : int, at most 64 bits
    stream : str
        Purpose of the numbers, such as a strategy's name.
    samples : int array (n,)
    steps : int array (m,)

    Returns
    -------
    float64 array (n, m), 53 random bits each.

    >>> a = uniforms(0, "top-n", np.array([7, 8]), np.arange(3))
    >>> bool((a[1] == uniforms(0, "top-n", np.array([8]), np.arange(3))[0]).all())
    True
    """
    n, m = len(samples), len(steps)
    counter = np.empty((n, m, 4), dtype=np.uint32)
    counter[..., 0] = np.asarray(steps, dtype=np.uint32)
    counter[..., 1] = (np.asarray(samples, dtype=np.uint64) & _LOW).astype(np.uint32)[:, None]
    counter[..., 2] = (np.asarray(samples, dtype=np.uint64) >> _32).astype(np.uint32)[:, None]
    counter[..., 3] = stream_of(stream)
    words = philox(counter, (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF)).astype(np.uint64)
    bits = (words[..., 0] << np.uint64(21)) | (words[..., 1] >> np.uint64(11))
    return bits.astype(np.float64) * 2.0**-53
