"""The inner loop of the search: text -> hits of known grams, compiled by numba where it is there.

Nothing here is needed for a result: `grams` does the same in numpy, only slower.
"""

from collections.abc import Callable
from functools import cache

import numpy as np

from auditor.compiling import compiled

# Grams hashed before the first is looked up: the filter's words then arrive while others are
# tested, and the hashes stay in the processor's first cache.
_AT_ONCE = 1024


@cache
def compiled_scan() -> Callable | None:
    """`_scan` as machine code that runs without the interpreter's lock; None without numba."""
    return compiled(_scan)


@cache
def compiled_extend() -> Callable | None:
    """`_extend` likewise."""
    return compiled(_extend)


@cache
def compiled_sort() -> Callable | None:
    """`_sort` likewise."""
    return compiled(_sort)


@cache
def compiled_filter() -> Callable | None:
    """`_enter` likewise."""
    return compiled(_enter)


def _scan(
    words, n_grams, stride, length, odd, bits, filter_shift, values, begins, begin_shift, out
):
    """Write (position, number) of each known gram to `out`; return how many there are.

    `words[p]` are the 8 bytes from p on. `bits` is the filter, `begins` says where in `values`
    the hashes with given top bits begin; both as in `grams.GramIndex`.
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


def _extend(needles, corpus, mine, theirs, reach):
    """Extend pairs of equal places, in order of their diagonals, both ways; note it in `reach`."""
    diagonal, covered = 0, -1
    for k in range(mine.size):
        a, b = mine[k], theirs[k]
        if a - b == diagonal and b < covered:
            continue
        diagonal = a - b
        begin, end = b, b
        while (
            begin > 0
            and begin + diagonal > 0
            and needles[begin + diagonal - 1] == corpus[begin - 1]
        ):
            begin -= 1
        while (
            end < corpus.size
            and end + diagonal < needles.size
            and needles[end + diagonal] == corpus[end]
        ):
            end += 1
        covered = max(end, b + 1)
        for i in range(begin, end):
            reach[i + diagonal] = max(reach[i + diagonal], end - i)


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


def _enter(values, shift, bits):
    """Set the two bits of each hash in the filter."""
    one, six, low = np.uint64(1), np.uint64(6), np.uint64(63)
    for h in values:
        bits[h >> shift] |= one << (h & low) | one << ((h >> six) & low)
