"""Windows: stretches of training text of which the model is given the first part."""

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

# Characters of a document that are turned into tokens, from a random place in a longer one.
_CHARS = 200_000


@dataclass(frozen=True, eq=False)
class Windows:
    """n windows of tokens, each from one document.

    doc_id : list of str (n)
    token_ids : int32 array (n, prefix + suffix)
    char_ends : int64 array (n, prefix + suffix + 1)
        Where in the document the window begins, and where each of its tokens ends, in characters.
    text : list of str or None (n)
        The document's own characters under the window; None where tokens do not spell the document
        (some tokenizers normalise it), so that its characters are not known.
    n_suffix : int
    n_documents, n_short : int
        Documents of the corpus; different ones among those drawn that had too few tokens and were
        skipped.
    from_start : bool
        The windows are their documents' first tokens.
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
        """Raises ModelError if a window holds a token that has no row in a model's weights."""
        for doc_id, ids in zip(self.doc_id, self.token_ids.tolist(), strict=True):
            check_rows(model.name, model.vocabulary, model.n_vocab, ids, doc_id)

    def begin(self, n_prefix: int) -> int:
        """Where in a window the prefix of that length begins.

        From a document's start the prefix does so, too, and the suffix is what follows it;
        elsewhere all prefixes end at the same suffix.
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
    """One window from each of `examples` different documents, chosen at random in one pass.

    Which documents and places depends on their text and the seed alone, not on their order or on
    how often the corpus repeats them, so copies of a document count once. Memory holds the chosen
    documents and no more.

    Parameters
    ----------
    corpus : iterable of Document
    vocabulary : Vocabulary
    n_prefix, n_suffix : int, tokens
    examples : int
        At most so many windows; fewer where the corpus has fewer documents that are long enough.
    seed : int
    from_start : bool
        Take each document's first tokens, not a random place: what a model of learned positions
        that saw each document from its start (the testbed's, for one) knows best.

    Returns
    -------
    Windows, in the order of the corpus.

    Raises
    ------
    CorpusError
        If the corpus has no documents, or none of n_prefix + n_suffix tokens.
    """
    width = n_prefix + n_suffix
    heap: list[tuple[int, int, str, tuple]] = []  # the chosen, the least urgent first
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
    return _assembled([(i[2], *i[3]) for i in chosen], n_suffix, n_documents, n_short, from_start)


def slide(
    document: Document, vocabulary: Vocabulary, *, n_prefix: int, n_suffix: int, stride: int
) -> Windows:
    """Every window of one document, `stride` tokens apart, and one that ends where it ends.

    Raises
    ------
    CorpusError
        If the document has fewer than n_prefix + n_suffix tokens.
    """
    width = n_prefix + n_suffix
    spelt = _spelt(document.text, vocabulary)
    if len(spelt.ids) < width:
        raise CorpusError(
            f"{document.doc_id} must have at least {width} tokens (prefix {n_prefix} + suffix "
            f"{n_suffix}); got {len(spelt.ids)}. Lower --prefix-tokens or --suffix-tokens."
        )
    last = len(spelt.ids) - width
    rows = [
        (document.doc_id, *_window(document.text, spelt, at, width, 0))
        for at in sorted({*range(0, last + 1, stride), last})
    ]
    return _assembled(rows, n_suffix, 1, 0)


@dataclass(frozen=True, eq=False)
class _Spelt:
    """Tokens of a text, where each ends, and whether the tokens spell just that text."""

    ids: list[int]
    ends: NDArray[np.int64]
    is_exact: bool


def _spelt(text: str, vocabulary: Vocabulary) -> _Spelt:
    ids = vocabulary.encode(text)
    ends = np.concatenate([[0], vocabulary.token_ends(ids)]).astype(np.int64)
    said = vocabulary.decode(ids)
    # A lone surrogate is read as "?": one character for one, so places stay right.
    clean = text.encode("utf-8", "replace").decode("utf-8")
    if said == f" {clean}":  # some tokenizers put a space before every text
        said, ends = said[1:], np.maximum(ends - 1, 0)
    elif clean == f" {said}":  # others leave out the one that it begins with: the first token's
        said, ends = clean, np.append(0, ends[1:] + 1)
    return _Spelt(ids, ends, said == clean)


def _cut(text: str, vocabulary: Vocabulary, width: int, number: int):
    """A window at a place that the number decides, or None where the text is too short."""
    start = 0
    if len(text) > _CHARS:
        start = number % (len(text) - _CHARS + 1)
        # Between words, so that the stretch begins with a token of the whole text's, mostly.
        space = text.find(" ", start, start + 1000) if start else 0
        start = start if space < 0 else space
        text = text[start : start + _CHARS]
    spelt = _spelt(text, vocabulary)
    if len(spelt.ids) < width:
        return None
    return _window(text, spelt, number % (len(spelt.ids) - width + 1), width, start)


def _window(text: str, spelt: _Spelt, at: int, width: int, start: int):
    ends = spelt.ends[at : at + width + 1]
    shown = text[ends[0] : ends[-1]] if spelt.is_exact else None
    return spelt.ids[at : at + width], ends + start, shown


def _assembled(rows, n_suffix, n_documents, n_short, from_start=False) -> Windows:
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
