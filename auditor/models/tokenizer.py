"""Token ids to text and back, with the character offset of every token."""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from itertools import takewhile
from pathlib import Path

import numpy as np

from auditor.errors import ConfigError, ModelError
from auditor.models.chat_template import ChatTurn, chat_turn

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
# Piece placed before and after another one to find its text in the middle of a sequence.
_NEIGHBOUR = "a"

# A text split at the tokens that decode to nothing: the strings between them, and their ids.
Parts = list[str | int]


@cache
def _byte_alphabet() -> dict[str, int]:
    """The printable characters that byte-level BPE (such as GPT-2's) uses for raw bytes."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return {character: byte for byte, character in bytes_to_unicode().items()}


def _sentencepiece_bytes(piece: str) -> bytes:
    """Bytes of a SentencePiece piece: "▁" is a space, <0xNN> a byte."""
    if match := _BYTE_PIECE.fullmatch(piece):
        return bytes([int(match[1], 16)])
    return piece.replace("▁", " ").encode("utf-8", "replace")


class Vocabulary:
    """Encoding, decoding and token offsets of a tokenizer.

    Decoding reproduces the tokenizer's decoder without special tokens and without cleaning up
    spaces. Special tokens are those marked so in tokenizer.json; an ordinary token that the
    settings name as padding or EOS is decoded. One exception: an added token of a byte-level
    tokenizer decodes to its own name, which that decoder would interpret as bytes.

    `bos` is the token that starts a text; it overrides the tokenizer's BOS.
    """

    def __init__(self, tokenizer, bos: str | None = None):
        self.tokenizer = tokenizer
        self.bos_id: int | None = tokenizer.bos_token_id
        self.eos_id: int | None = tokenizer.eos_token_id
        if bos is not None:
            self.bos_id = tokenizer.get_vocab().get(bos)
            if self.bos_id is None:
                special = ", ".join(map(str, tokenizer.all_special_tokens)) or "none"
                raise ConfigError(
                    f"--bos must be a token of the model's vocabulary; got {bos!r}. Choose one of "
                    f"its special tokens: {special}."
                )

    @property
    def start(self) -> list[int]:
        """The tokens that start a text: BOS, or none without BOS."""
        return [] if self.bos_id is None else [self.bos_id]

    def chat_turn(self, name: str) -> ChatTurn:
        """The tokens of the chat template around a user's message; `name` is the model's."""
        return chat_turn(self.tokenizer, name)

    @cached_property
    def _pieces(self) -> list[str | None]:
        """The tokenizer's piece for every id, or None."""
        size = max(len(self.tokenizer), max(self.tokenizer.get_vocab().values(), default=-1) + 1)
        return self.tokenizer.convert_ids_to_tokens(list(range(size)))

    @cached_property
    def _added(self) -> dict:
        """Tokens added to the learned vocabulary, by id."""
        return self.tokenizer.added_tokens_decoder

    @cached_property
    def _special(self) -> set[int]:
        """Ids of special tokens, which decode to nothing."""
        special = {i for i, token in self._added.items() if token.special}
        return special - set(self._named_only())

    def _named_only(self) -> Iterator[int]:
        """Ordinary tokens that only the settings name as special (padding or EOS, say).

        transformers marks them as special; tokenizer.json does not.
        """
        file = Path(self.tokenizer.name_or_path or "") / "tokenizer.json"
        if "gguf_file" in self.tokenizer.init_kwargs or not file.is_file():
            return
        stored = json.loads(file.read_text(encoding="utf-8"))
        added = {token["content"]: token["special"] for token in stored.get("added_tokens") or []}
        learned = stored.get("model", {}).get("vocab", {})
        names = set(learned) if isinstance(learned, dict) else {piece for piece, *_ in learned}
        for i in self.tokenizer.all_special_ids:
            name = self.tokenizer.convert_ids_to_tokens(i)
            if not added.get(name, name not in names):
                yield i

    @cached_property
    def token_bytes(self) -> list[bytes]:
        """Bytes of each token in the middle of a text; empty for special tokens."""
        to_bytes = self._added_bytes if self._is_byte_level else self._chunk_bytes
        return [
            b"" if piece is None or i in self._special else to_bytes(i, piece)
            for i, piece in enumerate(self._pieces)
        ]

    def _added_bytes(self, i: int, piece: str) -> bytes:
        if i in self._added:  # plain text, not the byte alphabet
            return str(self._added[i]).encode()
        table = _byte_alphabet()
        is_bytes = all(c in table for c in piece)
        return bytes(table[c] for c in piece) if is_bytes else piece.encode("utf-8", "replace")

    def _chunk_bytes(self, i: int, piece: str) -> bytes:
        if self._has_byte_pieces and (match := _BYTE_PIECE.fullmatch(piece)):
            return bytes([int(match[1], 16)])
        return self._chunk(piece).encode("utf-8", "replace")

    @cached_property
    def _decoder(self) -> dict | None:
        """The decoder in tokenizer.json."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        return None if backend is None else json.loads(backend.to_str()).get("decoder")

    @cached_property
    def _is_byte_level(self) -> bool:
        """Whether a text is the concatenation of its tokens' bytes."""
        if self._decoder is None:
            return False
        steps = [d["type"] for d in self._decoder.get("decoders", [self._decoder])]
        return "ByteLevel" in steps and set(steps) <= {"ByteLevel", "Fuse"}

    @cached_property
    def _has_byte_pieces(self) -> bool:
        return '"ByteFallback"' in json.dumps(self._decoder)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the vocabulary: equal if token ids have the same meaning.

        It hashes pieces, not decoded text, so that runs resume under a version that decodes better.
        """
        special = {i for i, token in self._added.items() if token.special}
        special |= set(self.tokenizer.all_special_ids)
        digest = hashlib.sha256()
        is_byte_level = '"ByteLevel"' in json.dumps(self._decoder)
        for i, piece in enumerate(self._pieces):
            raw = b""
            if piece is not None and i not in special:
                raw = _sentencepiece_bytes(piece)
                if is_byte_level or i in self._added:
                    raw = self._added_bytes(i, piece)
            digest.update(len(raw).to_bytes(4, "little") + raw)
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is not None:  # the same pieces may have other merge rules
            model = json.loads(backend.to_str()).get("model", {})
            digest.update(json.dumps(model.get("merges")).encode())
        return digest.hexdigest()

    # ------------------------------------------------------------------ text to tokens
    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without added special tokens.

        The name of a special token is encoded as that token.
        """
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` many texts at once."""
        clean = [_clean(t) for t in texts]
        return self.tokenizer(clean, add_special_tokens=False)["input_ids"] if clean else []

    def encode_after(
        self, prompts: Sequence[str], texts: Sequence[str]
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Token ids of prompts and of the texts that continue them.

        Each pair is encoded as one string and split at the end of the prompt. A token that crosses
        the split belongs to the text, so that the whole text is scored, together with the prompt's
        last characters.

        Parameters
        ----------
        prompts, texts : n str each

        Returns
        -------
        two lists of n lists of int: the prompts' tokens and the texts'.
        """
        return self.encode_parts([[p] for p in prompts], [[t] for t in texts])

    def encode_parts(
        self, prompts: Sequence[Parts], texts: Sequence[Parts]
    ) -> tuple[list[list[int]], list[list[int]]]:
        """`encode_after` for split texts; the token ids in them are kept.

        Each string after a token is encoded as the start of a document. A prompt's last string and
        a text's first are encoded together.
        """
        pairs: list[tuple[str, str]] = []
        for prompt, text in zip(prompts, texts, strict=True):
            before, own, seam = _joined(prompt, text)
            pairs += [(p, "") for p in before if isinstance(p, str)]
            pairs += [seam, *(("", t) for t in own if isinstance(t, str))]
        coded = iter(self._encode_cut(pairs))
        out: tuple[list[list[int]], list[list[int]]] = ([], [])
        for prompt, text in zip(prompts, texts, strict=True):
            before, own, _ = _joined(prompt, text)
            first = [i for p in before for i in (next(coded)[0] if isinstance(p, str) else [p])]
            left, right = next(coded)
            rest = [i for t in own for i in (next(coded)[1] if isinstance(t, str) else [t])]
            out[0].append(first + left)
            out[1].append(right + rest)
        return out

    def _encode_cut(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
        """The tokens of both halves of each text, encoded as one."""
        wholes, cuts = [], []
        for left, right in ((_clean(a), _clean(b)) for a, b in pairs):
            # Decoded text may begin with the space that the tokenizer adds.
            added = self._adds_space and (left + right).startswith(" ")
            wholes.append((left + right)[added:])
            cuts.append(max(len(left) - added, 0))
        if not wholes:
            return []
        if not self.tokenizer.is_fast:
            coded = self.encode_all(wholes)
            ends = [self._ends_in(w, i) for w, i in zip(wholes, coded, strict=True)]
        else:
            found = self.tokenizer(wholes, add_special_tokens=False, return_offsets_mapping=True)
            coded = found["input_ids"]
            ends = [[end for _, end in places] for places in found["offset_mapping"]]
        out = []
        for ids, until, cut in zip(coded, ends, cuts, strict=True):
            n = next((n for n, end in enumerate(until) if end > cut), len(ids)) if cut else 0
            out.append((ids[:n], ids[n:]))
        return out

    def _ends_in(self, text: str, token_ids: list[int]) -> list[int]:
        """Where tokens end in the encoded text, aligned at its end."""
        ends = self.token_ends(token_ids)
        return (ends + len(text) - ends[-1]).tolist() if len(ends) else []

    @cached_property
    def _adds_space(self) -> bool:
        """Whether the decoder keeps the space that the tokenizer adds before every text."""
        ids = self.tokenizer(" a", add_special_tokens=False)["input_ids"]
        return self.decode(ids) == "  a"

    # ------------------------------------------------------------------ tokens to text
    def decode(self, token_ids: Sequence[int], after: Sequence[int] = ()) -> str:
        """Decode tokens; bytes that are not UTF-8 become U+FFFD.

        Parameters
        ----------
        token_ids : sequence of int
        after : sequence of int
            Preceding tokens: many decoders drop the space only before the first word of a text.
        """
        if self._is_byte_level:
            table = self.token_bytes
            raw = b"".join([table[i] if i < len(table) else b"" for i in token_ids])
            return raw.decode("utf-8", "replace")
        return self._follows(self._written(after), self._written(token_ids))

    def token_ends(self, token_ids: Sequence[int], after: Sequence[int] = ()) -> np.ndarray:
        """End of each token in `decode(token_ids, after)`, in characters: int32 (n_tokens,).

        A character shared by several tokens belongs to the token that completes it.
        """
        if self._is_byte_level:
            return self._byte_level_ends(token_ids)
        names = self._names
        writes = np.array([names.get(i) is not None for i in token_ids], dtype=bool)
        pieces, before = self._written(token_ids), self._written(after)
        ends = np.append(0, self._piece_ends(pieces, before)).astype(np.int32)
        return ends[np.cumsum(writes)]

    def writes(self, token_ids: Sequence[int]) -> np.ndarray:
        """Which tokens decode to text, even a part of a character: bool (n_tokens,)."""
        table = self.token_bytes
        return np.array([i < len(table) and bool(table[i]) for i in token_ids], dtype=bool)

    def ends_in(self, text: str, token_ids: Sequence[int], after: Sequence[int]) -> np.ndarray:
        """`token_ends` in the stored text of a sample; `after` is its prompt with BOS.

        Earlier versions decoded differently (for example with a leading space). The ends are then
        shifted or clipped to the stored text.
        """
        ends = self.token_ends(token_ids, self.without_bos(after))
        if len(ends) and ends[-1] == len(text) - 1 and text.startswith(" "):
            ends = ends + 1
        return np.minimum(ends, len(text)).astype(np.int32)

    def without_bos(self, token_ids: Sequence[int]) -> Sequence[int]:
        """The tokens without a leading BOS."""
        return token_ids[1:] if len(token_ids) and token_ids[0] == self.bos_id else token_ids

    def parts(self, token_ids: Sequence[int], after: Sequence[int] = ()) -> Parts:
        """Decode tokens, split at those that decode to nothing: strings, and ids between them.

        The first string continues `after`, unless `after` ends in such a token; the others are
        decoded as the start of a text.
        """
        names = self._names
        out: Parts = []
        run: list[int] = []
        before = list(after) if after and names.get(after[-1]) is not None else []
        for i in [*token_ids, None]:
            if i is not None and names.get(i) is not None:
                run.append(i)
                continue
            if run:
                out.append(self.decode(run, before))
            run, before = [], []
            if i is not None:
                out.append(int(i))
        return out

    def text_parts(self, text: str) -> Parts:
        """A text split at the names of special tokens, which `encode` maps to those tokens."""
        if self._special_names is None:
            return [text]
        pieces = self._special_names.split(_clean(text))
        known = self.tokenizer.get_vocab()
        # Pieces at odd indices are the names.
        cut = [known[p] if n % 2 else p for n, p in enumerate(pieces)]
        return [p for p in cut if p != ""] or [""]

    @cached_property
    def _special_names(self) -> re.Pattern | None:
        names = sorted((str(self._added[i]) for i in self._special), key=len, reverse=True)
        return re.compile(f"({'|'.join(map(re.escape, names))})") if names else None

    def name_of(self, token_id: int) -> str:
        """The tokenizer's name of a token, or an empty string."""
        return (self._pieces[token_id] or "") if 0 <= token_id < len(self._pieces) else ""

    def counterpart(self, token_id: int, other: Vocabulary) -> list[int]:
        """Tokens of another tokenizer that replace a token of this one that decodes to nothing.

        The special token of the same name. Otherwise, for BOS and EOS, the other's EOS (or BOS if
        it has no EOS); empty for other tokens.
        """
        same = other.tokenizer.get_vocab().get(self.name_of(token_id))
        if same is not None and same in other._special:
            return [same]
        if token_id not in (self.bos_id, self.eos_id):
            return []
        end = other.bos_id if other.eos_id is None else other.eos_id
        return [] if end is None else [end]

    @cached_property
    def _names(self) -> dict[int, str]:
        """The pieces of all tokens that decode to text."""
        return {
            i: piece
            for i, piece in enumerate(self._pieces)
            if piece is not None and i not in self._special
        }

    def _written(self, token_ids: Sequence[int]) -> list[str]:
        """The pieces of those of the given tokens that decode to text."""
        names = self._names
        return [piece for i in token_ids if (piece := names.get(i)) is not None]

    def _decode_pieces(self, pieces: list[str]) -> str:
        """Decode pieces with the tokenizer's decoder."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if not pieces:
            return ""
        if backend is None:
            return self.tokenizer.convert_tokens_to_string(pieces)
        return " ".join(pieces) if backend.decoder is None else backend.decoder.decode(pieces)

    def _follows(self, before: list[str], pieces: list[str]) -> str:
        """The text that `pieces` add after `before`."""
        text, begin = self._decode_pieces([*before, *pieces]), self._decode_pieces(before)
        # The beginnings differ if the pieces complete a character.
        return text[len(begin) if text.startswith(begin) else n_common([begin, text]) :]

    def _chunk(self, piece: str) -> str:
        """Text of a piece in the middle of a sequence."""
        if piece not in self._chunks:
            text = self._decode_pieces([_NEIGHBOUR, piece, _NEIGHBOUR])
            begin, tail = self._neighbour_sizes
            self._chunks[piece] = text[begin : len(text) - tail]
        return self._chunks[piece]

    @cached_property
    def _chunks(self) -> dict[str, str]:
        return {}

    @cached_property
    def _neighbour_sizes(self) -> tuple[int, int]:
        """Characters of the neighbour before and after a piece."""
        begin = len(self._decode_pieces([_NEIGHBOUR]))
        return begin, len(self._decode_pieces([_NEIGHBOUR, _NEIGHBOUR])) - begin

    def _piece_ends(self, pieces: list[str], before: list[str]) -> np.ndarray:
        """End of each piece in `_follows(before, pieces)`, in characters."""
        if not pieces:
            return np.zeros(0, dtype=np.int64)
        text = self._follows(before, pieces)
        # Trailing bytes of `before` may begin the first piece's character.
        n_open = self._n_open_bytes(before)
        chunks = self._middle_chunks([*before[len(before) - n_open :], *pieces])[n_open:]
        last = self._decode_pieces([_NEIGHBOUR, pieces[-1]])[len(_NEIGHBOUR) :]
        for ending in (chunks[-1], last):
            # The first piece may decode differently at the start of a text.
            rest = [*chunks[1:-1], ending][: len(chunks) - 1]
            if text.endswith("".join(rest)):
                sizes = np.array([len(c) for c in rest], dtype=np.int64)
                return len(text) - sizes.sum() + np.append(0, np.cumsum(sizes))
        # The decoder depends on more than adjacent pieces: decode every prefix.
        grown = [self._follows(before, pieces[: n + 1]) for n in range(len(pieces))]
        ends = [n_common([text, so_far]) for so_far in grown]
        return np.maximum.accumulate(ends)

    def _n_open_bytes(self, pieces: list[str]) -> int:
        """Number of trailing byte pieces."""
        if not self._has_byte_pieces:
            return 0
        return sum(1 for _ in takewhile(_BYTE_PIECE.fullmatch, reversed(pieces)))

    def _middle_chunks(self, pieces: list[str]) -> list[str]:
        """Text of each piece; byte runs decode as UTF-8, or to U+FFFD for each byte."""
        if not self._has_byte_pieces:
            return [self._chunk(piece) for piece in pieces]
        chunks: list[str] = []
        run: list[int] = []
        for piece in [*pieces, ""]:
            if match := _BYTE_PIECE.fullmatch(piece):
                run.append(int(match[1], 16))
                continue
            if run:
                chunks += _byte_chunks(bytes(run))
                run = []
            chunks.append(self._chunk(piece))
        return chunks[:-1]

    def _byte_level_ends(self, token_ids: Sequence[int]) -> np.ndarray:
        table = self.token_bytes
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        ends, at = np.zeros(len(token_ids), dtype=np.int32), 0
        for n, i in enumerate(token_ids):
            last = n == len(token_ids) - 1
            at += len(decoder.decode(table[i] if i < len(table) else b"", final=last))
            ends[n] = at
        return ends


def check_rows(name: str, vocabulary, n_vocab: int, ids: Sequence[int], where: str) -> None:
    """Raise ModelError if a token has no row in the weights (added without resizing).

    `where` is the source of the tokens, as the subject of the error's sentence.
    """
    token = max(ids, default=-1)
    if token < n_vocab:
        return
    n = len(vocabulary.tokenizer) - n_vocab
    more = f"{n:,} token{'s' if n > 1 else ''} more than its weights"
    raise ModelError(
        f"{name}: its tokenizer has {more}, and {where} contains one of them "
        f"({vocabulary.name_of(token)}, id {token}). Remove it from the text, or resize the "
        "model's embeddings."
    )


def n_common(sequences: Sequence[Sequence]) -> int:
    """Length of the longest common prefix of all sequences.

    >>> n_common(["abc", "abd"]), n_common([[1, 2], [1]]), n_common([])
    (2, 1, 0)
    """
    together = zip(*sequences, strict=False)
    return sum(1 for _ in takewhile(lambda some: len(set(some)) == 1, together))


def _clean(text: str) -> str:
    """Replace lone surrogates, which tokenizers reject, by "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _joined(prompt: Parts, text: Parts) -> tuple[Parts, Parts, tuple[str, str]]:
    """Parts before and after the seam of prompt and text, and the two strings that meet at it."""
    left = prompt[-1] if prompt and isinstance(prompt[-1], str) else None
    right = text[0] if text and isinstance(text[0], str) else None
    before = prompt if left is None else prompt[:-1]
    after = text if right is None else text[1:]
    return before, after, (left or "", right or "")


def _byte_chunks(raw: bytes) -> list[str]:
    """The character completed by each byte; all U+FFFD if the bytes are not valid UTF-8."""
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return ["\ufffd"] * len(raw)
    decoder = codecs.getincrementaldecoder("utf-8")()
    return [decoder.decode(raw[n : n + 1]) for n in range(len(raw))]
