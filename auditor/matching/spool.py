"""Temporary storage for parts of a corpus that share text with queries.

Large spools move from memory to an unnamed temporary file, which only its owner can read and
which is deleted on close.
"""

import struct
import tempfile
from array import array
from collections.abc import Iterator

import numpy as np

from auditor.errors import AuditError
from auditor.matching.byte_blocks import Block, Draft, repeated
from auditor.matching.normalization import NO_DROPS, Drops

_IN_MEMORY = 16 << 20
# Ordinal, owned bytes, characters before, bytes of text, bytes of id, number of drops.
_HEAD = struct.Struct("<qqqqqq")


class Spool:
    """Pieces of documents, written once in corpus order, then read back as blocks."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed
        self._ordinal = -1
        self._id_hashes: array[int] = array("q")

    def close(self) -> None:
        """Delete all pieces."""
        self._file.close()

    def add(
        self, raw: bytes, n_owned: int, ordinal: int, chars: int, doc_id: str, drops: Drops
    ) -> None:
        """Append a piece, as in `Draft.add`. Raises AuditError if the disk is full."""
        if ordinal != self._ordinal:
            self._ordinal = ordinal
            self._id_hashes.append(hash(doc_id))
        name = doc_id.encode("utf-8", "surrogatepass")
        head = _HEAD.pack(ordinal, n_owned, chars, len(raw), len(name), len(drops.places))
        dropped = drops.places.tobytes() + drops.totals.tobytes()
        try:
            self._file.write(head + name + dropped + raw)
        except OSError as error:
            raise AuditError(
                f"The text that overlaps samples does not fit into {tempfile.gettempdir()} "
                f"({error.strerror}). Set TMPDIR to a folder with as much free space as the corpus "
                "takes."
            ) from error

    def repeated_ids(self) -> set[int]:
        """Hashes of ids that several documents share."""
        return repeated(self._id_hashes)

    def blocks(self, block_bytes: int) -> Iterator[Block]:
        """All pieces, in blocks of at least `block_bytes`."""
        self._file.seek(0)
        draft = Draft()
        while head := self._file.read(_HEAD.size):
            ordinal, n_owned, chars, n_raw, n_name, n_drops = _HEAD.unpack(head)
            doc_id = self._file.read(n_name).decode("utf-8", "surrogatepass")
            drops = NO_DROPS
            if n_drops:
                table = np.frombuffer(self._file.read(16 * n_drops), dtype=np.int64)
                drops = Drops(table[:n_drops], table[n_drops:])
            draft.add([self._file.read(n_raw)], n_owned, ordinal, chars, doc_id, drops)
            if draft.n_bytes >= block_bytes:
                yield draft.finish()
                draft = Draft()
        if draft.n_bytes:
            yield draft.finish()
