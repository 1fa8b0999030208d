"""Read documents as blocks of UTF-8 bytes of similar size, for numpy."""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from auditor.corpus.pieces import Piece
from auditor.corpus.text_files import Document
from auditor.matching.normalization import EXACT, Drops, Folder, Folding

# 0xFF and 0xFE never occur in UTF-8, so no match can run across either.
CORPUS_SEPARATOR = b"\xff"
QUERY_SEPARATOR = b"\xfe"

# Code that reads 8 bytes at a time may read this far past the end of a text.
PADDING = 8

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]


def to_bytes(text: str) -> bytes:
    """UTF-8, including lone surrogates, which JSON and tokenizers may produce."""
    return text.encode("utf-8", "surrogatepass")


def pad(raw: bytes) -> Bytes:
    """Bytes as an array with PADDING zeros at the end."""
    return np.frombuffer(raw + bytes(PADDING), dtype=np.uint8)


def is_char_start(raw: Bytes) -> NDArray[np.bool_]:
    """Whether each byte begins a character, that is, is no UTF-8 continuation byte.

    >>> is_char_start(np.frombuffer("aé".encode(), dtype=np.uint8))
    array([ True,  True, False])
    """
    return (raw & 0xC0) != 0x80


def n_chars(raw: bytes) -> int:
    """Number of characters that begin in a piece of UTF-8.

    >>> n_chars("aé".encode())
    2
    """
    if raw.isascii():
        return len(raw)
    return int(np.count_nonzero(is_char_start(np.frombuffer(raw, dtype=np.uint8))))


def place_in(known: NDArray, keys: NDArray) -> Ints:
    """The index of each key in the ascending array `known`; -1 if absent.

    >>> place_in(np.array([2, 5]), np.array([5, 3, 9])).tolist()
    [1, -1, -1]
    """
    if not len(known):
        return np.full(len(keys), -1)
    places = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[places] == keys, places, -1)


def repeated(values: "array[int]") -> set[int]:
    """The 64-bit values that occur more than once.

    >>> repeated(array("q", [5, 2, 5]))
    {5}
    """
    ordered = np.sort(np.array(values, dtype=np.int64))
    return set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())


def ranges(begins: Ints, sizes: Ints) -> Ints:
    """range(begin, begin + size) of each pair, concatenated.

    >>> ranges(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    return np.arange(sizes.sum()) + np.repeat(begins - np.cumsum(sizes) + sizes, sizes)


@dataclass(frozen=True)
class Block:
    """Pieces of documents, each followed by a separator, with PADDING at the end.

    Attributes
    ----------
    raw : uint8 array (n_bytes + PADDING,)
    starts : int64 array (n_pieces,)
        Where each piece begins in `raw`.
    owned_ends : int64 array (n_pieces,)
        A piece owns the matches that begin before this position; later ones also begin in the
        next piece.
    ordinals : int64 array (n_pieces,)
        The document's position in the corpus, from 0.
    chars_before : int64 array (n_pieces,)
        Folded characters of the document before the piece.
    doc_ids : list of str
        One for each piece.
    drops : list of Drops
        One for each piece: maps folded characters to those of the original document.
    n_read : int
        Bytes of the corpus read when the block was finished.
    """

    raw: Bytes
    starts: Ints
    owned_ends: Ints
    ordinals: Ints
    chars_before: Ints
    doc_ids: list[str]
    drops: list[Drops]
    n_read: int = 0

    @property
    def n_bytes(self) -> int:
        """Bytes of text and separators, without the padding."""
        return len(self.raw) - PADDING


@dataclass
class Draft:
    """A block under construction."""

    text: bytearray = field(default_factory=bytearray)
    rows: list[tuple[int, int, int, int]] = field(default_factory=list)
    doc_ids: list[str] = field(default_factory=list)
    drops: list[Drops] = field(default_factory=list)

    def add(
        self,
        parts: Iterable[bytes],
        n_owned: int,
        ordinal: int,
        chars: int,
        doc_id: str,
        drops: Drops,
    ) -> None:
        """Append a piece, with its parts joined; it owns matches that begin before `n_owned`."""
        begin = len(self.text)
        self.rows.append((begin, begin + n_owned, ordinal, chars))
        for part in parts:
            self.text += part
        self.text += CORPUS_SEPARATOR
        self.doc_ids.append(doc_id)
        self.drops.append(drops)

    @property
    def n_bytes(self) -> int:
        """Bytes of text and separators so far."""
        return len(self.text)

    def finish(self, n_read: int = 0) -> Block:
        """The block; do not add to the draft afterwards."""
        self.text += bytes(PADDING)
        raw = np.frombuffer(self.text, dtype=np.uint8)
        table = np.array(self.rows, dtype=np.int64).reshape(-1, 4).T
        return Block(raw, table[0], table[1], table[2], table[3], self.doc_ids, self.drops, n_read)


def read_pieces(corpus: Iterable[Document], size: int) -> Iterator[Piece]:
    """A corpus in pieces of about `size` bytes if it offers `pieces`, else by document."""
    if hasattr(corpus, "pieces"):
        yield from corpus.pieces(size)
        return
    for ordinal, document in enumerate(corpus):
        yield Piece(ordinal, document.doc_id, to_bytes(document.text), True, True)


def read_blocks(
    corpus: Iterable[Document], *, block_bytes: int, overlap: int, folding: Folding = EXACT
) -> Iterator[Block]:
    """Stream a corpus as blocks of one to three times `block_bytes`.

    Documents longer than a block are cut. Each piece repeats the last `overlap` bytes of the
    previous piece, so that any text of at most `overlap` bytes lies whole in some piece.

    `block_bytes` is raised to 2 x `overlap` if it is less. If the corpus offers `pieces(size)`,
    documents may be larger than memory.

    >>> from auditor.corpus.text_files import Document
    >>> text = [Document("d", "abcdefgh", "")]
    >>> [bytes(b.raw[: b.n_bytes]) for b in read_blocks(text, block_bytes=4, overlap=2)]
    [b'abcd\\xff', b'cdefgh\\xff']
    """
    size = max(block_bytes, 2 * overlap, 1)
    draft = Draft()
    n_read = 0
    folder = Folder(folding)
    rest, chars = b"", 0
    for piece in read_pieces(corpus, size):
        if piece.is_first:
            folder.restart()
            rest, chars = b"", 0
        folded = folder.fold(piece.raw)
        n_read += len(piece.raw)
        begin, n = 0, len(rest) + len(folded)
        is_ascii = rest.isascii() and folded.isascii()
        while True:
            n_left = n - begin
            # Text too short to cut waits for the document's next piece.
            if not piece.is_last and n_left <= 2 * overlap:
                break
            end = begin + size if n_left >= 2 * size else n
            is_end = piece.is_last and end == n
            step = end - begin if is_end else end - begin - overlap
            parts = _between(rest, folded, begin, end)
            draft.add(parts, step, piece.ordinal, chars, piece.doc_id, folder.drops(chars))
            if draft.n_bytes >= size:
                yield draft.finish(n_read - (n - end))
                draft = Draft()
            if is_end:
                begin = n
                break
            if is_ascii:
                chars += step
            else:
                chars += sum(map(n_chars, _between(rest, folded, begin, begin + step)))
            begin += step
        rest = b"".join(_between(rest, folded, begin, n))
        folder.forget(chars)
    if draft.n_bytes:
        yield draft.finish(n_read)


def _between(first: bytes, second: bytes, begin: int, end: int) -> tuple[bytes, bytes]:
    """Bytes [begin, end) of two concatenated texts; a whole text is not copied."""
    n = len(first)
    return first[begin:end], second[max(begin - n, 0) : max(end - n, 0)]
