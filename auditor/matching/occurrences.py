"""Count the occurrences and documents of known spans, and record their first places."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.matching.byte_blocks import Block, Bytes, Ints, is_char_start, pad, ranges
from auditor.matching.ngram_filter import Gram, GramIndex, hash_grams, words_at
from auditor.matching.overlaps import Overlaps

# Candidate pairs per batch: about 100 bytes of memory each.
_PAIRS_AT_ONCE = 1 << 19

_MAX_PERIOD = 8

MAX_PLACES = 5


@dataclass(frozen=True)
class _Pairs:
    """Occurrences in a block: span number, position, and number of the piece."""

    span: Ints
    position: Ints
    piece: Ints


class Occurrences:
    """Counts of spans over a corpus; pass all blocks of the queries' spool to `add`.

    Each span is located by its rarest run of grams, so that a span that begins with a line of
    dashes or spaces is not compared with every other such line.

    Attributes
    ----------
    n_occurrences, n_documents : int64 array (n_spans,)
    places : list (n_spans) of lists of (str, int)
        Document ids and character offsets of the first occurrences, at most MAX_PLACES.
    """

    def __init__(self, queries: Overlaps, begins: Ints, ends: Ints):
        """Spans are positions [begin, end) in `queries.raw`, and should be distinct."""
        self._text = queries.raw
        self._begins = begins
        self._lengths = ends - begins
        self._repeats = _repeats(queries.raw, begins, ends - begins)
        n = len(begins)
        self.n_occurrences = np.zeros(n, dtype=np.int64)
        self.n_documents = np.zeros(n, dtype=np.int64)
        self.places: list[list[tuple[str, int]]] = [[] for _ in range(n)]
        self._n_places = np.zeros(n, dtype=np.int64)
        self._last_ordinal = np.full(n, -1, dtype=np.int64)
        self._repeated_ids = queries.spool.repeated_ids()
        self._spans_of_repeated: defaultdict[str, set[int]] = defaultdict(set)

        stride = queries.gram.stride
        anchors = _rarest(queries, begins, ends)
        offsets = anchors[:, None] + np.arange(stride)  # (n_spans, stride)
        places = (begins[:, None] + offsets).ravel()
        length = queries.gram.length
        grams = queries.raw[places[:, None] + np.arange(length)]  # (n_places, length)
        hashes = hash_grams(pad(grams.tobytes()), 0, len(places), length, length)
        self._gram = queries.gram
        self._index = GramIndex(hashes.copy())
        ids = self._index.numbers(hashes)
        # Entries (span, offset of the gram in it), sorted by gram number.
        by_gram = np.argsort(ids, kind="stable")
        self._entry_span = by_gram // stride
        self._entry_offset = offsets.ravel()[by_gram]
        n_entries = np.bincount(ids, minlength=len(self._index))
        self._entries_end = np.cumsum(n_entries)
        self._entries_begin = self._entries_end - n_entries

    def add(self, block: Block) -> None:
        """Count the occurrences that this block owns."""
        hits, ids = self._index.find(block.raw, self._gram)
        n_pairs = np.cumsum(self._entries_end[ids] - self._entries_begin[ids])
        first = 0
        while first < len(hits):
            # One batch of pairs, but at least one hit.
            done = n_pairs[first - 1] if first else 0
            last = max(first + 1, int(np.searchsorted(n_pairs, done + _PAIRS_AT_ONCE, "right")))
            pairs = self._occurrences(block, hits[first:last], ids[first:last])
            if len(pairs.span):
                self._count(block, pairs)
            first = last

    def _occurrences(self, block: Block, hits: Ints, ids: Ints) -> _Pairs:
        """The pairs of span and position that match byte for byte."""
        sizes = self._entries_end[ids] - self._entries_begin[ids]
        entry = ranges(self._entries_begin[ids], sizes)
        span = self._entry_span[entry]
        position = np.repeat(hits, sizes) - self._entry_offset[entry]
        length = self._lengths[span]
        fits = (position >= 0) & (position + length <= block.n_bytes)
        span, position, length = span[fits], position[fits], length[fits]
        piece = np.searchsorted(block.starts, position, "right") - 1
        owned = position < block.owned_ends[piece]
        span, position, length, piece = span[owned], position[owned], length[owned], piece[owned]
        order = np.argsort(span * block.n_bytes + position, kind="stable")
        pairs = _Pairs(span[order], position[order], piece[order])
        matches = self._are_matches(block.raw, pairs)
        return _Pairs(pairs.span[matches], pairs.position[matches], pairs.piece[matches])

    def _are_matches(self, raw: Bytes, pairs: _Pairs) -> NDArray[np.bool_]:
        """Whether the span's bytes match at each pair's position.

        If a span of period d matches at some position, it also matches d bytes later if and only
        if its last d bytes follow. So only the first pair of such a chain is compared in full: if
        byte m is the last that differs there, the chain's pairs after that byte match. A long line
        of dashes thus costs no more than other text.
        """
        if not len(pairs.span):
            return np.zeros(0, dtype=bool)
        span, position = pairs.span, pairs.position
        gap = np.append(_MAX_PERIOD + 1, np.diff(position))
        gap[np.append(True, np.diff(span) != 0)] = _MAX_PERIOD + 1
        near = np.flatnonzero(gap <= _MAX_PERIOD)
        near = near[self._repeats[span[near], gap[near]]]
        before_end = self._lengths[span[near]] - gap[near]
        begin, own_begin = position[near] + before_end, self._begins[span[near]] + before_end
        tail = _last_difference(raw, begin, self._text, own_begin, gap[near])
        is_first = np.ones(len(span), dtype=bool)
        is_first[near[tail < 0]] = False
        first = np.flatnonzero(is_first)
        begins, lengths = self._begins[span[first]], self._lengths[span[first]]
        last = position[first] + _last_difference(raw, position[first], self._text, begins, lengths)
        return position > last[np.cumsum(is_first) - 1]

    def _count(self, block: Block, pairs: _Pairs) -> None:
        self.n_occurrences += np.bincount(pairs.span, minlength=len(self.n_occurrences))
        # Count each span once per document; a document's pieces are consecutive.
        span, position, piece = pairs.span, pairs.position, pairs.piece
        ordinal = block.ordinals[piece]
        is_new = np.ones(len(span), dtype=bool)
        is_new[1:] = (np.diff(span) != 0) | (np.diff(ordinal) != 0)
        is_new &= ordinal > self._last_ordinal[span]
        np.maximum.at(self._last_ordinal, span, ordinal)
        if self._repeated_ids:
            is_new = self._drop_repeated(block, span, piece, is_new)
        self.n_documents += np.bincount(span[is_new], minlength=len(self.n_documents))
        # Keep each span's next places, up to MAX_PLACES in all.
        first = np.flatnonzero(np.append(True, np.diff(span) != 0))
        nth = np.arange(len(span)) - np.repeat(first, np.diff(np.append(first, len(span))))
        few = np.flatnonzero(nth + self._n_places[span] < MAX_PLACES)
        self._locate(block, span[few], position[few], piece[few])

    def _drop_repeated(
        self, block: Block, span: Ints, piece: Ints, is_new: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """For each span, keep only the first of the documents that share an id."""
        for i in np.flatnonzero(is_new):
            doc_id = block.doc_ids[piece[i]]
            if hash(doc_id) in self._repeated_ids:
                spans = self._spans_of_repeated[doc_id]
                is_new[i] = int(span[i]) not in spans
                spans.add(int(span[i]))
        return is_new

    def _locate(self, block: Block, span: Ints, position: Ints, piece: Ints) -> None:
        """Record the first places, in characters from the document's beginning."""
        if not len(span):
            return
        n_before = np.append(0, np.cumsum(is_char_start(block.raw), dtype=np.int32))
        chars = block.chars_before[piece] + n_before[position] - n_before[block.starts[piece]]
        self._n_places += np.bincount(span, minlength=len(self._n_places))
        rows = zip(span.tolist(), piece.tolist(), chars.tolist(), strict=True)
        for one, where, char in rows:
            offset = int(block.drops[where].origin(np.int64(char)))
            self.places[one].append((block.doc_ids[where], offset))


def _rarest(queries: Overlaps, begins: Ints, ends: Ints) -> Ints:
    """For each span, the offset of its `stride` consecutive grams with the lowest total count."""
    gram, every = queries.gram, Gram(queries.gram.length, 1)
    offsets = np.zeros(len(begins), dtype=np.int64)
    for i, (begin, end) in enumerate(zip(begins.tolist(), ends.tolist(), strict=True)):
        # Every gram of a query is indexed, so this returns all of them in order.
        _, ids = queries.index.find(pad(queries.raw[begin:end].tobytes()), every)
        met = np.append(0, np.cumsum(queries.counts[ids], dtype=np.int64))
        offsets[i] = np.argmin(met[gram.stride :] - met[: -gram.stride])
    return offsets


def _repeats(text: Bytes, begins: Ints, lengths: Ints) -> NDArray[np.bool_]:
    """Whether each span has period d, for d up to _MAX_PERIOD: (n_spans, d)."""
    repeats = np.zeros((len(begins), _MAX_PERIOD + 1), dtype=bool)
    for d in range(1, _MAX_PERIOD + 1):
        long = np.flatnonzero(lengths > d)
        begin, left = begins[long], lengths[long] - d
        repeats[long, d] = _last_difference(text, begin, text, begin + d, left) < 0
    return repeats


def _last_difference(a: Bytes, a_begin: Ints, b: Bytes, b_begin: Ints, length: Ints) -> Ints:
    """The last i < length for which a[a_begin + i] != b[b_begin + i]; -1 if none.

    Both texts must be padded, since words of 8 bytes are read at any byte.
    """
    words_a = words_at(a, 0, len(a) - 7, 1)
    words_b = words_at(b, 0, len(b) - 7, 1)
    last = np.full(len(length), -1, dtype=np.int64)
    alive = np.arange(len(length))
    left = length.copy()
    while len(alive):
        at = np.maximum(left - 8, 0)
        differing = words_a[a_begin[alive] + at] ^ words_b[b_begin[alive] + at]
        # The first word may extend past `left`: drop its high bytes, which come later.
        n_later = np.maximum(8 - left, 0).astype(np.uint64)
        differing &= np.uint64(0xFFFFFFFFFFFFFFFF) >> (np.uint64(8) * n_later)
        differs = differing != 0
        for k in range(8):
            here = differs & (differing >> np.uint64(8 * k) != 0)
            last[alive[here]] = at[here] + k
        going = ~differs & (at > 0)
        alive, left = alive[going], at[going]
    return last
