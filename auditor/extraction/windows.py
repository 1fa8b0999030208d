"""Windows of training text: a prefix to prompt with, and the suffix that follows it."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.corpus.reading import Document
from auditor.errors import CorpusError
from auditor.models.interfaces import KnownModel
from auditor.models.tokenizer import Vocabulary, check_rows

# Of longer documents only a random excerpt of this many characters is tokenized.
_CHARS = 200_000


@dataclass(frozen=True, eq=False)
class Windows:
    """n windows of tokens, each from a different document unless made by `slide`.

    doc_id : list of str (n)
    token_ids : int32 array (n, prefix + suffix)
    char_ends : int64 array (n, prefix + suffix + 1)
        Character offsets in the document: the window's start, then the end of each token.
    text : list of str or None (n)
        The window's text in the document; None if the tokens do not decode to it exactly (some
        tokenizers normalize text).
    n_suffix : int
    n_documents, n_short : int
        Documents in the corpus; drawn documents that were too short and were skipped.
    from_start : bool
        Each window starts at the beginning of its document.
    """

    doc_id: list[str]
    token_ids: NDArray[np.int32]
    char_ends: NDArray[np.int64]
    text: list[str | None]
    n_suffix: int
    n_documents: int
    n_short: int
    from_start: bool = False

    def __len__(self) -> int:
        return len(self.doc_id)

    def check_rows(self, model: KnownModel) -> None:
        """Raise ModelError if a window has a token without a row in the model's weights."""
        for doc_id, ids in zip(self.doc_id, self.token_ids.tolist(), strict=True):
            check_rows(model.name, model.vocabulary, model.n_vocab, ids, doc_id)

    def begin(self, n_prefix: int) -> int:
        """Index in the window at which a prefix of that length begins.

        With `from_start` all prefixes begin at 0; otherwise all end at the same suffix.
        """
        return 0 if self.from_start else self.token_ids.shape[1] - self.n_suffix - n_prefix

    def prefixes(self, n_prefix: int) -> NDArray[np.int32]:
        """Tokens of the prefixes, int32 (n, n_prefix)."""
        at = self.begin(n_prefix)
        return self.token_ids[:, at : at + n_prefix]

    def suffixes(self, n_prefix: int) -> NDArray[np.int32]:
        """Tokens of the suffixes, int32 (n, m)."""
        at = self.begin(n_prefix) + n_prefix
        return self.token_ids[:, at : at + self.n_suffix]


def draw_windows(
    corpus: Iterable[Document],
    vocabulary: Vocabulary,
    *,
    n_prefix: int,
    n_suffix: int,
    examples: int,
    seed: int,
    from_start: bool = False,
) -> Windows:
    """Draw one window from each of `examples` distinct documents, in one pass.

    The choice of documents and positions depends only on their text and the seed, not on their
    order; copies of a document count once. Only the chosen windows are kept in memory.

    Parameters
    ----------
    corpus : iterable of Document
    vocabulary : Vocabulary
    n_prefix, n_suffix : int, tokens
    examples : int
        Maximum number of windows; fewer if the corpus has fewer documents that are long enough.
    seed : int
    from_start : bool
        Take each document's first tokens instead of a random position. Models with learned
        positions that were trained on whole documents (such as the testbed's) know these best.

    Returns
    -------
    Windows, in corpus order.

    Raises
    ------
    CorpusError
        If the corpus has no documents, or none of n_prefix + n_suffix tokens.
    """
    width = n_prefix + n_suffix
    heap: list[tuple[int, int, str, tuple]] = []  # chosen so far, least urgent first
    seen: set[int] = set()
    n_documents = n_short = 0
    for order, document in enumerate(corpus):
        n_documents += 1
        digest = _digest(seed, document.text)
        urgency = int.from_bytes(digest[:8], "little")
        if urgency in seen or (len(heap) == examples and -heap[0][0] < urgency):
            continue
        seen.add(urgency)
        place = 0 if from_start else int.from_bytes(digest[8:16], "little")
        cut = _cut(document.text, vocabulary, width, place)
        if cut is None:
            n_short += 1
            continue
        item = (-urgency, -order, document.doc_id, cut)
        if len(heap) < examples:
            heapq.heappush(heap, item)
        else:
            seen.discard(-heapq.heappushpop(heap, item)[0])
    if not heap:
        raise CorpusError(
            f"The corpus must hold documents of at least {width} tokens (prefix {n_prefix} + "
            f"suffix {n_suffix}); got {n_documents:,} documents, all shorter. Lower "
            "--prefix-tokens or --suffix-tokens."
            if n_documents
            else "The corpus has no documents. Name files that hold text."
        )
    chosen = sorted(heap, key=lambda item: -item[1])
    return _windows([(i[2], *i[3]) for i in chosen], n_suffix, n_documents, n_short, from_start)


def slide(
    document: Document, vocabulary: Vocabulary, *, n_prefix: int, n_suffix: int, stride: int
) -> Windows:
    """All windows of one document at steps of `stride` tokens, and one at its end.

    Raises
    ------
    CorpusError
        If the document has fewer than n_prefix + n_suffix tokens.
    """
    width = n_prefix + n_suffix
    encoded = _encode(document.text, vocabulary)
    if len(encoded.ids) < width:
        raise CorpusError(
            f"{document.doc_id} must have at least {width} tokens (prefix {n_prefix} + suffix "
            f"{n_suffix}); got {len(encoded.ids)}. Lower --prefix-tokens or --suffix-tokens."
        )
    last = len(encoded.ids) - width
    rows = [
        (document.doc_id, *_window(document.text, encoded, at, width, 0))
        for at in sorted({*range(0, last + 1, stride), last})
    ]
    return _windows(rows, n_suffix, 1, 0)


@dataclass(frozen=True, eq=False)
class _Encoded:
    """Tokens of a text, their character ends, and whether they decode to exactly that text."""

    ids: list[int]
    ends: NDArray[np.int64]
    is_exact: bool


def _encode(text: str, vocabulary: Vocabulary) -> _Encoded:
    ids = vocabulary.encode(text)
    ends = np.concatenate([[0], vocabulary.token_ends(ids)]).astype(np.int64)
    decoded = vocabulary.decode(ids)
    # A lone surrogate becomes "?", one character for one, so offsets stay right.
    clean = text.encode("utf-8", "replace").decode("utf-8")
    if decoded == f" {clean}":  # some tokenizers prepend a space
        decoded, ends = decoded[1:], np.maximum(ends - 1, 0)
    elif clean == f" {decoded}":  # others drop the text's leading space
        decoded, ends = clean, np.append(0, ends[1:] + 1)
    if decoded != clean and vocabulary.tokenizer.is_fast:
        # Normalized text (BERT's is lower-cased): the tokenizer knows where its tokens come from.
        coded = vocabulary.tokenizer(clean, add_special_tokens=False, return_offsets_mapping=True)
        found = [end for _, end in coded["offset_mapping"]]
        return _Encoded(ids, np.maximum.accumulate([0, *found]).astype(np.int64), True)
    return _Encoded(ids, ends, decoded == clean)


def _cut(text: str, vocabulary: Vocabulary, width: int, number: int):
    """A window at a position derived from `number`, or None if the text is too short."""
    start = 0
    if len(text) > _CHARS:
        start = number % (len(text) - _CHARS + 1)
        # Cut at a space, where a token of the whole text usually begins.
        space = text.find(" ", start, start + 1000) if start else 0
        start = start if space < 0 else space
        text = text[start : start + _CHARS]
    encoded = _encode(text, vocabulary)
    if len(encoded.ids) < width:
        return None
    return _window(text, encoded, number % (len(encoded.ids) - width + 1), width, start)


def _window(text: str, encoded: _Encoded, at: int, width: int, start: int):
    ends = encoded.ends[at : at + width + 1]
    shown = text[ends[0] : ends[-1]] if encoded.is_exact else None
    return encoded.ids[at : at + width], ends + start, shown


def _windows(rows, n_suffix, n_documents, n_short, from_start=False) -> Windows:
    return Windows(
        doc_id=[row[0] for row in rows],
        token_ids=np.array([row[1] for row in rows], dtype=np.int32),
        char_ends=np.array([row[2] for row in rows], dtype=np.int64),
        text=[row[3] for row in rows],
        n_suffix=n_suffix,
        n_documents=n_documents,
        n_short=n_short,
        from_start=from_start,
    )


def _digest(seed: int, text: str) -> bytes:
    key = seed.to_bytes(8, "little")
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=key, digest_size=16).digest()
