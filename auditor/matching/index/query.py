"""Query an index: count and locate a text in the corpus, and find its longest matches."""

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import numpy as np

from auditor.corpus.pieces import Piece
from auditor.corpus.text_files import Document
from auditor.errors import ConfigError, CorpusError
from auditor.matching.byte_blocks import (
    CORPUS_SEPARATOR,
    Ints,
    is_char_start,
    pad,
    place_in,
    to_bytes,
)
from auditor.matching.index.format import (
    Plan,
    damaged_file,
    is_file_whole,
    read_plan,
    unreadable_file,
)
from auditor.matching.index.maximal_spans import maximal_spans
from auditor.matching.index.shard import Shard
from auditor.matching.index.shard_boundaries import ShardBoundaries
from reports.number_text import count

# Occurrences whose documents are looked up at once.
_AT_ONCE = 1 << 20
# Bytes of a text compared at first: few texts match a corpus for longer.
_FIRST_TRY = 256


@dataclass(frozen=True)
class Found:
    """Occurrences of a text: a range of ranks in each shard, and positions that cross its end."""

    ranges: list[tuple[int, int]]
    crossing: list[list[int]]

    @property
    def n_occurrences(self) -> int:
        """Number of occurrences, which may overlap."""
        return sum(end - first for first, end in self.ranges) + sum(map(len, self.crossing))


class Index:
    """An open index, returned by `open_index` and `build_index`.

    Occurrences may overlap: "aa" occurs twice in "aaa". None crosses two documents. All data that
    a query reads is verified first; a CorpusError names a damaged file.

    Iterating, or `pieces`, returns the documents, so an index also serves as a corpus.

    Attributes
    ----------
    path : Path
    n_documents, n_bytes : int
        Number of documents, and bytes of their text in UTF-8.
    """

    def __init__(self, path: Path, plan: Plan):
        self.path, self.plan = path, plan
        self.shards = [Shard(path, facts) for facts in plan["shards"]]
        # Positions count the bytes of the stream of all shards: documents and separators.
        self._bases = [0, *accumulate(shard.n_bytes for shard in self.shards)]
        self._chars = [0, *accumulate(shard.facts["chars"] for shard in self.shards)]
        n_starts = (shard.facts["sections"]["starts"][1] for shard in self.shards)
        self._documents = [0, *accumulate(n_starts)]
        self.n_documents = self._documents[-1]
        self.n_bytes = self._bases[-1] - self.n_documents
        self._boundaries = ShardBoundaries(
            self._bases, [s.facts["is_cut"] for s in self.shards], self._read
        )

    def __repr__(self) -> str:
        return f"Index({str(self.path)!r}, {self.n_documents:,} documents, {self.n_bytes:,} bytes)"

    def count(self, text: str) -> int:
        """Number of occurrences of a text. Raises ConfigError if it is empty."""
        return self.occurrences(_query(text)).n_occurrences

    def count_documents(self, text: str) -> int:
        """Number of distinct ids of documents that contain a text."""
        return self.n_documents_of(self.occurrences(_query(text)))

    def find(self, text: str, limit: int | None = 10) -> list[tuple[str, int]]:
        """The first occurrences of a text: (document id, characters before it in the document).

        Parameters
        ----------
        text : str
        limit : int, optional
            Maximum number; None = all.

        Returns
        -------
        list of (str, int)
            In corpus order.
        """
        if limit is not None and limit < 1:
            raise ConfigError(f"limit must be 1 or more; got {limit}. Leave it out for 10.")
        return self.places_of(self.occurrences(_query(text)), limit)

    def longest(self, text: str) -> Ints:
        """Length of the longest match in the corpus at each character of a text.

        Returns
        -------
        int64 array (n_chars,), characters; 0 if there is no match.
        """
        raw = to_bytes(text)
        at = np.flatnonzero(is_char_start(pad(raw)[: len(raw)]))
        reach = np.zeros(len(at) + 1, dtype=np.int64)
        spans = maximal_spans(raw, 1, self)
        np.maximum.at(reach, spans.begins, spans.ends)
        return np.maximum(np.maximum.accumulate(reach)[:-1] - np.arange(len(at)), 0)

    def occurrences(self, raw: bytes) -> Found:
        """The occurrences of bytes of UTF-8."""
        return Found([shard.range_of(raw) for shard in self.shards], self._boundaries.crossing(raw))

    def contains(self, raw: bytes) -> bool:
        """Whether the corpus contains the bytes."""
        for shard in self.shards:
            if shard.begins_with(shard.lower(raw), raw):
                return True
        return self._boundaries.contains(raw)

    def longest_prefix(self, raw: bytes) -> int:
        """Length of the longest prefix of the bytes that the corpus contains."""
        size = _FIRST_TRY
        while True:
            part = raw[:size]
            best = 0
            for shard in self.shards:
                rank = shard.lower(part)
                for near in (rank - 1, rank):
                    if 0 <= near < shard.n_bytes and best < len(part):
                        place = shard.place(near)
                        best = max(best, _common(shard.read(place, place + len(part)), part))
            best = self._boundaries.longer_prefix(part, best)
            if best < len(part) or size >= len(raw):
                return best
            size *= 8

    def n_documents_of(self, found: Found) -> int:
        """Number of distinct ids of the documents of these occurrences."""
        seen = []
        for k, (first, end) in enumerate(found.ranges):
            for at in range(first, end, _AT_ONCE):
                places = self.shards[k].places(at, min(at + _AT_ONCE, end))
                seen.append(np.unique(self._ordinals(k, places)))
            if found.crossing[k]:
                places = np.array(found.crossing[k], dtype=np.int64) - self._bases[k]
                seen.append(np.unique(self._ordinals(k, places)))
        if not seen:
            return 0
        ordinals = np.unique(np.concatenate(seen))
        again, first_of = self._repeats
        if len(again):
            at_row = place_in(again, ordinals)
            ordinals = np.unique(np.where(at_row >= 0, first_of[at_row], ordinals))
        return len(ordinals)

    def places_of(self, found: Found, limit: int | None) -> list[tuple[str, int]]:
        """The first occurrences, as (document id, characters before it), in corpus order."""
        places: list[tuple[str, int]] = []
        for k, (first, end) in enumerate(found.ranges):
            room = None if limit is None else limit - len(places)
            # Occurrences across the shard's end begin after all those within it.
            local = _smallest(self.shards[k], first, end, room) + self._bases[k]
            for position in [*local.tolist(), *found.crossing[k]][:room]:
                places.append(self._place(k, position))
            if len(places) == limit:
                break
        return places

    def __iter__(self) -> Iterator[Document]:
        for ordinal in range(self.n_documents):
            begin, end = self._bounds(ordinal)
            text = self._read(begin, end).decode("utf-8", "surrogatepass")
            yield Document(self._doc_id(ordinal), text, str(self.path))

    def pieces(self, size: int) -> Iterator[Piece]:
        """The documents in pieces of about `size` bytes, cut between characters."""
        for ordinal in range(self.n_documents):
            begin, end = self._bounds(ordinal)
            doc_id, at = self._doc_id(ordinal), begin
            while True:
                stop = min(at + max(size, 4), end)
                while stop < end and self._read(stop, stop + 1)[0] & 0xC0 == 0x80:
                    stop -= 1
                raw = self._read(at, stop)
                yield Piece(ordinal, doc_id, raw, at == begin, stop == end)
                if stop == end:
                    break
                at = stop

    def fingerprint(self) -> list[tuple[str, int, str]]:
        """(path, bytes, sha256) of every file of the corpus, as read at build time."""
        return [(path, size, digest) for path, size, digest in self.plan["corpus"]["files"]]

    def verify(self, progress: Callable[[int], object] | None = None) -> None:
        """Check the sha256 of every file. Raises CorpusError at the first damaged one.

        `progress` is called with the bytes of files read so far.
        """
        n_bytes = 0
        for facts in [*self.plan["shards"], self.plan["repeats"]]:
            file = self.path / facts["file"]
            if not is_file_whole(file, facts):
                raise damaged_file(file, "its size or sha256 differs from what was written")
            n_bytes += facts["bytes"]
            if progress:
                progress(n_bytes)

    @property
    def n_file_bytes(self) -> int:
        """Bytes on disk, without index.json."""
        return sum(f["bytes"] for f in [*self.plan["shards"], self.plan["repeats"]])

    @cached_property
    def _repeats(self) -> tuple[Ints, Ints]:
        """Ordinals of documents with a repeated id, ascending, and of the first with that id."""
        facts = self.plan["repeats"]
        file = self.path / facts["file"]
        try:
            raw = file.read_bytes()
        except OSError as error:
            raise unreadable_file(file, error) from None
        if hashlib.sha256(raw).hexdigest() != facts["sha256"]:
            raise damaged_file(file, "its sha256 differs from what was written")
        table = np.frombuffer(raw, dtype=np.int64).reshape(-1, 2)
        return table[:, 0], table[:, 1]

    def _read(self, begin: int, end: int) -> bytes:
        """Bytes [begin, end) of the stream, from one or more shards."""
        end = min(end, self._bases[-1])
        k = bisect_right(self._bases, begin) - 1
        parts = []
        while begin < end:
            base, after = self._bases[k], self._bases[k + 1]
            parts.append(self.shards[k].read(begin - base, min(end, after) - base))
            begin, k = after, k + 1
        return b"".join(parts)

    def _ordinals(self, k: int, places: Ints) -> Ints:
        """The ordinals of the documents at positions of a shard."""
        before = self._documents[k] - 1
        return np.searchsorted(self.shards[k].starts, places, "right") + before

    def _locate_document(self, ordinal: int) -> tuple[int, int]:
        """The shard where a document begins, and its number there."""
        k = bisect_right(self._documents, ordinal) - 1
        return k, ordinal - self._documents[k]

    def _doc_id(self, ordinal: int) -> str:
        k, number = self._locate_document(ordinal)
        return self.shards[k].doc_id(number)

    def _start(self, ordinal: int) -> int:
        """Where a document begins; for n_documents, the end of the stream."""
        if ordinal == self.n_documents:
            return self._bases[-1]
        k, number = self._locate_document(ordinal)
        return self._bases[k] + int(self.shards[k].starts[number])

    def _bounds(self, ordinal: int) -> tuple[int, int]:
        return self._start(ordinal), self._start(ordinal + 1) - len(CORPUS_SEPARATOR)

    def _place(self, k: int, position: int) -> tuple[str, int]:
        ordinal = int(self._ordinals(k, np.array([position - self._bases[k]]))[0])
        begin = self._start(ordinal)
        return self._doc_id(ordinal), self._chars_before(position) - self._chars_before(begin)

    def _chars_before(self, position: int) -> int:
        k = bisect_right(self._bases, position) - 1
        return self._chars[k] + self.shards[k].chars_before(position - self._bases[k])


def open_index(path: str | Path) -> Index:
    """Open an index built by `build_index`.

    File sizes are checked at once, contents block by block at first use; call `verify` to check
    all contents.

    Raises
    ------
    CorpusError
        If the index is missing, incomplete, damaged, or of another version.
    """
    folder = Path(path)
    plan = read_plan(folder)
    if plan is None:
        what = "is no index: it has no index.json" if folder.exists() else "does not exist"
        raise CorpusError(f"{folder} {what}. Build one with: auditor index build CORPUS --out DIR.")
    if not plan["complete"]:
        raise CorpusError(
            f"{folder} is not finished: it has {count(len(plan['shards']), 'shard')}. Run the same "
            "`auditor index build` again to resume."
        )
    return Index(folder, plan)


def _query(text: str) -> bytes:
    if not text:
        raise ConfigError("The text to look for must have at least one character; got none.")
    return to_bytes(text)


def _smallest(shard: Shard, first: int, end: int, limit: int | None) -> Ints:
    """The first `limit` positions among ranks [first, end), ascending."""
    kept = np.zeros(0, dtype=np.int64)
    for at in range(first, end, _AT_ONCE):
        kept = np.sort(np.append(kept, shard.places(at, min(at + _AT_ONCE, end))))[:limit]
    return kept


def _common(a: bytes, b: bytes) -> int:
    """Length of the common prefix of two byte strings."""
    n = min(len(a), len(b))
    if a[:n] == b[:n]:
        return n
    return int(np.argmax(np.frombuffer(a, np.uint8, n) != np.frombuffer(b, np.uint8, n)))
