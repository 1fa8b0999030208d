"""Find known n-grams of bytes (grams) in long texts.

Grams are compared by 64-bit hashes. No occurrence is missed, but two grams may share a hash, so
callers must compare the bytes of a hit.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.matching.byte_blocks import PADDING, Bytes, Ints, place_in
from auditor.system.jit import compiled

Hashes = NDArray[np.uint64]

# Odd constants of high entropy: multiplication spreads a word's bits upwards.
_ODD = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)
_FOLD = np.uint64(32)

# Positions that numpy hashes at a time: their words fit into the processor's cache.
_CHUNK = 1 << 15

_MIN_WORDS_BITS = 4

# Larger steps save nothing: reading the text dominates.
_MOST_EVERY = 8
# If hits have more surroundings than this, the whole text is scanned instead.
_FEW = 64


@dataclass(frozen=True)
class Gram:
    """A sampling of a text: grams of `length` bytes, looked up at multiples of `stride`."""

    length: int
    stride: int

    @property
    def span(self) -> int:
        """Length, in bytes, of text that always contains a gram at a multiple of the stride."""
        return self.length + self.stride - 1


# With a longer stride, a few chance hits would look like a match.
_USUAL = (Gram(24, 16), Gram(24, 8), Gram(16, 8), Gram(8, 8))


def choose_gram(shortest: int) -> Gram:
    """The gram that finds every match of at least `shortest` bytes.

    Longer grams have fewer chance hits, and longer strides save work.

    >>> choose_gram(100), choose_gram(10), choose_gram(3)
    (Gram(length=24, stride=16), Gram(length=8, stride=3), Gram(length=3, stride=1))
    """
    for gram in _USUAL:
        if shortest >= gram.span:
            return gram
    return Gram(8, shortest - 7) if shortest >= 8 else Gram(shortest, 1)


def choose_stride(gram: Gram, shortest: int) -> int:
    """The largest step, in strides, at which grams can be sampled without missing a match.

    >>> choose_stride(Gram(24, 16), 100), choose_stride(Gram(24, 16), 39)
    (4, 1)
    """
    return max(1, min((shortest - gram.length + 1) // gram.stride, _MOST_EVERY))


def words_at(raw: Bytes, begin: int, n: int, stride: int) -> NDArray[np.uint64]:
    """A view of n words of 8 bytes (little-endian) at begin, begin + stride, ..."""
    return np.ndarray((n,), dtype="<u8", buffer=raw, offset=begin, strides=(stride,))


def hash_grams(raw: Bytes, begin: int, n: int, stride: int, length: int) -> Hashes:
    """Hashes of the n grams at begin, begin + stride, ...; the last must end within raw.

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
        # The tables use the top bits, so every bit must affect them.
        some *= _ODD[1]
    return hashes


class GramIndex:
    """A set of grams: `values` are their hashes, ascending; a gram's number is its index there.

    A Bloom filter rejects most lookups. It has one 64-bit word for four to eight grams, selected
    by a hash's top bits; the low bits select two bits that must be set. `_begins` is the index in
    `values` of the first hash with given top bits. Takes about 11 bytes per gram.
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
        """Find known grams at multiples of the stride.

        Returns their positions, ascending, and the number of the gram at each. `raw` is padded, and
        the gram's length is that of the known grams. First only one of every `every` positions is
        looked up, and the others around a hit. Then only hits within a match of at least
        `length + every * stride - 1` bytes are certain to be found.
        """
        n_grams = max(0, (len(raw) - PADDING - gram.length) // gram.stride + 1)
        if every == 1:
            return self._find(raw, 0, n_grams, gram)
        step = Gram(gram.length, every * gram.stride)
        sparse, numbers = self._find(raw, 0, -(-n_grams // every), step)
        if not len(sparse):
            return sparse, numbers
        begins, ends = joined(sparse // gram.stride - every + 1, sparse // gram.stride + every)
        if len(begins) > _FEW:
            return self._find(raw, 0, n_grams, gram)
        begins, ends = np.maximum(begins, 0), np.minimum(ends, n_grams)
        found = [
            self._find(raw, begin * gram.stride, end - begin, gram)
            for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)
        ]
        return np.concatenate([at for at, _ in found]), np.concatenate([ids for _, ids in found])

    def _find(self, raw: Bytes, begin: int, n_grams: int, gram: Gram) -> tuple[Ints, Ints]:
        """Known grams among the n_grams at begin, begin + stride, ..."""
        if not n_grams or not len(self):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        # The system allocates only those pages of `out` that are written.
        out = np.empty((2, n_grams), dtype=np.int64)
        words = words_at(raw, begin, len(raw) - 7 - begin, 1)
        table = (self._filter, self._filter_shift, self.values, self._begins, self._begin_shift)
        n_found = _scan(words, n_grams, gram.stride, gram.length, _ODD, *table, out)
        return out[0, :n_found] + begin, out[1, :n_found].copy()

    def numbers(self, hashes: Hashes) -> Ints:
        """The number of each hash; -1 if unknown."""
        return place_in(self.values, hashes)


def joined(begins: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """Intervals [begin, end), both ascending, joined if they touch.

    >>> [part.tolist() for part in joined(np.array([5, 9, 37]), np.array([12, 16, 44]))]
    [[5, 37], [16, 44]]
    """
    first = np.flatnonzero(np.append(True, begins[1:] > ends[:-1]))
    return begins[first], ends[np.append(first[1:], len(begins)) - 1]


# Grams hashed before the first lookup: memory accesses to the filter then overlap, and the hashes
# fit into the L1 cache.
_AT_ONCE = 1024


@compiled
def _scan(
    words, n_grams, stride, length, odd, bits, filter_shift, values, begins, begin_shift, out
):
    """Write (position, number) of each known gram to `out`; return their count.

    `words[p]` are the 8 bytes from p on; `bits` is the filter, and `begins` is as in `GramIndex`.
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
            # The inner loop runs over grams, so that it vectorizes.
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
    """Write the distinct hashes to `out`, ascending, and return their count.

    `begins` must be zeros; it becomes the index in `out` of the first hash with given top bits.
    Hashes are uniform, so after a bucket sort by top bits, insertion sort is fast.
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
