"""Fuzzy matching: find memorized text that differs from its source in spaces and punctuation.

A span of words matches a document that contains all of its word trigrams close together, in any
order and with any text between them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from auditor.corpus.text_files import Document
from auditor.errors import AuditError
from auditor.matching.byte_blocks import Ints, place_in, ranges, read_pieces
from auditor.matching.queries import Query
from auditor.system.jit import compiled

_WORD = re.compile(r"\w+")
_UNKNOWN = -1
_PASSAGE_BYTES = 8 << 20


@dataclass(frozen=True)
class FuzzyMatch:
    """A sample's longest span of words with a fuzzy match.

    Attributes
    ----------
    sample_id : str
    n_words : int
    start, end : int
        The span within the sample's text, in characters.
    doc_id, doc_offset : str, int
        The document, and the character where the first of the trigrams begins in it.
    """

    sample_id: str
    n_words: int
    start: int
    end: int
    doc_id: str
    doc_offset: int


def find_fuzzy(
    queries: Sequence[Query],
    corpus: Iterable[Document],
    *,
    min_words: int = 24,
    progress: Callable[[int], object] | None = None,
) -> dict[str, FuzzyMatch]:
    """Find each sample's longest fuzzy match of at least min_words words, in one streaming pass.

    Words are maximal runs of letters, digits and underscores (``\\w``) and are case-sensitive; the
    text between them is ignored. A span of m consecutive words of a sample matches a document
    if a window of 2 m consecutive words of the document contains each of the span's m - 2 word
    trigrams. This is checked exactly, for every document. Ties go to the first span in the
    corpus, then to the one whose first trigram is earliest in the document, then to the one that
    starts earliest in the sample.

    The ids of the queries must differ; their token_ends are not used. Returns the matches by sample
    id. `progress` is called after each document, or part, with the bytes of text processed so far.
    Raises AuditError if min_words is below 3, or two queries have the same id.

    Source
    ------
    The paper, §6.1: a sample is memorized if all trigrams of its memorized part occur close
    together in one training document. The factor 2 and the minimum length are ours.

    >>> query = Query("s", "To be, or not to be", [])
    >>> document = Document("hamlet", "HAMLET. To be or\\n  not to be: that is", "")
    >>> find_fuzzy([query], [document], min_words=6)["s"].doc_offset
    8
    """
    if min_words < 3:
        raise AuditError(
            f"min_words must be 3 or more (matches consist of trigrams); got {min_words}."
        )
    if len({query.sample_id for query in queries}) < len(queries):
        raise AuditError("Sample ids must be unique.")
    index = _TrigramIndex([query.text for query in queries])
    longest: dict[int, tuple[WordSpan, str, int]] = {}
    # Minimum words of a new best span of each query.
    wanted = np.full(len(queries), min_words, dtype=np.int64)
    n_bytes = 0
    # A span of m words matches within 2 m words of the document.
    for passage in _passages(corpus, 2 * max(index.n_words, default=0)):
        found = dict(index.longest(passage.text, wanted))
        if found:
            # Locate words only here, since most documents have no match.
            begins = [word.start() for word in _WORD.finditer(passage.text)]
            for query, span in found.items():
                offset = passage.chars_before + begins[span.place]
                longest[query] = (span, passage.doc_id, offset)
                wanted[query] = span.n_words + 1
        n_bytes += passage.n_new_bytes
        if progress:
            progress(n_bytes)
    return {queries[i].sample_id: _fuzzy_match(queries[i], *longest[i]) for i in sorted(longest)}


@dataclass(frozen=True)
class _Passage:
    """A document, or a part cut between words, with the number of characters before it."""

    doc_id: str
    text: str
    chars_before: int
    n_new_bytes: int


def _passages(corpus: Iterable[Document], overlap: int) -> Iterator[_Passage]:
    """A corpus in parts that repeat the last `overlap` words of the previous part."""
    text, chars_before = "", 0
    for piece in read_pieces(corpus, _PASSAGE_BYTES):
        if piece.is_first:
            text, chars_before = "", 0
        text += piece.raw.decode("utf-8", "surrogatepass")
        end = len(text) if piece.is_last else _end_of_words(text)
        yield _Passage(piece.doc_id, text[:end], chars_before, len(piece.raw))
        if not piece.is_last:
            begins = [word.start() for word in _WORD.finditer(text[:end])][-overlap:]
            kept = begins[0] if overlap and begins else end
            text, chars_before = text[kept:], chars_before + kept


def _end_of_words(text: str) -> int:
    """The end of the text, without a last word that may continue in the next part."""
    end = len(text)
    while end and _WORD.match(text[end - 1]):
        end -= 1
    return end


class _TrigramIndex:
    """The numbered word trigrams of all queries, with their positions in the queries."""

    def __init__(self, texts: Sequence[str]):
        self._words: dict[str, int] = defaultdict(lambda: len(self._words))
        numbered = [
            np.array([self._words[word] for word in _WORD.findall(text)], dtype=np.int64)
            for text in texts
        ]
        # A plain dict: from here on, unknown words get no number.
        self._words = dict(self._words)
        self.n_words = [len(words) for words in numbered]
        # Number pairs first, so that the key of a trigram fits into 64 bits.
        self._n = len(self._words) + 1
        pairs = [words[:-1] * self._n + words[1:] for words in numbered]
        self._pairs = np.unique(np.concatenate([np.zeros(0, np.int64), *pairs]))
        keys = [self._keys(words) for words in numbered]
        sizes = [len(of_text) for of_text in keys]
        self._trigrams, ids = np.unique(
            np.concatenate([np.zeros(0, np.int64), *keys]), return_inverse=True
        )
        by_trigram = np.argsort(ids, kind="stable")
        self._query = np.repeat(np.arange(len(texts)), sizes)[by_trigram]
        places = [np.arange(size) for size in sizes]
        self._place = np.concatenate([np.zeros(0, np.int64), *places])[by_trigram]
        self._ends = np.cumsum(np.bincount(ids, minlength=len(self._trigrams)))
        self._reach = 2 * np.array(self.n_words, dtype=np.int64) - 3

    def longest(self, text: str, wanted: Ints) -> Iterator[tuple[int, WordSpan]]:
        """Queries with a match of at least `wanted` words in the text, and the longest of each."""
        for query, places, trigrams in self._candidates(text, wanted):
            n_words, at_least = self.n_words[query], int(wanted[query])
            span = longest_span(places, trigrams, n_words, at_least=at_least)
            if span:
                yield query, span

    def _candidates(self, text: str, wanted: Ints) -> Iterator[tuple[int, Ints, Ints]]:
        """Queries that may match, each with its hits: places in the text, trigrams of the query.

        A match of m words requires m - 2 hits within the query's widest window.
        """
        known = self._words.get
        words = np.array([known(word, _UNKNOWN) for word in _WORD.findall(text)], dtype=np.int64)
        ids = place_in(self._trigrams, self._keys(words))
        hits = np.flatnonzero(ids != _UNKNOWN)
        if not len(hits):
            return
        ends = self._ends[ids[hits]]
        begins = np.where(ids[hits] > 0, self._ends[ids[hits] - 1], 0)
        sizes = ends - begins
        entry = ranges(begins, sizes)
        place = np.repeat(hits, sizes)
        query, trigram = self._query[entry], self._place[entry]
        order = np.lexsort((place, query))
        query, trigram, place = query[order], trigram[order], place[order]
        begin = np.arange(len(query))
        end = begin + wanted[query] - 3
        begin, end = begin[end < len(query)], end[end < len(query)]
        is_dense = query[begin] == query[end]
        is_dense &= place[end] - place[begin] <= self._reach[query[begin]]
        for one in np.unique(query[begin[is_dense]]).tolist():
            mine = slice(*np.searchsorted(query, [one, one + 1]))
            yield one, place[mine], trigram[mine]

    def _keys(self, words: Ints) -> Ints:
        """A number for each trigram of words; _UNKNOWN if a word or pair is unknown."""
        if len(words) < 3:
            return np.zeros(0, dtype=np.int64)
        pair_keys = np.where(
            (words[:-1] >= 0) & (words[1:] >= 0), words[:-1] * self._n + words[1:], _UNKNOWN
        )
        pairs = place_in(self._pairs, pair_keys)
        is_known = (pairs[:-1] >= 0) & (words[2:] >= 0)
        return np.where(is_known, pairs[:-1] * self._n + words[2:], _UNKNOWN)


def _fuzzy_match(query: Query, span: WordSpan, doc_id: str, offset: int) -> FuzzyMatch:
    words = list(_WORD.finditer(query.text))
    start = words[span.start].start()
    end = words[span.start + span.n_words - 1].end()
    return FuzzyMatch(query.sample_id, span.n_words, start, end, doc_id, offset)


_NEVER = np.iinfo(np.int64).max // 4


@dataclass(frozen=True)
class WordSpan:
    """Words [start, start + n_words) of a sample, and the document's word where they match."""

    n_words: int
    start: int
    place: int


def longest_span(places: Ints, trigrams: Ints, n_words: int, *, at_least: int) -> WordSpan | None:
    """The longest span of m words whose trigrams all lie within 2 m words of the document.

    The sample has `n_words` words; its trigram number `trigrams[i]` begins at the document's word
    `places[i]`. Ties go to the span earliest in the document, then in the sample. `place` is the
    first of its trigrams within the window. `at_least` must be 3 or more.

    >>> hits = np.arange(10)
    >>> longest_span(hits + 50, hits, 12, at_least=3)
    WordSpan(n_words=12, start=0, place=50)
    """
    order = np.lexsort((trigrams, places))
    found = _longest(places[order], trigrams[order], n_words, at_least)
    return WordSpan(*found) if found[0] >= at_least else None


@compiled
def _longest(places, trigrams, n_words, at_least):
    """(n_words, start, place) of `longest_span` for sorted hits; n_words is 0 if none.

    A window begins at each place in turn; `upcoming` is the next place of each trigram from there.
    For m words, the last trigram begins at most 2 m - 3 words after the window.
    """
    n_trigrams = n_words - 2
    upcoming = np.full(n_trigrams, _NEVER)
    following = np.empty(places.size, np.int64)
    for i in range(places.size - 1, -1, -1):
        following[i] = upcoming[trigrams[i]]
        upcoming[trigrams[i]] = places[i]
    wanted, best = at_least, (0, 0, 0)
    begin = 0
    while begin < places.size and wanted <= n_words:
        place, end = places[begin], begin
        while end < places.size and places[end] == place:
            anchor = trigrams[end]
            end += 1
            # Adjacent trigrams at the same place belong to the same span.
            if anchor > 0 and upcoming[anchor - 1] == place:
                continue
            # The widest window bounds the length; then try each length in turn.
            most = n_words
            for first in (n_words, wanted):
                low = high = anchor
                for m in range(first, most + 1):
                    reach = place + 2 * m - 3
                    while low > 0 and upcoming[low - 1] <= reach:
                        low -= 1
                    while high < n_trigrams - 1 and upcoming[high + 1] <= reach:
                        high += 1
                    if m <= high - low + 3 and m >= wanted:
                        wanted, best = m + 1, (m, low, place)
                most = min(most, high - low + 3)
        for i in range(begin, end):
            upcoming[trigrams[i]] = following[i]
        begin = end
    return best
