"""Verbatim matching against an index, without a pass over the corpus."""

from collections import defaultdict
from collections.abc import Callable, Sequence

from auditor.matching.byte_blocks import to_bytes
from auditor.matching.index.maximal_spans import Spans, maximal_spans
from auditor.matching.index.query import Found, Index
from auditor.matching.occurrences import MAX_PLACES
from auditor.matching.queries import (
    Query,
    check_minima,
    checked_ends,
    count_tokens,
    fewest_bytes,
)
from auditor.matching.verbatim import Match

Progress = Callable[[int], object]


def find_matches_in_index(
    queries: Sequence[Query],
    index: Index,
    *,
    min_tokens: int = 32,
    min_chars: int = 100,
    progress: Progress | None = None,
) -> list[Match]:
    """Find exactly the matches that `find_matches` finds in the indexed corpus.

    Time depends on the queries and on the number of shards. For a few thousand queries this is
    much faster than reading a large corpus; for millions it may not be.

    `progress` is called with the bytes of the queries' text processed so far. Raises AuditError for
    a minimum below 1 or wrong token_ends, and CorpusError if a needed part of the index is damaged.
    """
    check_minima(min_tokens, min_chars)
    queries_of: dict[str, list[int]] = defaultdict(list)
    for i, query in enumerate(queries):
        queries_of[query.text].append(i)
    token_ends = [checked_ends(query) for query in queries]
    known: dict[bytes, _Counts] = {}
    rows: list[tuple[int, Match]] = []
    n_done = 0
    for text, of_text in queries_of.items():
        raw = to_bytes(text)
        bounds = [fewest_bytes(text, token_ends[i], min_tokens, min_chars) for i in of_text]
        least = min((bound for bound in bounds if bound is not None), default=None)
        if least is not None:
            spans = maximal_spans(raw, least, index)
            for i in of_text:
                n_tokens = count_tokens(token_ends[i], spans.begins, spans.ends)
                enough = (n_tokens >= min_tokens) | (spans.ends - spans.begins >= min_chars)
                for j in enough.nonzero()[0].tolist():
                    span = raw[spans.byte_begins[j] : spans.byte_ends[j]]
                    if span not in known:
                        known[span] = _Counts(index, index.occurrences(span))
                    match = _match(queries[i].sample_id, spans, j, int(n_tokens[j]), known[span])
                    rows.append((i, match))
        n_done += len(raw) * len(of_text)
        if progress:
            progress(n_done)
    rows.sort(key=lambda row: (row[0], row[1].start))
    return [match for _, match in rows]


class _Counts:
    """Counts and first places of a span, shared by all queries that contain it."""

    def __init__(self, index: Index, found: Found):
        self.n_occurrences = found.n_occurrences
        self.n_documents = index.n_documents_of(found)
        self.places = tuple(index.places_of(found, MAX_PLACES))


def _match(sample_id: str, spans: Spans, j: int, n_tokens: int, counts: _Counts) -> Match:
    start, end = int(spans.begins[j]), int(spans.ends[j])
    found = counts.n_documents, counts.n_occurrences
    size = n_tokens, end - start
    return Match(sample_id, start, end, *size, *found, *counts.places[0], counts.places)
