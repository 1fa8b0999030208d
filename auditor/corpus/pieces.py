"""Split documents into pieces of UTF-8, so that documents may be larger than memory."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """A part of a document. Parts come in order and are cut between characters.

    Attributes
    ----------
    ordinal : int
        The document's position in the corpus, from 0.
    doc_id : str
    raw : bytes
        UTF-8; lone surrogates, which JSON may contain, take 3 bytes each.
    is_first, is_last : bool
        Whether this is the document's first, or last, piece.
    """

    ordinal: int
    doc_id: str
    raw: bytes
    is_first: bool
    is_last: bool


def to_pieces(ordinal: int, doc_id: str, parts: Iterable[bytes]) -> Iterator[Piece]:
    """A document's parts, none of them empty, as pieces.

    >>> [(p.raw, p.is_first, p.is_last) for p in to_pieces(0, "d", [b"a", b"b"])]
    [(b'a', True, False), (b'b', False, True)]
    """
    is_first = True
    before = b""
    for part in parts:
        if before:
            yield Piece(ordinal, doc_id, before, is_first, False)
            is_first = False
        before = part
    if before:
        yield Piece(ordinal, doc_id, before, is_first, True)


def cut(raw: bytes, size: int) -> Iterator[bytes]:
    """Cut UTF-8 into parts of at most `size` bytes, or of one longer character.

    >>> [part.decode() for part in cut("aéz".encode(), 2)]
    ['a', 'é', 'z']
    """
    begin = 0
    while len(raw) - begin > size:
        end = begin + size
        while end > begin and raw[end] & 0xC0 == 0x80:
            end -= 1
        if end == begin:
            end = begin + size
            while end < len(raw) and raw[end] & 0xC0 == 0x80:
                end += 1
        yield raw[begin:end]
        begin = end
    if begin < len(raw):
        yield raw[begin:]
