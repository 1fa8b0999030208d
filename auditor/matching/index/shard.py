"""One shard of an index: part of the corpus's text, its suffix array, and its documents.

A shard is one file: consecutive sections, then a checksum for each block of 16 KiB. The file is
memory-mapped, and each block is verified at first use, so that opening an index is instant and no
result comes from a damaged block.
"""

import errno
import hashlib
import mmap
import os
import zlib
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.errors import CorpusError
from auditor.matching.byte_blocks import Ints, is_char_start
from auditor.matching.index.format import ALIGN, damaged_file, unreadable_file
from auditor.system.atomic_files import written_part

_SHIFT = 14
_BLOCK = 1 << _SHIFT
# Character counts are stored for every multiple of this many bytes.
_STEP = 1 << 12
_CHUNK = 1 << 20

Facts = dict[str, Any]


@dataclass
class Draft:
    """A shard under construction.

    Attributes
    ----------
    text : documents in UTF-8, each followed by a separator
    starts : where each document begins that begins in this shard
    ids, id_ends : their ids in UTF-8, concatenated, and where each ends
    is_cut : whether the last document continues in the next shard
    """

    text: bytearray = field(default_factory=bytearray)
    starts: array = field(default_factory=lambda: array("q"))
    ids: bytearray = field(default_factory=bytearray)
    id_ends: array = field(default_factory=lambda: array("q"))
    is_cut: bool = False

    def begin(self, doc_id: str) -> None:
        """Begin a document at the end of the text."""
        self.starts.append(len(self.text))
        self.ids += doc_id.encode("utf-8", "surrogatepass")
        self.id_ends.append(len(self.ids))

    def digest(self) -> str:
        """sha256 of the shard's part of the corpus."""
        digest = hashlib.sha256(b"cut" if self.is_cut else b"")
        for part in (self.text, self.starts, self.ids, self.id_ends):
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
        return digest.hexdigest()


def write_shard(path: Path, draft: Draft) -> Facts:
    """Sort the suffixes, and write and sync the shard under its temporary name.

    Takes about 6 bytes of memory per byte of text. Returns the file's entry in index.json.
    """
    text = np.frombuffer(draft.text, dtype=np.uint8)
    counts = _chars_before(text)
    sections: dict[str, NDArray[Any]] = {
        "text": text,
        "suffixes": _suffix_array(draft.text),
        "starts": np.frombuffer(draft.starts, dtype=np.int64),
        "chars": counts[:-1],
        "id_ends": np.frombuffer(draft.id_ends, dtype=np.int64),
        "ids": np.frombuffer(draft.ids, dtype=np.uint8),
    }
    offsets = {}
    with written_part(path, CorpusError) as stream:
        sink = _Sink(stream)
        for name, values in sections.items():
            offsets[name] = [sink.n_bytes, len(values)]
            sink.write(values.view(np.uint8).data)
            sink.write(memoryview(bytes(-sink.n_bytes % ALIGN)))
        sums = sink.checksums()
        sink.write(memoryview(sums))
    return {
        "file": path.name,
        "bytes": sink.n_bytes,
        "sha256": sink.sha256.hexdigest(),
        "checksums_sha256": hashlib.sha256(sums).hexdigest(),
        "sections": offsets,
        "chars": int(counts[-1]),
        "is_cut": draft.is_cut,
        "corpus_sha256": draft.digest(),
    }


class _Sink:
    """Writes a file and computes its sha256 and the checksum of each block."""

    def __init__(self, stream: Any):
        self.sha256 = hashlib.sha256()
        self.n_bytes = 0
        self._stream = stream
        self._sums = array("I")
        self._open = 0

    def write(self, view: memoryview) -> None:
        done = 0
        while done < len(view):
            part = view[done : done + _BLOCK - self.n_bytes % _BLOCK]
            self._stream.write(part)
            self.sha256.update(part)
            self._open = zlib.crc32(part, self._open)
            self.n_bytes += len(part)
            done += len(part)
            if self.n_bytes % _BLOCK == 0:
                self._sums.append(self._open)
                self._open = 0

    def checksums(self) -> bytes:
        """CRC-32 of every block so far, including a partial last one."""
        rest = [self._open] if self.n_bytes % _BLOCK else []
        return (self._sums + array("I", rest)).tobytes()


def _suffix_array(text: bytearray) -> NDArray[np.int32]:
    try:
        from pydivsufsort import divsufsort
    except ImportError:
        raise CorpusError(
            "Building an index needs pydivsufsort. Install it with: "
            "pip install '.[index]' in a checkout."
        ) from None
    try:
        return divsufsort(text)
    except MemoryError:
        raise CorpusError(
            f"A shard of {len(text):,} bytes needs {6 * len(text):,} bytes of memory, which are "
            "not free. Build with smaller shards in another folder."
        ) from None


def _chars_before(text: NDArray[np.uint8]) -> Ints:
    """Characters before each multiple of _STEP, and the total."""
    counts = [
        np.add.reduceat(is_char_start(part), np.arange(0, len(part), _STEP), dtype=np.int64)
        for at in range(0, len(text), _CHUNK)
        for part in [text[at : at + _CHUNK]]
    ]
    return np.concatenate([[0], *counts]).cumsum()


class Shard:
    """A memory-mapped shard. Positions are bytes of its text.

    All methods raise CorpusError if they need a damaged block.
    """

    def __init__(self, folder: Path, facts: Facts):
        self.path, self.facts = folder / facts["file"], facts
        try:
            file = os.open(self.path, os.O_RDONLY)
            try:
                size = os.fstat(file).st_size
                if size != facts["bytes"]:
                    why = f"it has {size:,} bytes; the index wrote {facts['bytes']:,}"
                    raise damaged_file(self.path, why)
                self._map = mmap.mmap(file, size, access=mmap.ACCESS_READ)
            finally:
                os.close(file)
        except OSError as error:
            if error.errno == errno.EMFILE:
                raise CorpusError(
                    f"The index in {folder} has more shards than this process may open files. "
                    "Raise `ulimit -n`, or build it with larger shards."
                ) from None
            raise unreadable_file(self.path, error) from None
        sections = facts["sections"]
        last, n_last = sections["ids"]
        self._sums_at = last + n_last + -n_last % ALIGN
        self._seen = bytearray(-(-self._sums_at // _BLOCK))
        self._sums: memoryview | None = None
        self._sections: dict[str, Ints] = {}
        self.n_bytes = sections["text"][1]
        self._suffixes_at = sections["suffixes"][0]
        view = memoryview(self._map)
        self._suffixes = view[self._suffixes_at : self._suffixes_at + 4 * self.n_bytes].cast("i")

    def read(self, begin: int, end: int) -> bytes:
        """The text's bytes [begin, end)."""
        end = min(end, self.n_bytes)
        self._verify_blocks(begin, end)
        return self._map[begin:end]

    def lower(self, query: bytes, low: int = 0, *, is_past: bool = False) -> int:
        """The first rank, from `low` on, of a suffix not smaller than the query.

        With `is_past`, suffixes that begin with the query count as smaller.
        """
        text, suffixes, seen = self._map, self._suffixes, self._seen
        n, length, at = self.n_bytes, len(query), self._suffixes_at
        is_long = length > _BLOCK
        high = n
        while low < high:
            middle = (low + high) >> 1
            block = (at + 4 * middle) >> _SHIFT
            if not seen[block]:
                self._check(block)
            begin = suffixes[middle]
            end = begin + length
            if end > n:
                end = n
            if is_long or not (seen[begin >> _SHIFT] and seen[(end - 1) >> _SHIFT]):
                self._verify_blocks(begin, end)
            part = text[begin:end]
            if part < query or (is_past and part == query):
                low = middle + 1
            else:
                high = middle
        return low

    def begins_with(self, rank: int, query: bytes) -> bool:
        """Whether the suffix of that rank begins with the query."""
        if rank >= self.n_bytes:
            return False
        begin = self.place(rank)
        return self.read(begin, begin + len(query)) == query

    def range_of(self, query: bytes) -> tuple[int, int]:
        """Ranks [first, end) of the suffixes that begin with the query."""
        first = self.lower(query)
        if not self.begins_with(first, query):
            return first, first
        # Most texts occur only once.
        if not self.begins_with(first + 1, query):
            return first, first + 1
        return first, self.lower(query, first + 2, is_past=True)

    def place(self, rank: int) -> int:
        """Where the suffix of that rank begins."""
        block = (self._suffixes_at + 4 * rank) >> _SHIFT
        if not self._seen[block]:
            self._check(block)
        return self._suffixes[rank]

    def places(self, first: int, end: int) -> Ints:
        """Where the suffixes of ranks [first, end) begin, in order of rank."""
        self._verify_blocks(self._suffixes_at + 4 * first, self._suffixes_at + 4 * end)
        return np.array(self._suffixes[first:end], dtype=np.int64)

    def chars_before(self, position: int) -> int:
        """Characters, separators included, that begin before a position."""
        number = min(position // _STEP, len(self._section("chars")) - 1)
        rest = np.frombuffer(self.read(number * _STEP, position), dtype=np.uint8)
        return int(self._section("chars")[number]) + int(np.count_nonzero(is_char_start(rest)))

    @property
    def starts(self) -> Ints:
        """Start positions of the documents that begin in this shard."""
        return self._section("starts")

    def doc_id(self, number: int) -> str:
        """The id of document `number` of those that begin in this shard."""
        ends = self._section("id_ends")
        at = self.facts["sections"]["ids"][0]
        begin = at + (int(ends[number - 1]) if number else 0)
        end = at + int(ends[number])
        self._verify_blocks(begin, end)
        return self._map[begin:end].decode("utf-8", "surrogatepass")

    def _section(self, name: str) -> Ints:
        if name not in self._sections:
            at, count = self.facts["sections"][name]
            self._verify_blocks(at, at + 8 * count)
            self._sections[name] = np.frombuffer(self._map, np.int64, count, at)
        return self._sections[name]

    def _verify_blocks(self, begin: int, end: int) -> None:
        """Verify the blocks of bytes [begin, end) of the file that are not verified yet."""
        if end > begin:
            for block in range(begin >> _SHIFT, ((end - 1) >> _SHIFT) + 1):
                if not self._seen[block]:
                    self._check(block)

    def _check(self, block: int) -> None:
        if self._sums is None:
            sums = self._map[self._sums_at :]
            if hashlib.sha256(sums).hexdigest() != self.facts["checksums_sha256"]:
                raise damaged_file(self.path, f"its checksums, from byte {self._sums_at:,}, differ")
            self._sums = memoryview(sums).cast("I")
        begin = block << _SHIFT
        end = min(begin + _BLOCK, self._sums_at)
        if zlib.crc32(self._map[begin:end]) != self._sums[block]:
            raise damaged_file(
                self.path, f"bytes {begin:,} to {end:,} differ from what was written"
            )
        self._seen[block] = 1
