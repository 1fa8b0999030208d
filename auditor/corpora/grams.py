"""A filter for long texts: where in them do known short pieces of bytes (grams) stand?

Hashes of 64 bits stand for grams. Equal grams have equal hashes, so nothing is missed; two grams
may share a hash, so whoever uses a hit compares the bytes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.corpora.blocks import PADDING, Bytes, Ints

Hashes = NDArray[np.uint64]

# Odd constants of high entropy: multiplying by them spreads a word's bits upwards.
_ODD = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0x165667B19E3779F9))
_FOLD = np.uint64(32)

# Positions hashed at once: their words stay in the processor's cache.
_CHUNK = 1 << 15

_MAX_STRIDE = 8
_MIN_TABLE_BITS, _MAX_TABLE_BITS = 10, 27


@dataclass(frozen=True)
class Gram:
    """How a text is sampled: grams of `length` bytes, looked up at multiples of `stride`."""

    length: int
    stride: int

    @property
    def span(self) -> int:
        """Bytes that are sure to hold a whole gram which begins at a multiple of the stride."""
        return self.length + self.stride - 1


def choose_gram(shortest: int) -> Gram:
    """The gram for finding every common piece of at least `shortest` bytes.

    Long grams hit seldom by chance and long strides save work; both must fit into `shortest`.

    >>> choose_gram(32), choose_gram(10), choose_gram(3)
    (Gram(length=24, stride=8), Gram(length=8, stride=3), Gram(length=3, stride=1))
    """
    for length in (24, 16, 8):
        # The longest gram that still leaves a stride of 8; from 8 bytes on, any stride.
        if shortest >= length + _MAX_STRIDE - 1 or (length == 8 and shortest >= 8):
            return Gram(length, min(_MAX_STRIDE, shortest - length + 1))
    return Gram(shortest, 1)


def words_at(raw: Bytes, begin: int, n: int, stride: int) -> NDArray[np.uint64]:
    """A view of n words of 8 bytes (little-endian) that begin at begin, begin + stride, ..."""
    return np.ndarray((n,), dtype="<u8", buffer=raw, offset=begin, strides=(stride,))


def hash_grams(raw: Bytes, begin: int, n: int, stride: int, length: int) -> Hashes:
    """Hashes of the n grams that begin at begin, begin + stride, ...; the last must end in raw.

    >>> raw = np.frombuffer(b"abcabc" + bytes(8), dtype=np.uint8)
    >>> bool(np.equal(*hash_grams(raw, 0, 2, 3, 3)))
    True
    """
    hashes = np.zeros(n, dtype=np.uint64)
    for k in range(0, length, 8):
        words = words_at(raw, begin + k, n, stride)
        if length - k < 8:
            words = words & np.uint64((1 << 8 * (length - k)) - 1)
        hashes += words
        hashes *= _ODD[k // 8 % 3]
        hashes ^= hashes >> _FOLD
    # The table takes the top bits, so the last step must move every bit up there.
    hashes *= _ODD[1]
    return hashes


class GramIndex:
    """Known grams by number, from 0: `ids[i]` is the number of the i-th hash given."""

    def __init__(self, hashes: Hashes, gram: Gram):
        self.gram = gram
        self.values, ids = np.unique(hashes, return_inverse=True)
        self.ids = ids.astype(np.int32)
        # A table of the hashes' top bits, about 1 in 8 set, answers most questions with "no".
        bits = min(max(len(self.values).bit_length() + 3, _MIN_TABLE_BITS), _MAX_TABLE_BITS)
        self._shift = np.uint64(64 - bits)
        self._table = np.zeros(1 << bits, dtype=bool)
        self._table[self.values >> self._shift] = True

    def __len__(self) -> int:
        return len(self.values)

    def find(self, raw: Bytes) -> tuple[Ints, Ints]:
        """Where known grams stand, at multiples of the stride.

        Parameters
        ----------
        raw : uint8 array (n_bytes + PADDING,)

        Returns
        -------
        int64 array, int64 array
            Positions, ascending, and the number of the gram at each.
        """
        length, stride = self.gram.length, self.gram.stride
        n_grams = max(0, (len(raw) - PADDING - length) // stride + 1)
        positions, numbers = [], []
        for first in range(0, n_grams, _CHUNK):
            n = min(_CHUNK, n_grams - first)
            hashes = hash_grams(raw, first * stride, n, stride, length)
            maybe = np.flatnonzero(self._table[hashes >> self._shift])
            hashes = hashes[maybe]
            ids = np.searchsorted(self.values, hashes)
            ids[ids == len(self.values)] = 0
            known = self.values[ids] == hashes
            positions.append((maybe[known] + first) * stride)
            numbers.append(ids[known])
        if not positions:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        return np.concatenate(positions), np.concatenate(numbers)
