"""Find the longest match in the corpus at each position of the queries.

A match contains a gram at every multiple of the stride that it covers, so it lies inside a run of
consecutive hits. Only such runs, few in most corpora, are kept and compared with the matching
parts of the queries, by suffix sorting, whose cost does not depend on repetition in the text.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from auditor.matching.byte_blocks import (
    CORPUS_SEPARATOR,
    PADDING,
    QUERY_SEPARATOR,
    Block,
    Bytes,
    Ints,
    is_char_start,
    n_chars,
    pad,
    ranges,
)
from auditor.matching.ngram_filter import (
    Gram,
    GramIndex,
    Hashes,
    choose_gram,
    choose_stride,
    hash_grams,
    joined,
)
from auditor.matching.spool import Spool
from auditor.matching.suffix_sort import longest_matches
from auditor.system.jit import compiled

# Bytes of each text per suffix sort: about 60 bytes of memory each.
_BATCH_BYTES = 2 << 20
# Longer regions are cut, with overlap, so that repeated pieces are recognized.
_PIECE_BYTES = 1 << 16
_MAX_SEEN = 1 << 19
# Texts whose shortest spans differ by less share a bound.
_TIER_BYTES = 16

Hits = tuple[Ints, Ints]


class Overlaps:
    """Queries with the same gram, and the longest match so far at each position.

    Pass the hits of `scan` in each block, in order, to `take`; then call `spans`. All matches at
    least as long as their text's shortest span are found; shorter ones may be missed.

    Attributes
    ----------
    raw : uint8 array
        The texts in the order of `texts`, a separator after each, and padding.
    texts : list of bytes
        By shortest span, then as given.
    spool : Spool
        All text of the corpus that may contain a match; the caller closes it.
    counts : uint32 array (n_grams,)
        Occurrences of each gram in that text, at multiples of the stride.
    """

    def __init__(self, texts: Sequence[bytes], shortest: Sequence[int], spool: Spool):
        order = sorted(range(len(texts)), key=lambda i: shortest[i])
        self.texts = [texts[i] for i in order]
        least = [shortest[i] for i in order]
        self.raw = pad(QUERY_SEPARATOR.join([*self.texts, b""]))
        self.longest = max(map(len, texts))
        self.gram: Gram = choose_gram(least[0])
        self.shortest = least[0]
        self.spool = spool
        self.index = GramIndex(self.hashes(0, len(self.raw) - PADDING))
        self._least = self._least_by_gram(least)
        self.counts = np.zeros(len(self.index), dtype=np.uint32)
        self._hit = np.zeros(len(self.index), dtype=bool)
        self._reach = np.zeros(len(self.raw), dtype=np.int32)
        self._pieces: list[bytes] = []
        self._n_bytes = 0
        self._seen: set[bytes] = set()

    def hashes(self, begin: int, end: int) -> Hashes:
        """Hashes of the grams that begin in raw[begin:end] and end within raw."""
        n = min(end, len(self.raw) - max(self.gram.length, 8) + 1) - begin
        return hash_grams(self.raw, begin, max(0, n), 1, self.gram.length)

    def scan(self, block: Block) -> Hits:
        """Find grams of queries in a block. Thread-safe: changes no state."""
        every = choose_stride(self.gram, self.shortest)
        return self.index.find(block.raw, self.gram, every=every)

    def take(self, block: Block, hits: Hits) -> None:
        """Add the hits of a block; documents must be cut with an overlap of `longest` bytes."""
        positions, ids = hits
        if not len(positions):
            return
        begins, ends, first = self._around(positions)
        # A run with a match is at least as long as the lowest bound of its grams' texts.
        keep = ends - begins >= np.minimum.reduceat(self._least[ids], first)
        kept = ids[np.repeat(keep, np.diff(np.append(first, len(ids))))]
        np.add.at(self.counts, kept, 1)
        self._hit[kept] = True
        begins, ends = np.maximum(begins[keep], 0), np.minimum(ends[keep], block.n_bytes)
        regions = list(zip(begins.tolist(), ends.tolist(), strict=True))
        for begin, end in regions:
            self._keep(block.raw[begin:end])
        if regions:
            self._spool_regions(block, regions)
        if self._n_bytes > _BATCH_BYTES:
            self._flush()

    def spans(self) -> tuple[Ints, Ints]:
        """Maximal matches as (begins, ends): ascending positions of characters in `raw`.

        Spans inside another span of the same query are omitted.
        """
        self._flush()
        begins = np.flatnonzero(self._reach >= self.shortest)
        begins = begins[is_char_start(self.raw[begins])]
        ends = begins + self._reach[begins]
        for _ in range(3):
            # A match may end inside a character: go back to its first byte.
            ends -= ~is_char_start(self.raw[ends])
        furthest = np.maximum.accumulate(ends)
        is_maximal = ends > np.append(-1, furthest[:-1])
        # Spans of earlier queries end before this one begins, so one running maximum suffices.
        return begins[is_maximal], ends[is_maximal]

    def _least_by_gram(self, least: list[int]) -> NDArray[np.int32]:
        """For each gram, a lower bound of the shortest spans of the texts that contain it."""
        tiers = np.array(least) // _TIER_BYTES
        firsts = np.flatnonzero(np.diff(tiers, prepend=-1)).tolist()
        by_gram = np.full(len(self.index), least[firsts[-1]], dtype=np.int32)
        sizes = np.cumsum([0] + [len(text) + 1 for text in self.texts])
        for first, end in reversed(list(pairwise(firsts))):
            hashes = np.sort(self.hashes(int(sizes[first]), int(sizes[end])))
            by_gram[self.index.numbers(hashes)] = least[first]
        return by_gram

    def _around(self, hits: Ints) -> tuple[Ints, Ints, Ints]:
        """The bytes that a match may cover, for each run of hits: begins, ends, first hits."""
        is_first = np.diff(hits, prepend=hits[0]) > self.gram.stride
        is_first[0] = True
        first = np.flatnonzero(is_first)
        last = np.append(first[1:], len(hits)) - 1
        margin = self.gram.stride - 1
        return hits[first] - margin, hits[last] + self.gram.length + margin, first

    def _spool_regions(self, block: Block, regions: list[tuple[int, int]]) -> None:
        """Spool regions, piece by piece, with the matches that the block owns in them."""
        starts = block.starts.tolist()
        afters = [*(start - 1 for start in starts[1:]), block.n_bytes - 1]
        owned_ends, ordinals = block.owned_ends.tolist(), block.ordinals.tolist()
        # Count characters from region to region, so that each is counted once.
        counted, at, chars = -1, 0, 0
        for begin, end in regions:
            first = max(bisect_right(starts, begin) - 1, 0)
            for i in range(first, bisect_right(starts, end - 1)):
                here, stop = max(begin, starts[i]), min(end, afters[i])
                n_owned = min(owned_ends[i], stop) - here
                if n_owned <= 0 or stop - here < self.shortest:
                    continue
                if i != counted:
                    counted, at, chars = i, starts[i], int(block.chars_before[i])
                chars += n_chars(block.raw[at:here].tobytes())
                at = here
                drops = block.drops[i]
                if len(drops.places):
                    drops = drops.between(chars, chars + stop - here)
                piece = block.raw[here:stop].tobytes()
                self.spool.add(piece, n_owned, ordinals[i], chars, block.doc_ids[i], drops)

    def _keep(self, region: Bytes) -> None:
        """Keep a region for the next flush, unless the same bytes were kept before."""
        size = max(_PIECE_BYTES, 2 * self.longest)
        begin = 0
        while True:
            piece = region[begin : begin + size].tobytes()
            digest = hashlib.blake2b(piece, digest_size=16).digest()
            if digest not in self._seen:
                if len(self._seen) >= _MAX_SEEN:
                    self._seen.clear()
                self._seen.add(digest)
                self._pieces.append(piece)
                self._n_bytes += len(piece) + 1
            if begin + size >= len(region):
                return
            begin += size - self.longest

    def _flush(self) -> None:
        """Compare the kept regions with the parts of queries that share grams with them."""
        if not self._pieces:
            return
        hits = GramIndex(self.index.values[self._hit])
        places = hits.find(self.raw, Gram(self.gram.length, 1))
        parts = self._parts_around(places[0])
        for pieces in _batches(self._pieces, [len(piece) + 1 for piece in self._pieces]):
            rest = extend_matches(self.raw, places, hits, self.gram.length, pieces, self._reach)
            if rest:
                corpus = CORPUS_SEPARATOR.join(rest)
                for group in _batches(parts, [end - begin for begin, end in parts]):
                    self._compare(group, corpus)
        self._pieces, self._n_bytes = [], 0
        self._hit[:] = False

    def _parts_around(self, hits: Ints) -> list[tuple[int, int]]:
        """The parts of `raw` around hits: disjoint, ascending."""
        n, margin = len(self.raw) - PADDING, self.gram.stride - 1
        ends = np.minimum(hits + self.gram.length + margin, n)
        begins, ends = joined(np.maximum(hits - margin, 0), ends)
        return list(zip(begins.tolist(), ends.tolist(), strict=True))

    def _compare(self, parts: list[tuple[int, int]], corpus: bytes) -> None:
        """Raise `_reach` to the longest matches of these parts in `corpus`."""
        places = np.concatenate([np.arange(begin, end + 1) for begin, end in parts])
        queries = self.raw[places]
        # Each part was extended by one byte for the separator.
        separators = np.cumsum([end - begin + 1 for begin, end in parts]) - 1
        queries[separators] = QUERY_SEPARATOR[0]
        found = longest_matches(queries, corpus, self.longest)
        found[separators] = 0
        self._reach[places] = np.maximum(self._reach[places], found)


def _batches(items: list, sizes: list[int]) -> Iterator[list]:
    """Divide items into consecutive batches of about _BATCH_BYTES."""
    batch: list = []
    n_bytes = 0
    for item, size in zip(items, sizes, strict=True):
        if batch and n_bytes + size > _BATCH_BYTES:
            yield batch
            batch, n_bytes = [], 0
        batch.append(item)
        n_bytes += size
    if batch:
        yield batch


# A piece's diagonals are walked if it has at most this many pairs per hit on average.
_MAX_PAIRS = 32
_PAIRS_AT_ONCE = 1 << 20


def extend_matches(
    queries: Bytes,
    places: tuple[Ints, Ints],
    index: GramIndex,
    length: int,
    pieces: list[bytes],
    reach: NDArray[np.int32],
) -> list[bytes]:
    """Raise `reach` to the matches of queries in the pieces; return the pieces not compared.

    `places` are the positions of the index's grams of `length` bytes in the queries, and the grams'
    numbers. Matches that contain a gram of the index are found. `reach` is the number of bytes that
    match from each position on.
    """
    raw = np.frombuffer(CORPUS_SEPARATOR.join([*pieces, bytes(PADDING)]), dtype=np.uint8)
    hits, numbers = index.find(raw, Gram(length, 1))
    position, number = places
    by_number = np.argsort(number, kind="stable")
    ends = np.cumsum(np.bincount(number, minlength=len(index)))
    n_here = np.diff(ends, prepend=0)[numbers]

    starts = np.cumsum([0] + [len(piece) + 1 for piece in pieces])[:-1]
    piece = np.searchsorted(starts, hits, "right") - 1
    n_hits = np.bincount(piece, minlength=len(pieces))
    n_pairs = np.bincount(piece, weights=n_here, minlength=len(pieces))
    is_plain = n_pairs <= _MAX_PAIRS * n_hits
    plain = np.flatnonzero(is_plain[piece])
    done = np.cumsum(n_here[plain]) // _PAIRS_AT_ONCE
    for some in np.split(plain, np.flatnonzero(np.diff(done)) + 1):
        sizes = n_here[some]
        entry = ranges(ends[numbers[some]] - sizes, sizes)
        mine, theirs = position[by_number[entry]], np.repeat(hits[some], sizes)
        order = np.lexsort((theirs, mine - theirs))
        _extend(queries, raw, mine[order], theirs[order], reach)
    return [pieces[i] for i in np.flatnonzero(~is_plain)]


@compiled
def _extend(queries, corpus, mine, theirs, reach):
    """Extend matching pairs, sorted by diagonal, in both directions and update `reach`."""
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
            and queries[begin + diagonal - 1] == corpus[begin - 1]
        ):
            begin -= 1
        while (
            end < corpus.size
            and end + diagonal < queries.size
            and queries[end + diagonal] == corpus[end]
        ):
            end += 1
        covered = max(end, b + 1)
        for i in range(begin, end):
            reach[i + diagonal] = max(reach[i + diagonal], end - i)
