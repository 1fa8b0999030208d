"""A filter for long texts: where in them do known short pieces of bytes (grams) stand?

Hashes of 64 bits stand for grams. Equal grams have equal hashes, so nothing is missed; two grams
may share a hash, so whoever uses a hit compares the bytes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.matching.byte_blocks import PADDING, Bytes, Ints, place_in
from auditor.system.jit import compiled

Hashes = NDArray[np.uint64]

# Odd constants of high entropy: multiplying by them spreads a word's bits upwards.
_ODD = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)
_FOLD = np.uint64(32)

# Positions hashed at once by numpy: their words stay in the processor's cache.
_CHUNK = 1 << 15

_MIN_WORDS_BITS = 4

# More than this saves nothing: then a text is no more than read.
_MOST_EVERY = 8
# Surroundings of hits in a text that are looked at one by one; where there are more, all of it is.
_FEW = 64


@dataclass(frozen=True)
class Gram:
    """How a text is sampled: grams of `length` bytes, looked up at multiples of `stride`."""

    length: int
    stride: int

    @property
    def span(self) -> int:
        """Bytes that are sure to hold a whole gram which begins at a multiple of the stride."""
        return self.length + self.stride - 1


# A longer stride would save more, but a few chance hits would then look like a match.
_USUAL = (Gram(24, 16), Gram(24, 8), Gram(16, 8), Gram(8, 8))


def choose_gram(shortest: int) -> Gram:
    """The gram for finding every common piece of at least `shortest` bytes.

    Long grams hit seldom by chance and long strides save work; both must fit into `shortest`.

    >>> choose_gram(100), choose_gram(10), choose_gram(3)
    (Gram(length=24, stride=16), Gram(length=8, stride=3), Gram(length=3, stride=1))
    """
    for gram in _USUAL:
        if shortest >= gram.span:
            return gram
    return Gram(8, shortest - 7) if shortest >= 8 else Gram(shortest, 1)


def choose_every(gram: Gram, shortest: int) -> int:
    """Of how many multiples of the stride one has to be looked at first, to miss no such piece.

    >>> choose_every(Gram(24, 16), 100), choose_every(Gram(24, 16), 39)
    (4, 1)
    """
    return max(1, min((shortest - gram.length + 1) // gram.stride, _MOST_EVERY))


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
    for first in range(0, n, _CHUNK):
        some = hashes[first : first + _CHUNK]
        for k in range(0, length, 8):
            words = words_at(raw, begin + first * stride + k, len(some), stride)
            if length - k < 8:
                words = words & np.uint64((1 << 8 * (length - k)) - 1)
            some += words
            some *= _ODD[k // 8 % 3]
            some ^= some >> _FOLD
        # The tables take the top bits, so the last step must move every bit up there.
        some *= _ODD[1]
    return hashes


class GramIndex:
    """Known grams by number: `values` are their hashes, ascending, and a gram's number its place.

    A filter answers most questions with "no": one word of 64 bits for four to eight grams,
    found by a hash's top bits, in which its low bits choose two that must be set. Then `begins`
    tells where in `values` the hashes with the same top bits begin. About 11 bytes a gram.
    """

    def __init__(self, hashes: Hashes):
        n_bits = max(len(hashes).bit_length() - 2, _MIN_WORDS_BITS)
        self._begin_shift = np.uint64(64 - n_bits)
        self._begins = np.zeros((1 << n_bits) + 1, dtype=np.uint32)
        out = np.empty_like(hashes)
        self.values = out[: _sort(hashes, self._begin_shift, self._begins, out)]
        n_bits = max(len(self.values).bit_length() - 3, _MIN_WORDS_BITS)
        self._filter_shift = np.uint64(64 - n_bits)
        self._filter = np.zeros(1 << n_bits, dtype=np.uint64)
        _enter(self.values, self._filter_shift, self._filter)

    def __len__(self) -> int:
        return len(self.values)

    def find(self, raw: Bytes, gram: Gram, *, every: int = 1) -> tuple[Ints, Ints]:
        """Where known grams stand, at multiples of the stride.

        Parameters
        ----------
        raw : uint8 array (n_bytes + PADDING,)
        gram : Gram
            Its length is that of the known grams.
        every : int
            With 2 or more, only hits where a known text of `length + every * stride - 1` bytes or
            more stands are sure to be told: of every so many places one is looked at first, and
            the others only around a hit.

        Returns
        -------
        int64 array, int64 array
            Positions, ascending, and the number of the gram at each.
        """
        n_grams = max(0, (len(raw) - PADDING - gram.length) // gram.stride + 1)
        if every == 1:
            return self._find(raw, 0, n_grams, gram)
        step = Gram(gram.length, every * gram.stride)
        sparse, numbers = self._find(raw, 0, -(-n_grams // every), step)
        if not len(sparse):
            return sparse, numbers
        begins, ends = _surroundings(sparse // gram.stride, every)
        if len(begins) > _FEW:
            return self._find(raw, 0, n_grams, gram)
        begins, ends = np.maximum(begins, 0), np.minimum(ends, n_grams)
        found = [
            self._find(raw, begin * gram.stride, end - begin, gram)
            for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)
        ]
        return np.concatenate([at for at, _ in found]), np.concatenate([ids for _, ids in found])

    def _find(self, raw: Bytes, begin: int, n_grams: int, gram: Gram) -> tuple[Ints, Ints]:
        """Of n_grams grams that begin at `begin` and every stride on, the known ones."""
        if not n_grams or not len(self):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        # Pages of `out` that no hit is written to are never made.
        out = np.empty((2, n_grams), dtype=np.int64)
        words = words_at(raw, begin, len(raw) - 7 - begin, 1)
        table = (self._filter, self._filter_shift, self.values, self._begins, self._begin_shift)
        n_found = _scan(words, n_grams, gram.stride, gram.length, _ODD, *table, out)
        return out[0, :n_found] + begin, out[1, :n_found].copy()

    def numbers(self, hashes: Hashes) -> Ints:
        """The number of each hash; -1 where it is not known."""
        return place_in(self.values, hashes)


def _surroundings(hits: Ints, every: int) -> tuple[Ints, Ints]:
    """Places [begin, end) up to the next that was looked at on either side; joined if they touch.

    >>> [part.tolist() for part in _surroundings(np.array([8, 12, 40]), 4)]
    [[5, 37], [16, 44]]
    """
    begins, ends = hits - every + 1, hits + every
    first = np.flatnonzero(np.append(True, begins[1:] > ends[:-1]))
    return begins[first], ends[np.append(first[1:], len(hits)) - 1]


# Grams hashed before the first is looked up: the filter's words then arrive while others are
# tested, and the hashes stay in the processor's first cache.
_AT_ONCE = 1024


@compiled
def _scan(
    words, n_grams, stride, length, odd, bits, filter_shift, values, begins, begin_shift, out
):
    """Write (position, number) of each known gram to `out`; return how many there are.

    `words[p]` are the 8 bytes from p on. `bits` is the filter, `begins` says where in `values`
    the hashes with given top bits begin; both as in `GramIndex`.
    """
    hashes = np.empty(_AT_ONCE, np.uint64)
    maybe = np.empty(_AT_ONCE, np.int64)
    fold, one, six, low = np.uint64(32), np.uint64(1), np.uint64(6), np.uint64(63)
    whole = np.uint64(0xFFFFFFFFFFFFFFFF)
    mask = whole >> np.uint64(-8 * length % 64)
    n_found = 0
    for first in range(0, n_grams, _AT_ONCE):
        n = min(_AT_ONCE, n_grams - first)
        hashes[:n] = 0
        for k in range((length + 7) // 8):
            # All grams take the same step: so the processor works in wide registers.
            factor, used = odd[k % 3], mask if 8 * k + 8 > length else whole
            begin = first * stride + 8 * k
            for i in range(n):
                h = (hashes[i] + (words[begin + i * stride] & used)) * factor
                hashes[i] = h ^ (h >> fold)
        n_maybe = np.int64(0)
        for i in range(n):
            h = hashes[i] = hashes[i] * odd[1]
            word = bits[h >> filter_shift]
            maybe[n_maybe] = i
            n_maybe += np.int64((word >> (h & low)) & (word >> ((h >> six) & low)) & one)
        for k in range(n_maybe):
            h = hashes[maybe[k]]
            at = begins[h >> begin_shift]
            while at < values.size and values[at] < h:
                at += 1
            if at < values.size and values[at] == h:
                out[0, n_found] = (first + maybe[k]) * stride
                out[1, n_found] = at
                n_found += 1
    return n_found


@compiled
def _sort(hashes, shift, begins, out):
    """Write the different hashes to `out`, ascending, and return how many there are.

    `begins`, zeros at first, will say where in `out` the hashes with given top bits begin. Hashes
    are evenly spread: put in place by their top bits, they have few neighbours to be told from.
    """
    one = np.uint64(1)
    for h in hashes:
        begins[(h >> shift) + one] += np.uint32(1)
    n = np.uint32(0)
    for top in range(begins.size):
        n += begins[top]
        begins[top] = n
    free = begins.copy()
    for h in hashes:
        out[free[h >> shift]] = h
        free[h >> shift] += np.uint32(1)
    n_kept = 0
    for top in range(begins.size - 1):
        first = n_kept
        for k in range(begins[top], begins[top + 1]):
            h, at = out[k], n_kept
            while at > first and out[at - 1] > h:
                at -= 1
            if at > first and out[at - 1] == h:
                continue
            for moved in range(n_kept, at, -1):
                out[moved] = out[moved - 1]
            out[at] = h
            n_kept += 1
        begins[top] = first
    begins[begins.size - 1] = n_kept
    return n_kept


@compiled
def _enter(values, shift, bits):
    """Set the two bits of each hash in the filter."""
    one, six, low = np.uint64(1), np.uint64(6), np.uint64(63)
    for h in values:
        bits[h >> shift] |= one << (h & low) | one << ((h >> six) & low)
