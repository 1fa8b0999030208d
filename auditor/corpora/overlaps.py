"""First pass: how far each position of the needles matches anything in the corpus.

A match of w bytes holds a gram at every multiple of the stride that it covers, so it lies inside a
run of consecutive hits. Only such runs, few in most corpora, are kept; they are compared with the
needles' own hit stretches by sorting suffixes, which no repetition in the text can slow down.
"""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from auditor.corpora.blocks import (
    CORPUS_SEPARATOR,
    NEEDLE_SEPARATOR,
    Block,
    Bytes,
    Ints,
    is_char_start,
    pad,
)
from auditor.corpora.grams import Gram, GramIndex, choose_gram, hash_grams
from auditor.corpora.suffixes import longest_matches

# Bytes of either text that are sorted together: about 60 bytes of memory each.
_BATCH_BYTES = 2 << 20
# A region longer than this is cut, with overlap, so that repeated pieces are known again.
_PIECE_BYTES = 1 << 16
_MAX_SEEN = 1 << 19


class Overlaps:
    """Needles of one class of length, and the longest match found so far at each position.

    Feed it all blocks with `add`, then call `spans`. Matches of at least `shortest` bytes are
    found without exception; shorter ones only by luck.
    """

    def __init__(self, texts: Sequence[bytes], shortest: int):
        self.raw = pad(NEEDLE_SEPARATOR.join([*texts, b""]))
        self.longest = max(map(len, texts))
        self.gram: Gram = choose_gram(shortest)
        self.shortest = shortest
        n_grams = max(0, len(self.raw) - self.gram.length + 1)
        if self.gram.length < 8:
            n_grams = len(self.raw) - 7
        hashes = hash_grams(self.raw, 0, n_grams, 1, self.gram.length)
        self.index = GramIndex(hashes, self.gram)
        # How often each gram was met, at multiples of the stride: tells which are rare.
        self.counts = np.zeros(len(self.index), dtype=np.int64)
        self._hit = np.zeros(len(self.index), dtype=bool)
        self._reach = np.zeros(len(self.raw), dtype=np.int32)
        self._pieces: list[bytes] = []
        self._n_bytes = 0
        self._seen: set[bytes] = set()

    def add(self, block: Block) -> None:
        """Take in a block; documents must be cut with an overlap of `longest` bytes."""
        positions, ids = self.index.find(block.raw)
        if not len(positions):
            return
        np.add.at(self.counts, ids, 1)
        breaks = np.diff(positions, prepend=positions[0]) > self.gram.stride
        run = np.cumsum(breaks, dtype=np.int64)
        begins, ends = self._around(positions, run)
        is_long = ends - begins >= self.shortest
        self._hit[ids[is_long[run]]] = True
        for begin, end in zip(begins[is_long], ends[is_long], strict=True):
            self._keep(block.raw[max(begin, 0) : min(end, block.n_bytes)])
        if self._n_bytes > _BATCH_BYTES:
            self._flush()

    def spans(self) -> tuple[Ints, Ints]:
        """Maximal matches as (begins, ends): positions in `raw`, of whole characters, ascending.

        A span that lies inside another of the same needle is left out.
        """
        self._flush()
        n = len(self.raw)
        starts_char = is_char_start(self.raw)
        # The last character boundary at or before each position.
        boundary = np.maximum.accumulate(np.where(starts_char, np.arange(n), 0))
        begins = np.flatnonzero(starts_char & (self._reach >= self.shortest))
        ends = boundary[begins + self._reach[begins]]
        furthest = np.maximum.accumulate(ends)
        is_maximal = ends > np.append(-1, furthest[:-1])
        # Spans of earlier needles end before this one begins, so one running maximum does for all.
        return begins[is_maximal], ends[is_maximal]

    def _around(self, hits: Ints, run: Ints) -> tuple[Ints, Ints]:
        """What a match may cover, for each run of hits: all up to the grams that did not hit."""
        first = np.flatnonzero(np.diff(run, prepend=-1))
        last = np.append(first[1:], len(hits)) - 1
        margin = self.gram.stride - 1
        return hits[first] - margin, hits[last] + self.gram.length + margin

    def _keep(self, region: Bytes) -> None:
        """Keep a region for the next flush unless the same bytes were kept before."""
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
        """Compare the kept regions with the needles' stretches that share grams with them."""
        if not self._pieces:
            return
        stretches = self._stretches()
        for pieces in _batches(self._pieces, [len(piece) + 1 for piece in self._pieces]):
            corpus = CORPUS_SEPARATOR.join(pieces)
            for group in _batches(stretches, [end - begin for begin, end in stretches]):
                self._compare(group, corpus)
        self._pieces, self._n_bytes = [], 0
        self._hit[:] = False

    def _stretches(self) -> list[tuple[int, int]]:
        """The parts of `raw` whose grams hit; disjoint, ascending."""
        n = len(self.raw) - 8
        hits = np.flatnonzero(self._hit[self.index.ids])
        margin = self.gram.stride - 1
        begins = np.maximum(hits - margin, 0)
        ends = np.minimum(hits + self.gram.length + margin, n)
        first = np.flatnonzero(np.append(True, begins[1:] > ends[:-1]))
        last = np.append(first[1:], len(hits)) - 1
        return list(zip(begins[first].tolist(), ends[last].tolist(), strict=True))

    def _compare(self, stretches: list[tuple[int, int]], corpus: bytes) -> None:
        """Raise `_reach` to the longest matches of these stretches with this text."""
        places = np.concatenate([np.arange(begin, end + 1) for begin, end in stretches])
        needles = self.raw[places]
        # One byte more than each stretch was taken, to be the separator between them.
        separators = np.cumsum([end - begin + 1 for begin, end in stretches]) - 1
        needles[separators] = NEEDLE_SEPARATOR[0]
        found = longest_matches(needles, corpus, self.longest)
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
