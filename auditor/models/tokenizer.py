"""Token ids to text and back, with the place of every token in the text."""

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

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
# Stands before and after a piece whose writing in the middle of a text is asked for.
_NEIGHBOUR = "a"

# A text cut at the tokens that write nothing: what stands between them, and their ids.
Parts = list[str | int]


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

    Tokens spell the text that the tokenizer's own decoder gives, special tokens left out and no
    spaces cleaned up, and each token's place in that text is known. Special is what tokenizer.json
    marks so; an ordinary token that the settings name as padding or EOS is written. (One exception:
    an added token of a byte-level tokenizer stands as it is written, which that decoder would take
    for bytes.)

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
    def _pieces(self) -> list[str | None]:
        """The tokenizer's own name of every id; None where it has none."""
        size = max(len(self.tokenizer), max(self.tokenizer.get_vocab().values(), default=-1) + 1)
        return self.tokenizer.convert_ids_to_tokens(list(range(size)))

    @cached_property
    def _added(self) -> dict:
        """Tokens that were added to the learned ones, by id."""
        return getattr(self.tokenizer, "added_tokens_decoder", {})

    @cached_property
    def _special(self) -> set[int]:
        """Ids of special tokens, which write nothing."""
        special = {i for i, token in self._added.items() if token.special}
        return special - set(self._named_only())

    def _named_only(self) -> Iterator[int]:
        """Ordinary tokens that are special by name only: as padding or EOS, say.

        transformers marks as special what a tokenizer's settings name; tokenizer.json does not.
        """
        folder = getattr(self.tokenizer, "name_or_path", "") or ""
        file = Path(folder) / "tokenizer.json"
        if "gguf_file" in getattr(self.tokenizer, "init_kwargs", {}) or not file.is_file():
            return
        told = json.loads(file.read_text(encoding="utf-8"))
        added = {token["content"]: token["special"] for token in told.get("added_tokens") or []}
        learned = told.get("model", {}).get("vocab", {})
        names = set(learned) if isinstance(learned, dict) else {piece for piece, *_ in learned}
        for i in self.tokenizer.all_special_ids:
            name = self.tokenizer.convert_ids_to_tokens(i)
            if not added.get(name, name not in names):
                yield i

    @cached_property
    def token_bytes(self) -> list[bytes]:
        """What each token id writes in the middle of a text, as bytes; special tokens nothing."""
        spell = self._spell_added if self._is_byte_level else self._chunk_bytes
        return [
            b"" if piece is None or i in self._special else spell(i, piece)
            for i, piece in enumerate(self._pieces)
        ]

    def _spell_added(self, i: int, piece: str) -> bytes:
        # Added tokens stand as they are written, in no alphabet.
        return str(self._added[i]).encode() if i in self._added else _spell_byte_level(piece)

    def _chunk_bytes(self, i: int, piece: str) -> bytes:
        if self._has_byte_pieces and (match := _BYTE_PIECE.fullmatch(piece)):
            return bytes([int(match[1], 16)])
        return self._chunk(piece).encode("utf-8", "replace")

    @cached_property
    def _decoder(self) -> dict | None:
        """The decoder that tokenizer.json describes."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        return None if backend is None else json.loads(backend.to_str()).get("decoder")

    @cached_property
    def _is_byte_level(self) -> bool:
        """Whether a text is its tokens' bytes one after the other, and nothing else."""
        if self._decoder is None:
            return False
        steps = [d["type"] for d in self._decoder.get("decoders", [self._decoder])]
        return "ByteLevel" in steps and set(steps) <= {"ByteLevel", "Fuse"}

    @cached_property
    def _has_byte_pieces(self) -> bool:
        return '"ByteFallback"' in json.dumps(self._decoder)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the vocabulary: equal when token ids mean the same.

        Of the pieces, not of what the decoder makes of them: a run goes on under a version that
        spells better.
        """
        special = {i for i, token in self._added.items() if token.special}
        special |= set(self.tokenizer.all_special_ids)
        digest = hashlib.sha256()
        is_byte_level = '"ByteLevel"' in json.dumps(self._decoder)
        for i, piece in enumerate(self._pieces):
            raw = b""
            if piece is not None and i not in special:
                raw = _spell_pieces(piece)
                if is_byte_level or i in self._added:
                    raw = self._spell_added(i, piece)
            digest.update(len(raw).to_bytes(4, "little") + raw)
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is not None:  # the same pieces may be put together by other rules
            model = json.loads(backend.to_str()).get("model", {})
            digest.update(json.dumps(model.get("merges")).encode())
        return digest.hexdigest()

    # ------------------------------------------------------------------ text to tokens
    def encode(self, text: str) -> list[int]:
        """Token ids of a text as the tokenizer makes them, with nothing added before or after it.

        The name of a special token is read as that token.
        """
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of many texts at once."""
        clean = [_clean(t) for t in texts]
        return self.tokenizer(clean, add_special_tokens=False)["input_ids"] if clean else []

    def encode_after(
        self, prompts: Sequence[str], texts: Sequence[str]
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Token ids of prompts, and of the texts that go on with them.

        Prompt and text are encoded as one string and cut where the prompt ends. A token that
        reaches across the cut is the text's, so that all of the text is judged; with it the
        prompt's last characters are.

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
        """`encode_after` of texts that were cut at tokens; these stay where they are.

        Each string begins anew after a token, as a document does; a prompt's last string and a
        text's first are one.
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
            # What tokens spelt may begin with the space that the tokenizer puts there itself.
            added = self._adds_space and (left + right).startswith(" ")
            wholes.append((left + right)[added:])
            cuts.append(max(len(left) - added, 0))
        if not wholes:
            return []
        if not getattr(self.tokenizer, "is_fast", False):
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
        """Where tokens end in the text that they were made of, counted from its end."""
        ends = self.token_ends(token_ids)
        return (ends + len(text) - ends[-1]).tolist() if len(ends) else []

    @cached_property
    def _adds_space(self) -> bool:
        """Whether the decoder leaves the space that the tokenizer puts before every text."""
        ids = self.tokenizer(" a", add_special_tokens=False)["input_ids"]
        return self.decode(ids) == "  a"

    # ------------------------------------------------------------------ tokens to text
    def decode(self, token_ids: Sequence[int], after: Sequence[int] = ()) -> str:
        """The text that tokens spell; bytes that are not UTF-8 become U+FFFD.

        Parameters
        ----------
        token_ids : sequence of int
        after : sequence of int
            Tokens before them: many tokenizers leave out the space before a text's first word, and
            write it before another.
        """
        if self._is_byte_level:
            table = self.token_bytes
            raw = b"".join([table[i] if i < len(table) else b"" for i in token_ids])
            return raw.decode("utf-8", "replace")
        return self._follows(self._written(after), self._written(token_ids))

    def token_ends(self, token_ids: Sequence[int], after: Sequence[int] = ()) -> np.ndarray:
        """Where in `decode(token_ids, after)` each token ends, in characters: int32 (n_tokens,).

        A character that several tokens share ends with the token that completes it.
        """
        if self._is_byte_level:
            return self._byte_level_ends(token_ids)
        names = self._names
        writes = np.array([names.get(i) is not None for i in token_ids], dtype=bool)
        pieces, before = self._written(token_ids), self._written(after)
        ends = np.append(0, self._piece_ends(pieces, before)).astype(np.int32)
        return ends[np.cumsum(writes)]

    def writes(self, token_ids: Sequence[int]) -> np.ndarray:
        """Which tokens write something, if only a part of a character: bool (n_tokens,)."""
        table = self.token_bytes
        return np.array([i < len(table) and bool(table[i]) for i in token_ids], dtype=bool)

    def ends_in(self, text: str, token_ids: Sequence[int], after: Sequence[int]) -> np.ndarray:
        """`token_ends` in a sample's text as its run has it; `after` is its prompt, BOS and all.

        A run of a version that wrote the space before a first word, or spelt in another way, has a
        text that is no longer what its tokens spell: ends then keep within it.
        """
        ends = self.token_ends(token_ids, self.without_bos(after))
        if len(ends) and ends[-1] == len(text) - 1 and text.startswith(" "):
            ends = ends + 1
        return np.minimum(ends, len(text)).astype(np.int32)

    def without_bos(self, token_ids: Sequence[int]) -> Sequence[int]:
        """Tokens without the BOS that they begin with: no text, even where it has a name's own."""
        return token_ids[1:] if len(token_ids) and token_ids[0] == self.bos_id else token_ids

    def parts(self, token_ids: Sequence[int], after: Sequence[int] = ()) -> Parts:
        """What tokens spell, cut at those that write nothing: texts, and the ids between them.

        The first text is spelt after `after` unless a token that writes nothing is its last; the
        others begin anew.
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
        """A text cut at the names of special tokens, which `encode` reads as those tokens."""
        if self._special_names is None:
            return [text]
        pieces = self._special_names.split(_clean(text))
        known = self.tokenizer.get_vocab()
        # Odd ones are the names.
        cut = [known[p] if n % 2 else p for n, p in enumerate(pieces)]
        return [p for p in cut if p != ""] or [""]

    @cached_property
    def _special_names(self) -> re.Pattern | None:
        names = sorted((str(self._added[i]) for i in self._special), key=len, reverse=True)
        return re.compile(f"({'|'.join(map(re.escape, names))})") if names else None

    def name_of(self, token_id: int) -> str:
        """The tokenizer's name of a token; empty where it has none."""
        return (self._pieces[token_id] or "") if 0 <= token_id < len(self._pieces) else ""

    def counterpart(self, token_id: int, theirs: Vocabulary) -> list[int]:
        """What stands in another tokenizer's text for a token of this one that writes nothing.

        The special token of the same name; for BOS and EOS else its own EOS, or BOS where it has
        no EOS; nothing for others.
        """
        same = theirs.tokenizer.get_vocab().get(self.name_of(token_id))
        if same is not None and same in theirs._special:
            return [same]
        if token_id not in (self.bos_id, self.eos_id):
            return []
        end = theirs.bos_id if theirs.eos_id is None else theirs.eos_id
        return [] if end is None else [end]

    @cached_property
    def _names(self) -> dict[int, str]:
        """The pieces of the tokens that write something."""
        return {
            i: piece
            for i, piece in enumerate(self._pieces)
            if piece is not None and i not in self._special
        }

    def _written(self, token_ids: Sequence[int]) -> list[str]:
        """The pieces of those tokens that write something."""
        names = self._names
        return [piece for i in token_ids if (piece := names.get(i)) is not None]

    def _put_together(self, pieces: list[str]) -> str:
        """The text of pieces, by the tokenizer's own decoder."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if not pieces:
            return ""
        if backend is None:
            return self.tokenizer.convert_tokens_to_string(pieces)
        return " ".join(pieces) if backend.decoder is None else backend.decoder.decode(pieces)

    def _follows(self, before: list[str], pieces: list[str]) -> str:
        """The text of pieces after those before."""
        whole, begin = self._put_together([*before, *pieces]), self._put_together(before)
        if whole.startswith(begin):
            return whole[len(begin) :]
        # They part where the pieces complete a character.
        return whole[n_common([begin, whole]) :]

    def _chunk(self, piece: str) -> str:
        """What a piece writes in the middle of a text."""
        if piece not in self._chunks:
            whole = self._put_together([_NEIGHBOUR, piece, _NEIGHBOUR])
            begin, tail = self._neighbour_sizes
            self._chunks[piece] = whole[begin : len(whole) - tail]
        return self._chunks[piece]

    @cached_property
    def _chunks(self) -> dict[str, str]:
        return {}

    @cached_property
    def _neighbour_sizes(self) -> tuple[int, int]:
        """Characters that a neighbour writes before a piece, and behind one."""
        begin = len(self._put_together([_NEIGHBOUR]))
        return begin, len(self._put_together([_NEIGHBOUR, _NEIGHBOUR])) - begin

    def _piece_ends(self, pieces: list[str], before: list[str]) -> np.ndarray:
        """Where each piece ends in what they write after those before, in characters."""
        if not pieces:
            return np.zeros(0, dtype=np.int64)
        text = self._follows(before, pieces)
        # Bytes at the end of what comes before may begin the first piece's character.
        n_open = self._n_open_bytes(before)
        chunks = self._middle_chunks([*before[len(before) - n_open :], *pieces])[n_open:]
        last = self._put_together([_NEIGHBOUR, pieces[-1]])[len(_NEIGHBOUR) :]
        for ending in (chunks[-1], last):
            # The first piece is spelt in its own way where nothing comes before it.
            rest = [*chunks[1:-1], ending][: len(chunks) - 1]
            if text.endswith("".join(rest)):
                sizes = np.array([len(c) for c in rest], dtype=np.int64)
                return len(text) - sizes.sum() + np.append(0, np.cumsum(sizes))
        # A decoder that looks beyond a piece's neighbours is asked again and again.
        grown = [self._follows(before, pieces[: n + 1]) for n in range(len(pieces))]
        ends = [n_common([text, so_far]) for so_far in grown]
        return np.maximum.accumulate(ends)

    def _n_open_bytes(self, pieces: list[str]) -> int:
        """How many pieces at the end are bytes."""
        if not self._has_byte_pieces:
            return 0
        return sum(1 for _ in takewhile(_BYTE_PIECE.fullmatch, reversed(pieces)))

    def _middle_chunks(self, pieces: list[str]) -> list[str]:
        """What each piece writes; a run of bytes is its characters, or U+FFFD for each byte."""
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
    """An error if tokens have no row in the weights: some were added, and the weights not resized.

    Parameters
    ----------
    name : what the user calls the model
    vocabulary : Vocabulary
    n_vocab : rows of the weights
    ids : token ids
    where : what holds them, as the subject of a sentence

    Raises
    ------
    ModelError
    """
    token = max(ids, default=-1)
    if token < n_vocab:
        return
    n = len(vocabulary.tokenizer) - n_vocab
    more = f"{n:,} token{'s' if n > 1 else ''} more than its weights"
    raise ModelError(
        f"{name}: its tokenizer has {more} ({vocabulary.name_of(token)}, id {token}); {where} "
        "holds it. Take it out of the text, or resize the model's embeddings."
    )


def n_common(sequences: Sequence[Sequence]) -> int:
    """Elements with which all of the sequences begin.

    >>> n_common(["abc", "abd"]), n_common([[1, 2], [1]]), n_common([])
    (2, 1, 0)
    """
    together = zip(*sequences, strict=False)
    return sum(1 for _ in takewhile(lambda some: len(set(some)) == 1, together))


def _clean(text: str) -> str:
    """A lone surrogate, which no tokenizer takes, becomes "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _joined(prompt: Parts, text: Parts) -> tuple[Parts, Parts, tuple[str, str]]:
    """What stands before and after the seam, and the two strings that meet at it."""
    left = prompt[-1] if prompt and isinstance(prompt[-1], str) else None
    right = text[0] if text and isinstance(text[0], str) else None
    before = prompt if left is None else prompt[:-1]
    after = text if right is None else text[1:]
    return before, after, (left or "", right or "")


def _byte_chunks(raw: bytes) -> list[str]:
    """The character that each byte completes, or U+FFFD for each byte where not all are UTF-8."""
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return ["\ufffd"] * len(raw)
    decoder = codecs.getincrementaldecoder("utf-8")()
    return [decoder.decode(raw[n : n + 1]) for n in range(len(raw))]
