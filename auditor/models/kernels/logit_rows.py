"""Row reductions of logits on a CPU, as compiled loops that stay in the L1 cache.

They need one pass; the same reductions in torch read and write each row seven times.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch

from auditor.system.jit import compiled, in_parts

_BLOCK = 2048  # logits summed in float32; block sums are added in float64
_TOKENS = 64  # tokens per block whose maximum is found first
_ALONE = 400_000  # logits per thread
_HALF = np.uint32(16)  # float32 bits that bfloat16 drops
_ONE, _NONE = np.float32(1), np.float32(0)
_LOG2_E = np.float32(1 / math.log(2))
_LEAST = np.float32(-88)  # exp(-88) is 2^-127, which is flushed to 0
_ONES, _PLACES = np.int32(127), np.int32(23)  # float32: exponent bias; bits of the fraction
# Series of exp(x ln 2) for |x| <= 1/2, within 3e-7. Rounding of the power adds 5e-8 per nat.
_C1, _C2, _C3, _C4, _C5, _C6 = (
    np.float32(math.log(2) ** k / math.factorial(k)) for k in range(1, 7)
)


def row_sums(
    logits: torch.Tensor,
    targets: torch.Tensor,
    exact: torch.Tensor,
    top: torch.Tensor,
    *,
    moments: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None] | None:
    """Row sums of exp(logit - top) excluding the target, ranks, and weighted moments.

    `logits` (n, vocab); `targets` int64 (n,); `exact` float32 (n,) are the targets' logits; `top`
    float32 (n,) is at least the largest of `logits` and `exact`. An IndexError reports a target
    that is not a column of `logits`.

    Returns (rest, rank, mean, square), tensors (n,): `rest` excludes the target; `rank` is the
    number of logits above `exact`; `mean` and `square` are the sums of exp(l - top) (l - top) and
    of exp(l - top) (l - top)^2 with `exact` as the target's logit, None without `moments`. Returns
    None for a device or dtype that the loops do not support.
    """
    if not _is_for_loops(logits):
        return None
    n, n_vocab = logits.shape
    chosen, own, tops = (x.contiguous().numpy() for x in (targets, exact, top))
    if n and not 0 <= chosen.min() <= chosen.max() < n_vocab:
        raise IndexError(f"targets must be between 0 and {n_vocab - 1:,}; got others")
    is_wide = logits.dtype == torch.float32
    values = logits.contiguous().numpy() if is_wide else None
    bits = None if is_wide else _bits(logits).view(np.uint16)
    rest, rank = np.empty(n, np.float32), np.empty(n, np.int32)
    mean, square = (np.empty(n, np.float32) if moments else None for _ in range(2))
    arrays = values, bits, n_vocab, chosen, own, tops, rest, rank, mean, square
    in_parts(_sums, n, _threads(logits), *arrays)
    both = None if mean is None else torch.from_numpy(mean)
    squares = None if square is None else torch.from_numpy(square)
    return torch.from_numpy(rest), torch.from_numpy(rank), both, squares


def top_ids(logits: torch.Tensor, k: int) -> torch.Tensor:
    """Ids of the k largest logits of each row (n, vocab), in ascending order of id: (n, k).

    The compiled loops break ties by the lowest id, and sort NaN below or above all numbers by its
    sign.
    """
    if not 1 <= k <= logits.shape[1]:
        raise ValueError(f"k must be between 1 and {logits.shape[1]:,}; got {k:,}")
    if not _is_for_loops(logits):
        return logits.topk(k, dim=1).indices.sort(dim=1).values
    bits = _bits(logits)
    ids = np.empty((len(logits), k), np.int64)
    digits = bits.dtype.type(np.iinfo(bits.dtype).max)
    in_parts(_top, len(logits), _threads(logits), bits, digits, ids)
    return torch.from_numpy(ids)


def _is_for_loops(logits: torch.Tensor) -> bool:
    is_known = logits.dtype in (torch.float32, torch.bfloat16)
    return is_known and logits.device.type == "cpu" and not logits.requires_grad


def _bits(logits: torch.Tensor) -> np.ndarray:
    """The logits reinterpreted as integers of the same width."""
    kind = torch.int32 if logits.dtype == torch.float32 else torch.int16
    return logits.contiguous().view(kind).numpy()


def _threads(logits: torch.Tensor) -> int:
    return min(torch.get_num_threads(), 1 + logits.numel() // _ALONE)


# Sums may be reordered, so that they vectorise; NaN is preserved.
@partial(compiled, fastmath={"reassoc", "contract", "nsz"}, error_model="numpy")
def _sums(values, bits, n_vocab, targets, exact, tops, rest, rank, mean, square, begin, end):
    """`row_sums` of rows begin to end: float32 `values` or bfloat16 `bits`; the other is None."""
    block = np.empty(_BLOCK, np.float32)
    for i in range(begin, end):
        target, own, top = targets[i], exact[i], tops[i]
        total = total_mean = total_square = np.float64(0)
        n_above = 0
        for first, last in ((0, target), (target + 1, n_vocab)):
            for at in range(first, last, _BLOCK):
                n = min(_BLOCK, last - at)
                # Branches on None are resolved at compile time.
                if values is not None:
                    block[:n] = values[i, at : at + n]
                if bits is not None:
                    some = bits[i, at : at + n]
                    for j in range(n):
                        wide = np.uint32(np.uint32(some[j]) << _HALF)
                        block[j] = wide.view(np.float32)
                above, part, part_mean, part_square = _NONE, _NONE, _NONE, _NONE
                for j in range(n):
                    above += _ONE if block[j] > own else _NONE
                    far = max(block[j] - top, _LEAST)
                    power = far * _LOG2_E
                    whole = np.rint(power)
                    x = power - whole
                    tail = _C3 + x * (_C4 + x * (_C5 + x * _C6))
                    weight = _ONE + x * (_C1 + x * (_C2 + x * tail))
                    scale = np.int32((np.int32(whole) + _ONES) << _PLACES)
                    weight *= scale.view(np.float32)
                    part += weight
                    if mean is not None:
                        part_mean += weight * far
                        part_square += weight * far * far
                total += part
                n_above += int(above)
                if mean is not None:
                    total_mean += part_mean
                    total_square += part_square
        rest[i], rank[i] = total, n_above
        if mean is not None:
            far = own - top
            mean[i] = total_mean + math.exp(far) * far
            square[i] = total_square + math.exp(far) * far * far


@partial(compiled, error_model="numpy")
def _top(bits, digits, ids, begin, end):
    """`top_ids` of rows begin to end, for floats given by their bits.

    Bits of non-negative floats sort like the floats; bits of negative floats are a sign bit and the
    `digits` of the absolute value. The k largest lie in the blocks with the k largest maxima.
    """
    n_vocab, k = bits.shape[1], ids.shape[1]
    n_blocks = (n_vocab + _TOKENS - 1) // _TOKENS
    keys, peaks = np.empty(_TOKENS, bits.dtype), np.empty(n_blocks, bits.dtype)
    found, places = np.empty(n_vocab, bits.dtype), np.empty(n_vocab, np.int64)

    def kth_largest(keys, k, low, high):
        while low < high:  # bisect for the largest bound that at least k keys reach
            middle = (low + high + 1) >> 1
            n_above = 0
            for j in range(len(keys)):
                n_above += keys[j] >= middle
            low, high = (middle, high) if n_above >= k else (low, middle - 1)
        return low

    for i in range(begin, end):
        for b in range(n_blocks):
            some = bits[i, b * _TOKENS : min(n_vocab, b * _TOKENS + _TOKENS)]
            for j in range(len(some)):
                keys[j] = some[j] if some[j] >= 0 else -(some[j] & digits)
            peak = keys[0]  # keeps the narrow integer type, so that the loop vectorises
            for j in range(len(some)):
                peak = keys[j] if keys[j] > peak else peak
            peaks[b] = peak
        bound = kth_largest(peaks, k, -digits, digits)
        n = 0
        for b in range(n_blocks):
            if peaks[b] < bound:
                continue
            for at in range(b * _TOKENS, min(n_vocab, b * _TOKENS + _TOKENS)):
                key = bits[i, at] if bits[i, at] >= 0 else -(bits[i, at] & digits)
                if key >= bound:
                    found[n], places[n], n = key, at, n + 1
        least = kth_largest(found[:n], k, bound, digits)
        # Ties at the bound fill the remaining places.
        room = k - np.sum(found[:n] > least)
        n_taken = 0
        for j in range(n):
            is_tie = found[j] == least
            if found[j] > least or (is_tie and room > 0):
                room -= is_tie
                ids[i, n_taken] = places[j]
                n_taken += 1
