"""Near-verbatim matches: the edit distance between a sample's span and a passage of a document.

The generated span is compared with the passage, near a known match in the document, that has the
smallest edit distance in characters. Insertions, deletions and substitutions cost 1 each.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from auditor.corpus.text_files import Document
from auditor.matching.byte_blocks import read_pieces
from auditor.matching.queries import Query

NEAR = 0.10
MIN_TOKENS = 50


@dataclass(frozen=True)
class Passage:
    """The passage [start, end) of a text nearest to a span, and its distance in characters."""

    start: int
    end: int
    distance: int


def nearest_passage(span: str, text: str) -> Passage:
    """The passage of a text with the smallest edit distance to a span, in characters.

    Ties go to the passage that ends first, then to the longest. Takes len(span) x len(text) steps
    and memory proportional to the longer of both.

    >>> nearest_passage("abcd", "xxabxdxx")
    Passage(start=2, end=6, distance=1)
    """
    a, b = _codes(span), _codes(text)
    last = _last_row(a, b, free_start=True)
    end = int(np.argmin(last))
    # Search backwards from the end for the begin with the same distance.
    back = _last_row(a[::-1], b[:end][::-1], free_start=False)
    distance = int(last[end])
    length = int(np.flatnonzero(back == distance)[-1])
    return Passage(end - length, end, distance)


def _last_row(a: NDArray, b: NDArray, *, free_start: bool) -> NDArray[np.int64]:
    """Edit distance of `a` to a passage of `b` that ends at each position: (len(b) + 1,).

    The passage begins at 0, or, with free_start, at the best position (Sellers 1980).
    """
    along = np.arange(len(b) + 1)
    row = np.zeros(len(b) + 1, dtype=np.int64) if free_start else along.copy()
    for i, code in enumerate(a, start=1):
        step = np.empty_like(row)
        step[0] = i
        np.minimum(row[1:] + 1, row[:-1] + (b != code), out=step[1:])
        # Insertions: minimum over all earlier positions plus the distance from there.
        row = np.minimum.accumulate(step - along) + along
    return row


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


_PIECE_BYTES = 8 << 20
# Extra characters of the document around a window, for insertions.
_ROOM = 64


@dataclass(frozen=True)
class KnownMatch:
    """A sample's best match: characters [start, end) of its text, and the document's place."""

    query: Query
    start: int
    end: int
    doc_id: str
    doc_offset: int


@dataclass(frozen=True)
class NearMatch:
    """The window of at least 50 tokens around a region that differs least from the document.

    Attributes
    ----------
    sample_id : str
    start, end : int
        The window in the sample's text, in characters.
    n_tokens : int
        Tokens of the window.
    token_distance, char_distance : int
        Edit distance to the nearest passage of the document, in tokens and characters.
    is_near : bool
        Whether token_distance is at most 10 % of the tokens.
    doc_id, doc_offset : str, int
        The document, and the character where the passage begins.
    """

    sample_id: str
    start: int
    end: int
    n_tokens: int
    token_distance: int
    char_distance: int
    is_near: bool
    doc_id: str
    doc_offset: int


def find_near(
    regions: Sequence[KnownMatch],
    corpus: Iterable[Document],
    *,
    encode: Callable[[str], Sequence[Hashable]],
    progress: Callable[[int], object] | None = None,
) -> list[NearMatch]:
    """Compute each region's edit distance to its document, in one pass over the corpus.

    A region of at least 50 tokens is compared as it is. A shorter one is extended to a window of
    50 tokens, with the region at its end, in its middle or at its beginning; the nearest window
    counts. Samples of fewer than 50 tokens are omitted.

    `encode` maps a text to tokens of the sample's tokenizer; `progress` is called with the bytes of
    text processed so far. Matches come in the order of the regions.

    Source
    ------
    PaLM 2 Technical Report (Anil et al. 2023) and Gemma (Gemma Team 2024), memorization sections:
    a continuation of 50 tokens is approximately memorized if its edit distance to the source is at
    most 10 %. There the position of the source is known; here it is searched for.
    """
    windows = {i: found for i, region in enumerate(regions) if (found := list(_windows(region)))}
    best: dict[int, NearMatch] = {}
    for i, text, chars_before in _contexts({i: regions[i] for i in windows}, corpus, progress):
        for first, last in windows[i]:
            match = _compare(regions[i], first, last, text, chars_before, encode)
            if i not in best or match.token_distance < best[i].token_distance:
                best[i] = match
    return [best[i] for i in sorted(best)]


def _windows(region: KnownMatch) -> Iterator[tuple[int, int]]:
    """First and last token, exclusive, of each window to compare."""
    begins, ends = _token_spans(region.query)
    inside = np.flatnonzero((begins >= region.start) & (ends <= region.end))
    n_tokens = len(ends)
    if n_tokens < MIN_TOKENS or not len(inside):
        return
    first, last = int(inside[0]), int(inside[-1]) + 1
    if last - first >= MIN_TOKENS:
        yield first, last
        return
    middle = first - (MIN_TOKENS - last + first) // 2
    for start in sorted({last - MIN_TOKENS, middle, first}):
        start = min(max(start, 0), n_tokens - MIN_TOKENS)
        yield start, start + MIN_TOKENS


def _token_spans(query: Query) -> tuple[np.ndarray, np.ndarray]:
    ends = np.asarray(query.token_ends, dtype=np.int64)
    return np.append(0, ends[:-1]), ends


def _contexts(
    regions: dict[int, KnownMatch], corpus: Iterable[Document], progress
) -> Iterator[tuple[int, str, int]]:
    """For each region, the text around its place, and the number of characters before it."""
    wanted: dict[str, list[int]] = defaultdict(list)
    for i, region in regions.items():
        wanted[region.doc_id].append(i)
    n_bytes = n_chars = 0
    parts: dict[int, list[str]] = {}
    for piece in read_pieces(corpus, _PIECE_BYTES):
        if piece.is_first:
            n_chars, parts = 0, defaultdict(list)
        if here := wanted.get(piece.doc_id):
            text = piece.raw.decode("utf-8", "surrogatepass")
            for i in here:
                low, high = _reach(regions[i])
                parts[i].append(text[max(low - n_chars, 0) : max(high - n_chars, 0)])
            n_chars += len(text)
            if piece.is_last:
                yield from ((i, "".join(parts[i]), _reach(regions[i])[0]) for i in here)
        n_bytes += len(piece.raw)
        if progress:
            progress(n_bytes)


def _reach(region: KnownMatch) -> tuple[int, int]:
    """The document's characters that a window around the region may match."""
    begins, ends = _token_spans(region.query)
    spans = [int(ends[last - 1] - begins[first]) for first, last in _windows(region)]
    room = 2 * max(spans) + _ROOM
    return max(0, region.doc_offset - room), region.doc_offset + room


def _compare(
    region: KnownMatch, first: int, last: int, text: str, before: int, encode
) -> NearMatch:
    begins, ends = _token_spans(region.query)
    start, end = int(begins[first]), int(ends[last - 1])
    span = region.query.text[start:end]
    place = min(max(region.doc_offset - before - (region.start - start), 0), len(text))
    # The passage may begin earlier, and end later, than expected, by a fifth of the span plus 16.
    margin = len(span) // 5 + 16
    low = max(0, place - margin)
    found = nearest_passage(span, text[low : place + len(span) + margin])
    tokens = encode(span)
    distance = Levenshtein.distance(tokens, encode(text[low + found.start : low + found.end]))
    return NearMatch(
        sample_id=region.query.sample_id,
        start=start,
        end=end,
        n_tokens=last - first,
        token_distance=distance,
        char_distance=found.distance,
        # Add 1e-9 against rounding: 5 of 50 is within 10 %.
        is_near=distance <= int(len(tokens) * NEAR + 1e-9),
        doc_id=region.doc_id,
        doc_offset=before + low + found.start,
    )
