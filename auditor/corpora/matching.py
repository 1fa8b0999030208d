"""Verbatim matching: where many short texts (needles) overlap a corpus of any size.

Two streaming passes: the first finds how far each position of each needle matches anything at all
(`overlaps`), the second counts the spans that are long enough (`counting`). Memory depends on the
needles and on the block size, not on the corpus, but for 8 bytes a document.
"""

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from auditor.corpora.blocks import Block, Ints, is_char_start, read_blocks, to_bytes
from auditor.corpora.counting import Occurrences
from auditor.corpora.formats import Document
from auditor.corpora.grams import choose_gram
from auditor.corpora.needles import Needle, checked_ends, count_tokens, fewest_bytes
from auditor.corpora.overlaps import Overlaps
from auditor.errors import AuditError

__all__ = ["Match", "Needle", "find_matches"]

_BLOCK_BYTES = 8 << 20

Progress = Callable[[int], object]


@dataclass(frozen=True)
class Match:
    """A maximal verbatim overlap of a sample with a corpus.

    Attributes
    ----------
    sample_id : str
    start, end : int
        The span within the sample's text, in characters.
    n_tokens, n_chars : int
        Tokens of the sample that lie wholly within the span; characters of the span.
    n_documents : int
        Distinct document ids whose text contains the span.
    n_occurrences : int
        Places at which the span stands in the corpus; they may overlap.
    doc_id, doc_offset : str, int
        The first such place in the corpus's order, in characters from the document's begin.
    """

    sample_id: str
    start: int
    end: int
    n_tokens: int
    n_chars: int
    n_documents: int
    n_occurrences: int
    doc_id: str
    doc_offset: int


@dataclass(frozen=True)
class _Row:
    """A match that is not yet counted: its needle, its span, and where its counts will be."""

    needle: int
    start: int
    end: int
    n_tokens: int
    group: int
    slot: int


def find_matches(
    needles: Sequence[Needle],
    corpus: Iterable[Document],
    *,
    min_tokens: int = 32,
    min_chars: int = 100,
    progress: Progress | None = None,
) -> list[Match]:
    """Find every maximal verbatim overlap of at least min_tokens tokens or min_chars characters.

    A span of a needle overlaps if it stands in some document; it is maximal if, extended by a
    character to either side, it stands in none. A span inside a longer one that is reported for
    the same needle is left out. Short minima (below about 16 bytes) are exact but slow: then
    nearly all text has to be looked at closely.

    Parameters
    ----------
    needles : sequence of Needle
        Each byte of text takes about 40 bytes of memory.
    corpus : iterable of Document
        Read twice, so a list or a `Corpus`, not a generator; once if nothing overlaps.
    min_tokens, min_chars : int
        Either is enough. A token of no characters counts if characters of the span stand on both
        sides of it.
    progress : callable, optional
        Called with the bytes of text done so far, both passes together.

    Returns
    -------
    list of Match
        In the order of the needles, and by start within each.

    Raises
    ------
    AuditError
        If a minimum is below 1, a corpus can be read only once, or token_ends do not fit a text.

    Source
    ------
    The maximal overlaps are the paper's verbatim matches (§6.1), found for all samples at once.

    >>> text = [Document("a", "the quick brown fox", ""), Document("b", "a quick brown cow", "")]
    >>> needle = Needle("s", "one quick brown fox", [3, 9, 15, 19])
    >>> [match] = find_matches([needle], text, min_chars=12)
    >>> match.start, match.end, match.n_tokens, match.doc_id, match.doc_offset
    (2, 19, 3, 'a', 2)
    """
    _check(corpus, min_tokens=min_tokens, min_chars=min_chars)
    token_ends = [checked_ends(needle) for needle in needles]
    shortest: dict[str, int] = {}
    for needle, ends in zip(needles, token_ends, strict=True):
        least = fewest_bytes(needle.text, ends, min_tokens, min_chars)
        if least is not None:
            shortest[needle.text] = min(least, shortest.get(needle.text, least))
    groups = _groups(shortest)
    passes = _Passes(corpus, max((len(to_bytes(text)) for text in shortest), default=1), progress)
    passes.feed([group.overlaps.add for group in groups])

    wearers: dict[str, list[int]] = defaultdict(list)
    for i, needle in enumerate(needles):
        wearers[needle.text].append(i)
    rows, counts = [], []
    for number, group in enumerate(groups):
        found, begins, ends = _long_enough(
            group, number, wearers, token_ends, min_tokens=min_tokens, min_chars=min_chars
        )
        rows += found
        counts.append(Occurrences(group.overlaps, begins, ends, passes.repeated_ids()))
    if rows:
        passes.feed([one.add for one in counts])
    rows.sort(key=lambda row: (row.needle, row.start))
    return [_match(needles[row.needle], row, counts[row.group]) for row in rows]


class _Passes:
    """Passes over a corpus: which ids come more than once is learnt in the first."""

    def __init__(self, corpus: Iterable[Document], longest: int, progress: Progress | None):
        self._corpus = corpus
        self._longest = longest
        self._progress = progress
        self._n_bytes = 0
        self._id_hashes: array[int] = array("q")
        self._n_passes = 0

    def feed(self, takers: Sequence[Callable[[Block], None]]) -> None:
        """Give every block to every taker."""
        if not takers:
            return
        self._n_passes += 1
        ordinal = -1
        blocks = read_blocks(
            self._corpus,
            block_bytes=_BLOCK_BYTES,
            overlap=self._longest,
            progress=self._note,
            n_bytes_before=self._n_bytes,
        )
        for block in blocks:
            for take in takers:
                take(block)
            if self._n_passes == 1:
                first = int(np.searchsorted(block.ordinals, ordinal, "right"))
                self._id_hashes.extend(map(hash, block.doc_ids[first:]))
                ordinal = int(block.ordinals[-1])

    def repeated_ids(self) -> set[int]:
        """Hashes of ids that more than one document has."""
        hashes = np.sort(np.array(self._id_hashes, dtype=np.int64))
        return set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())

    def _note(self, n_bytes: int) -> None:
        self._n_bytes = n_bytes
        if self._progress:
            self._progress(n_bytes)


@dataclass(frozen=True)
class _Group:
    """Different texts of one class of gram, and their overlaps with the corpus."""

    texts: list[str]
    overlaps: Overlaps


def _groups(shortest: dict[str, int]) -> list[_Group]:
    """Texts by the length of gram that their shortest span allows.

    One text whose tokens are tiny would otherwise force short grams, and slowness, upon all.
    """
    members: dict[int, list[str]] = defaultdict(list)
    for text, least in shortest.items():
        members[choose_gram(least).length].append(text)
    return [
        _Group(texts, Overlaps([to_bytes(t) for t in texts], min(shortest[t] for t in texts)))
        for texts in members.values()
    ]


def _long_enough(
    group: _Group,
    number: int,
    wearers: dict[str, list[int]],
    token_ends: list[Ints],
    *,
    min_tokens: int,
    min_chars: int,
) -> tuple[list[_Row], Ints, Ints]:
    """Rows for all needles of a group, and where in its bytes the different spans begin and end."""
    raw = group.overlaps.raw
    begins, ends = group.overlaps.spans()
    n_before = np.append(0, np.cumsum(is_char_start(raw)))
    text_begins = np.cumsum([0] + [len(to_bytes(text)) + 1 for text in group.texts])
    text_of = np.searchsorted(text_begins, begins, "right") - 1
    starts = n_before[begins] - n_before[text_begins[text_of]]
    stops = n_before[ends] - n_before[text_begins[text_of]]
    rows: list[_Row] = []
    slots: dict[bytes, int] = {}
    chosen: list[int] = []
    for of_text in np.split(np.arange(len(begins)), np.flatnonzero(np.diff(text_of)) + 1):
        if not len(of_text):
            continue
        text = int(text_of[of_text[0]])
        for needle in wearers[group.texts[text]]:
            n_tokens = count_tokens(token_ends[needle], starts[of_text], stops[of_text])
            enough = (n_tokens >= min_tokens) | (stops[of_text] - starts[of_text] >= min_chars)
            for i, n in zip(of_text[enough].tolist(), n_tokens[enough].tolist(), strict=True):
                # Needles share what they say: the same bytes are counted once.
                slot = slots.setdefault(raw[begins[i] : ends[i]].tobytes(), len(slots))
                if slot == len(chosen):
                    chosen.append(i)
                rows.append(_Row(needle, int(starts[i]), int(stops[i]), n, number, slot))
    kept = np.array(chosen, dtype=np.int64)
    return rows, begins[kept], ends[kept]


def _match(needle: Needle, row: _Row, counts: Occurrences) -> Match:
    return Match(
        sample_id=needle.sample_id,
        start=row.start,
        end=row.end,
        n_tokens=row.n_tokens,
        n_chars=row.end - row.start,
        n_documents=int(counts.n_documents[row.slot]),
        n_occurrences=int(counts.n_occurrences[row.slot]),
        doc_id=counts.first_doc[row.slot],
        doc_offset=int(counts.first_offset[row.slot]),
    )


def _check(corpus: Iterable[Document], **minima: int) -> None:
    for name, value in minima.items():
        if value < 1:
            raise AuditError(f"{name} must be 1 or more; got {value}. Usual are 32 and 100.")
    if iter(corpus) is corpus:
        raise AuditError(
            "A corpus is read twice and must allow that; got an iterator, which is used up after "
            "once. Pass a list or what read_corpus returns."
        )
