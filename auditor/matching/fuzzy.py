"""Fuzzy matching: find memorized text that differs from its source in spaces and punctuation.

A stretch of words matches a document that contains all of its word trigrams close together, in any
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
from auditor.matching.queries import Needle
from auditor.system.jit import compiled

_WORD = re.compile(r"\w+")
_UNKNOWN = -1
_PASSAGE_BYTES = 8 << 20


@dataclass(frozen=True)
class FuzzyMatch:
    """A sample's longest stretch of words with a fuzzy match.

    Attributes
    ----------
    sample_id : str
    n_words : int
    start, end : int
        The stretch within the sample's text, in characters.
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
    needles: Sequence[Needle],
    corpus: Iterable[Document],
    *,
    min_words: int = 24,
    progress: Callable[[int], object] | None = None,
) -> dict[str, FuzzyMatch]:
    """Find each sample's longest fuzzy match of at least min_words words, in one streaming pass.

    Words are maximal runs of letters, digits and underscores (``\\w``) and are case-sensitive; the
    text between them is ignored. A stretch of m consecutive words of a sample matches a document
    if a window of 2 m consecutive words of the document contains each of the stretch's m - 2 word
    trigrams. This is checked exactly, for every document. Ties go to the first stretch in the
    corpus, then to the one whose first trigram is earliest in the document, then to the one that
    starts earliest in the sample.

    Parameters
    ----------
    needles : sequence of Needle
        Their ids must differ. token_ends are not used.
    corpus : iterable of Document
        If it offers `pieces(size)`, as `Corpus` does, documents may be larger than memory.
    min_words : int
        3 or more.
    progress : callable, optional
        Called after each document, or part, with the bytes of text processed so far.

    Returns
    -------
    dict of FuzzyMatch by sample id
        Samples without a match are omitted.

    Raises
    ------
    AuditError
        If min_words is below 3, or two needles have the same id.

    Source
    ------
    The paper, §6.1: a sample is memorized if all trigrams of its memorized part occur close
    together in one training document. The factor 2 and the minimum length are ours.

    >>> needle = Needle("s", "To be, or not to be", [])
    >>> document = Document("hamlet", "HAMLET. To be or\\n  not to be: that is", "")
    >>> find_fuzzy([needle], [document], min_words=6)["s"].doc_offset
    8
    """
    if min_words < 3:
        raise AuditError(
            f"min_words must be 3 or more (a match is made of trigrams); got {min_words}."
        )
    if len({needle.sample_id for needle in needles}) < len(needles):
        raise AuditError("Samples must have different ids, by which matches are told apart.")
    index = _TrigramIndex([needle.text for needle in needles])
    longest: dict[int, tuple[Stretch, str, int]] = {}
    # Minimum words of a new best stretch of each needle.
    wanted = np.full(len(needles), min_words, dtype=np.int64)
    n_bytes = 0
    # A stretch of m words matches within 2 m words of the document.
    for passage in _passages(corpus, 2 * max(index.n_words, default=0)):
        found = dict(index.longest(passage.text, wanted))
        if found:
            # Locate words only here, since most documents have no match.
            begins = [word.start() for word in _WORD.finditer(passage.text)]
            for needle, stretch in found.items():
                offset = passage.chars_before + begins[stretch.place]
                longest[needle] = (stretch, passage.doc_id, offset)
                wanted[needle] = stretch.n_words + 1
        n_bytes += passage.n_new_bytes
        if progress:
            progress(n_bytes)
    return {needles[i].sample_id: _fuzzy_match(needles[i], *longest[i]) for i in sorted(longest)}


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
    """The numbered word trigrams of all needles, with their positions in the needles."""

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
        self._needle = np.repeat(np.arange(len(texts)), sizes)[by_trigram]
        places = [np.arange(size) for size in sizes]
        self._place = np.concatenate([np.zeros(0, np.int64), *places])[by_trigram]
        self._ends = np.cumsum(np.bincount(ids, minlength=len(self._trigrams)))
        self._reach = 2 * np.array(self.n_words, dtype=np.int64) - 3

    def longest(self, text: str, wanted: Ints) -> Iterator[tuple[int, Stretch]]:
        """Needles with a match of at least `wanted` words in the text, and the longest of each."""
        for needle, places, trigrams in self._candidates(text, wanted):
            n_words, at_least = self.n_words[needle], int(wanted[needle])
            stretch = longest_stretch(places, trigrams, n_words, at_least=at_least)
            if stretch:
                yield needle, stretch

    def _candidates(self, text: str, wanted: Ints) -> Iterator[tuple[int, Ints, Ints]]:
        """Needles that may match, each with its hits: places in the text, trigrams of the needle.

        A match of m words requires m - 2 hits within the needle's widest window.
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
        needle, trigram = self._needle[entry], self._place[entry]
        order = np.lexsort((place, needle))
        needle, trigram, place = needle[order], trigram[order], place[order]
        begin = np.arange(len(needle))
        end = begin + wanted[needle] - 3
        begin, end = begin[end < len(needle)], end[end < len(needle)]
        is_dense = needle[begin] == needle[end]
        is_dense &= place[end] - place[begin] <= self._reach[needle[begin]]
        for one in np.unique(needle[begin[is_dense]]).tolist():
            mine = slice(*np.searchsorted(needle, [one, one + 1]))
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


def _fuzzy_match(needle: Needle, stretch: Stretch, doc_id: str, offset: int) -> FuzzyMatch:
    words = list(_WORD.finditer(needle.text))
    start = words[stretch.start].start()
    end = words[stretch.start + stretch.n_words - 1].end()
    return FuzzyMatch(needle.sample_id, stretch.n_words, start, end, doc_id, offset)


_NEVER = np.iinfo(np.int64).max // 4


@dataclass(frozen=True)
class Stretch:
    """Words [start, start + n_words) of a sample, and the document's word where they match."""

    n_words: int
    start: int
    place: int


def longest_stretch(places: Ints, trigrams: Ints, n_words: int, *, at_least: int) -> Stretch | None:
    """The longest stretch of m words whose trigrams all lie within 2 m words of the document.

    Parameters
    ----------
    places, trigrams : int64 arrays (n_hits,)
        The sample's trigram number `trigrams[i]` begins at the document's word `places[i]`.
    n_words : int
        Words of the sample, which has n_words - 2 trigrams.
    at_least : int
        Minimum length of the stretch in words; 3 or more.

    Returns
    -------
    Stretch or None
        Ties go to the stretch earliest in the document, then in the sample. `place` is the first
        of its trigrams within the window.

    >>> hits = np.arange(10)
    >>> longest_stretch(hits + 50, hits, 12, at_least=3)
    Stretch(n_words=12, start=0, place=50)
    """
    order = np.lexsort((trigrams, places))
    found = _longest(places[order], trigrams[order], n_words, at_least)
    return Stretch(*found) if found[0] >= at_least else None


@compiled
def _longest(places, trigrams, n_words, at_least):
    """(n_words, start, place) of `longest_stretch` for sorted hits; n_words is 0 if none.

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
            # Adjacent trigrams at the same place belong to the same stretch.
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
