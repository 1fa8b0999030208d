"""Token ids to text and back, with the place of every token in the text."""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache, cached_property

import numpy as np

from auditor.errors import ConfigError

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@cache
def _byte_alphabet() -> dict[str, int]:
    """The printable stand-ins that byte-level BPE (GPT-2 and its kin) writes for raw bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    table = {chr(b): b for b in printable}
    table |= {chr(256 + n): b for n, b in enumerate(others)}
    return table


def _spell_byte_level(piece: str) -> bytes:
    table = _byte_alphabet()
    if all(c in table for c in piece):
        return bytes(table[c] for c in piece)
    return piece.encode("utf-8", "replace")


def _spell_pieces(piece: str) -> bytes:
    """SentencePiece's way: a bar for a space, and single bytes by number."""
    if match := _BYTE_PIECE.fullmatch(piece):
        return bytes([int(match[1], 16)])
    return piece.replace("▁", " ").encode("utf-8", "replace")


class Vocabulary:
    """A tokenizer as the audit needs it.

    Every token is known by its bytes, so text is rebuilt exactly as the model spelt it (no cleaning
    up of spaces), and each token's place in the text is known. Special tokens have no text.

    Parameters
    ----------
    tokenizer : a Hugging Face tokenizer
    bos : str, optional
        The token that starts a text, where the tokenizer names none.
    """

    def __init__(self, tokenizer, bos: str | None = None):
        self.tokenizer = tokenizer
        self.bos_id: int | None = tokenizer.bos_token_id
        if bos is not None:
            self.bos_id = self._known(bos)
        self.eos_id: int | None = tokenizer.eos_token_id

    def _known(self, token: str) -> int:
        found = self.tokenizer.get_vocab().get(token)
        if found is None:
            raise ConfigError(
                f"--bos must be a token of the model's vocabulary; got {token!r}. Special tokens "
                f"there are: {', '.join(map(str, self.tokenizer.all_special_tokens)) or 'none'}."
            )
        return found

    @cached_property
    def token_bytes(self) -> list[bytes]:
        """What each token id writes, as bytes; special tokens write nothing."""
        size = max(len(self.tokenizer), max(self.tokenizer.get_vocab().values(), default=-1) + 1)
        pieces = self.tokenizer.convert_ids_to_tokens(list(range(size)))
        # Tokens that were added to the learned ones stand as they are written, in no alphabet.
        added = getattr(self.tokenizer, "added_tokens_decoder", {})
        special = {i for i, token in added.items() if token.special}
        special |= set(self.tokenizer.all_special_ids)
        spell = _spell_byte_level if self._is_byte_level() else _spell_pieces
        out = []
        for i, piece in enumerate(pieces):
            if i in special or piece is None:
                out.append(b"")
            else:
                out.append(str(added[i]).encode() if i in added else spell(piece))
        return out

    def _is_byte_level(self) -> bool:
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            return False
        return '"ByteLevel"' in json.dumps(json.loads(backend.to_str()).get("decoder"))

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the vocabulary: equal when token ids mean the same."""
        digest = hashlib.sha256()
        for piece in self.token_bytes:
            digest.update(len(piece).to_bytes(4, "little") + piece)
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is not None:  # the same pieces may be put together by other rules
            model = json.loads(backend.to_str()).get("model", {})
            digest.update(json.dumps(model.get("merges")).encode())
        return digest.hexdigest()

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, with nothing added before or after it.

        Some tokenizers put a space before every text; where the text has one there already, that
        is the one, so what a model wrote is read as the model wrote it. The name of a special
        token is read as that token.
        """
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of many texts at once."""
        clean = [t.encode("utf-8", "replace").decode("utf-8") for t in texts]
        if not clean:
            return []
        if self._adds_space:
            clean = [t.removeprefix(" ") for t in clean]
        return self.tokenizer(clean, add_special_tokens=False)["input_ids"]

    @cached_property
    def _adds_space(self) -> bool:
        """Whether the tokenizer puts a space before a text that begins with one."""
        ids = self.tokenizer(" a", add_special_tokens=False)["input_ids"]
        return self.decode(ids) == "  a"

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text that tokens spell; bytes that are not UTF-8 become U+FFFD."""
        table = self.token_bytes
        return b"".join([table[i] if i < len(table) else b"" for i in token_ids]).decode(
            "utf-8", "replace"
        )

    def token_ends(self, token_ids: Sequence[int]) -> np.ndarray:
        """Where in `decode(token_ids)` each token ends, in characters: int32 (n_tokens,).

        A character that several tokens share ends with the token that completes it.
        """
        table = self.token_bytes
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        ends, at = np.zeros(len(token_ids), dtype=np.int32), 0
        for n, i in enumerate(token_ids):
            last = n == len(token_ids) - 1
            at += len(decoder.decode(table[i] if i < len(table) else b"", final=last))
            ends[n] = at
        return ends
