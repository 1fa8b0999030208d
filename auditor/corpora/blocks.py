"""Documents -> blocks of UTF-8 bytes of about one size, so that numpy can work on them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from auditor.corpora.formats import Document

# 0xFF and 0xFE never occur in UTF-8, so no match can run across either.
CORPUS_SEPARATOR = b"\xff"
NEEDLE_SEPARATOR = b"\xfe"

# Readers of 8 bytes at a time may look this far past the end of a text.
PADDING = 8

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]


def to_bytes(text: str) -> bytes:
    """UTF-8, lone surrogates included: JSON may hold them and tokenizers may make them."""
    return text.encode("utf-8", "surrogatepass")


def pad(raw: bytes) -> Bytes:
    """Bytes as an array, followed by PADDING zeros."""
    return np.frombuffer(raw + bytes(PADDING), dtype=np.uint8)


def is_char_start(raw: Bytes) -> NDArray[np.bool_]:
    """Where a character begins: all bytes but UTF-8's continuation bytes.

    >>> is_char_start(np.frombuffer("aé".encode(), dtype=np.uint8))
    array([ True,  True, False])
    """
    return (raw & 0xC0) != 0x80


@dataclass(frozen=True)
class Block:
    """Pieces of documents, one after the other with separators between, and PADDING at the end.

    Attributes
    ----------
    raw : uint8 array (n_bytes + PADDING,)
    starts : int64 array (n_pieces,)
        Where each piece begins in `raw`.
    owned_ends : int64 array (n_pieces,)
        A piece owns the matches that begin before here; those after begin in the next piece too.
    ordinals : int64 array (n_pieces,)
        The document's place in the corpus, from 0.
    chars_before : int64 array (n_pieces,)
        Characters of the document that stand before the piece.
    doc_ids : list of str
        One for each piece.
    """

    raw: Bytes
    starts: Ints
    owned_ends: Ints
    ordinals: Ints
    chars_before: Ints
    doc_ids: list[str]

    @property
    def n_bytes(self) -> int:
        """Bytes of text and separators, without the padding."""
        return len(self.raw) - PADDING


@dataclass
class _Draft:
    """A block while it grows."""

    n_bytes: int = 0
    pieces: list[bytes] = field(default_factory=list)
    rows: list[tuple[int, int, int, int]] = field(default_factory=list)
    doc_ids: list[str] = field(default_factory=list)

    def add(self, piece: bytes, n_owned: int, ordinal: int, chars: int, doc_id: str) -> None:
        self.rows.append((self.n_bytes, self.n_bytes + n_owned, ordinal, chars))
        self.pieces.append(piece)
        self.doc_ids.append(doc_id)
        self.n_bytes += len(piece) + 1

    def finish(self) -> Block:
        raw = pad(CORPUS_SEPARATOR.join([*self.pieces, b""]))
        table = np.array(self.rows, dtype=np.int64).reshape(-1, 4).T
        return Block(raw, table[0], table[1], table[2], table[3], self.doc_ids)


def read_blocks(
    corpus: Iterable[Document],
    *,
    block_bytes: int,
    overlap: int,
    progress: Callable[[int], object] | None = None,
    n_bytes_before: int = 0,
) -> Iterator[Block]:
    """Stream a corpus as blocks of `block_bytes` or a little more.

    A document longer than a block is cut; each piece then repeats the last `overlap` bytes of the
    piece before, so that whatever is no longer than `overlap` lies whole in some piece.

    Parameters
    ----------
    corpus : iterable of Document
    block_bytes : int
        Raised to 2 x overlap where it is less: a piece must get on.
    overlap : int
    progress : callable, optional
        Called after each block with the bytes done, counted from `n_bytes_before`.

    Yields
    ------
    Block

    >>> from auditor.corpora.formats import Document
    >>> text = [Document("d", "abcdefgh", "")]
    >>> [bytes(b.raw[: b.n_bytes]) for b in read_blocks(text, block_bytes=5, overlap=2)]
    [b'abcde\\xff', b'defgh\\xff']
    """
    size = max(block_bytes, 2 * overlap, 1)
    draft = _Draft()
    n_bytes = n_bytes_before
    for ordinal, document in enumerate(corpus):
        raw = to_bytes(document.text)
        begin = chars = 0
        while True:
            end = min(begin + size, len(raw))
            step = end - begin if end == len(raw) else end - begin - overlap
            draft.add(raw[begin:end], step, ordinal, chars, document.doc_id)
            n_bytes += step
            if draft.n_bytes >= size:
                yield draft.finish()
                draft = _Draft()
                if progress:
                    progress(n_bytes)
            if end == len(raw):
                break
            owned = np.frombuffer(raw, np.uint8, step, begin)
            chars += int(np.count_nonzero(is_char_start(owned)))
            begin += step
    if draft.n_bytes:
        yield draft.finish()
        if progress:
            progress(n_bytes)
