"""Verbatim matching: find overlaps of many short texts (queries) with a corpus of any size.

One streaming pass finds the longest match at each position of each query (`overlaps`) and stores
all text that may contain a match (`spool`); the spans that are long enough are then counted in the
stored text (`occurrences`). Memory depends on the queries and on the block size, not on the
corpus, except for 8 bytes for each document that shares a long span with a query.
"""

import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass

import numpy as np

from auditor.corpus.text_files import Document
from auditor.errors import AuditError
from auditor.matching.byte_blocks import Block, Ints, is_char_start, read_blocks, to_bytes
from auditor.matching.ngram_filter import Gram, choose_gram
from auditor.matching.normalization import Drops, Folding, fold_text, folding
from auditor.matching.occurrences import Occurrences
from auditor.matching.overlaps import Hits, Overlaps
from auditor.matching.queries import (
    Query,
    check_minima,
    checked_ends,
    count_tokens,
    fewest_bytes,
)
from auditor.matching.spool import Spool

__all__ = ["Match", "Query", "find_matches"]

# Small enough for a core's own cache.
_BLOCK_BYTES = 1 << 20

Progress = Callable[[int], object]


@dataclass(frozen=True)
class Match:
    """A maximal verbatim overlap of a sample with a corpus.

    Attributes
    ----------
    sample_id : str
    start, end : int
        The span within the original text of the sample, in characters.
    n_tokens, n_chars : int
        Tokens of the sample that lie wholly within the span; characters of the span after
        normalization, which counts a run of whitespace once.
    n_documents : int
        Distinct ids of documents that contain the span.
    n_occurrences : int
        Occurrences of the span in the corpus; they may overlap.
    doc_id, doc_offset : str, int
        The first occurrence in corpus order, in characters from the document's beginning.
    places : tuple of (str, int)
        The first occurrences, at most five.
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
    places: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class _FoldedQuery:
    """A folded query, its map to the original text, and the bytes of its shortest span."""

    text: str
    drops: Drops
    n_bytes: int | None


@dataclass(frozen=True)
class _Row:
    """A match to be counted: its query, its span, and the place of its counts."""

    query: int
    start: int
    end: int
    n_tokens: int
    n_chars: int
    group: int
    slot: int


def find_matches(
    queries: Sequence[Query],
    corpus: Iterable[Document],
    *,
    min_tokens: int = 32,
    min_chars: int = 100,
    normalize: str | Iterable[str] = (),
    n_threads: int | None = None,
    progress: Progress | None = None,
) -> list[Match]:
    """Find every maximal verbatim overlap of at least min_tokens tokens or min_chars characters.

    A span of a query overlaps if some document contains it. It is maximal if no document contains
    it extended by a character on either side. Spans inside a longer reported span of the same
    query are omitted. Minima below about 16 bytes are exact but slow, since nearly all text has
    to be compared.

    Parameters
    ----------
    queries : sequence of Query
        Each byte of text takes about 30 bytes of memory.
    corpus : iterable of Document
        Read once. If it offers `pieces(size)`, as `Corpus` does, documents may be larger than
        memory.
    min_tokens, min_chars : int
        Either is enough. A token that is part of a character counts if the span has characters on
        both sides of it. Characters are counted after normalization.
    normalize : str or iterable of str
        "whitespace": any run of whitespace equals one space. "case": ignore case, character by
        character. Spans and places refer to the original texts.
    n_threads : int, optional
        Search threads; by default one per core. The result does not depend on it.
    progress : callable, optional
        Called with the bytes of text read so far.

    Returns
    -------
    list of Match
        In the order of the queries, and by start within each.

    Raises
    ------
    AuditError
        If a minimum or n_threads is below 1, normalize has an unknown name, token_ends do not fit
        a text, or the overlapping text does not fit into the folder for temporary files.

    Source
    ------
    The paper's verbatim matches (§6.1).

    >>> text = [Document("a", "the quick brown fox", ""), Document("b", "a quick brown cow", "")]
    >>> query = Query("s", "one quick brown fox", [3, 9, 15, 19])
    >>> [match] = find_matches([query], text, min_chars=12)
    >>> match.start, match.end, match.n_tokens, match.doc_id, match.doc_offset
    (2, 19, 3, 'a', 2)
    """
    n_threads = (os.cpu_count() or 1) if n_threads is None else n_threads
    check_minima(min_tokens, min_chars)
    if n_threads < 1:
        raise AuditError(f"n_threads must be 1 or more; got {n_threads}. The default is all cores.")
    change = folding(normalize)
    folded = [_fold(query, change, min_tokens, min_chars) for query in queries]
    queries_of: dict[bytes, list[int]] = defaultdict(list)
    for i, one in enumerate(folded):
        if one.n_bytes is not None:
            queries_of[to_bytes(one.text)].append(i)
    if not queries_of:
        return []
    with ExitStack() as spools:
        least = {t: min(folded[i].n_bytes or 0 for i in of_t) for t, of_t in queries_of.items()}
        groups = _groups(least, spools)
        blocks = read_blocks(
            corpus, block_bytes=_BLOCK_BYTES, overlap=max(map(len, queries_of)), folding=change
        )
        for block, found in _scanned(blocks, groups, n_threads):
            for group, hits in zip(groups, found, strict=True):
                group.take(block, hits)
            if progress:
                progress(block.n_read)
        rows: list[_Row] = []
        counts: dict[int, Occurrences] = {}
        for number, group in enumerate(groups):
            some, begins, ends = _long_enough(
                group, number, queries_of, queries, folded, min_tokens, min_chars
            )
            if some:
                rows += some
                counts[number] = Occurrences(group, begins, ends)
                for block in group.spool.blocks(_BLOCK_BYTES):
                    counts[number].add(block)
    rows.sort(key=lambda row: (row.query, row.start))
    return [_match(queries[row.query], row, counts[row.group]) for row in rows]


def _fold(query: Query, change: Folding, min_tokens: int, min_chars: int) -> _FoldedQuery:
    ends = checked_ends(query)
    text, drops = fold_text(query.text, change)
    origins = drops.origin(np.arange(len(text) + 1)) if len(drops.places) else None
    least = fewest_bytes(text, ends, min_tokens, min_chars, origins=origins)
    return _FoldedQuery(text, drops, least)


def _groups(least: dict[bytes, int], spools: ExitStack) -> list[Overlaps]:
    """Group texts by the gram that their shortest span allows.

    Otherwise one text with very short tokens would make the search slow for all.
    """
    members: dict[Gram, list[bytes]] = defaultdict(list)
    for text, n_bytes in least.items():
        members[choose_gram(n_bytes)].append(text)
    return [
        Overlaps(texts, [least[t] for t in texts], spools.enter_context(closing(Spool())))
        for texts in members.values()
    ]


def _scanned(
    blocks: Iterator[Block], groups: list[Overlaps], n_threads: int
) -> Iterator[tuple[Block, list[Hits]]]:
    """Each block, in order, with the hits of each group.

    Threads search the blocks; the calling thread reads and yields them.
    """

    def scan(block: Block) -> list[Hits]:
        return [group.scan(block) for group in groups]

    if n_threads == 1:
        yield from ((block, scan(block)) for block in blocks)
        return
    waiting: deque[tuple[Block, Future[list[Hits]]]] = deque()
    with ThreadPoolExecutor(n_threads) as pool:
        for block in blocks:
            waiting.append((block, pool.submit(scan, block)))
            if len(waiting) > 2 * n_threads:
                first, found = waiting.popleft()
                yield first, found.result()
        for first, found in waiting:
            yield first, found.result()


def _long_enough(
    group: Overlaps,
    number: int,
    queries_of: dict[bytes, list[int]],
    queries: Sequence[Query],
    folded: list[_FoldedQuery],
    min_tokens: int,
    min_chars: int,
) -> tuple[list[_Row], Ints, Ints]:
    """Matches of a group's queries, and begins and ends of the distinct spans in its bytes."""
    begins, ends = group.spans()
    text_begins = np.cumsum([0] + [len(text) + 1 for text in group.texts])
    text_of = np.searchsorted(text_begins, begins, "right") - 1
    rows: list[_Row] = []
    slots: dict[bytes, int] = {}
    chosen: list[int] = []
    for of_text in np.split(np.arange(len(begins)), np.flatnonzero(np.diff(text_of)) + 1):
        if not len(of_text):
            continue
        text = int(text_of[of_text[0]])
        first, after = text_begins[text : text + 2]
        n_before = np.append(0, np.cumsum(is_char_start(group.raw[first:after])))
        starts, stops = n_before[begins[of_text] - first], n_before[ends[of_text] - first]
        for i in queries_of[group.texts[text]]:
            drops = folded[i].drops
            at, until = drops.origin(starts), drops.origin(stops)
            n_tokens = count_tokens(checked_ends(queries[i]), at, until)
            for k in np.flatnonzero((n_tokens >= min_tokens) | (stops - starts >= min_chars)):
                # Count each distinct span once, even if several queries contain it.
                span = int(of_text[k])
                raw = group.raw[begins[span] : ends[span]].tobytes()
                slot = slots.setdefault(raw, len(slots))
                if slot == len(chosen):
                    chosen.append(span)
                sizes = int(n_tokens[k]), int(stops[k] - starts[k])
                rows.append(_Row(i, int(at[k]), int(until[k]), *sizes, number, slot))
    kept = np.array(chosen, dtype=np.int64)
    return rows, begins[kept], ends[kept]


def _match(query: Query, row: _Row, counts: Occurrences) -> Match:
    places = tuple(counts.places[row.slot])
    found = int(counts.n_documents[row.slot]), int(counts.n_occurrences[row.slot])
    size = row.n_tokens, row.n_chars
    return Match(query.sample_id, row.start, row.end, *size, *found, *places[0], places)
