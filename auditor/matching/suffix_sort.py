"""Longest match of each position of one text with any part of another.

All suffixes of both texts are sorted together by prefix doubling (Karp, Miller, Rosenberg 1972;
Manber and Myers 1993). The best match of a suffix in the other text is then its nearest neighbour
above or below. The cost depends on lengths alone, so repetitive text is not slower. Groups of equal
prefixes that contain suffixes of only one text are not sorted further.
"""

import numpy as np
from numpy.typing import NDArray

from auditor.matching.byte_blocks import CORPUS_SEPARATOR, QUERY_SEPARATOR, Bytes, Ints, pad

_Ranks = NDArray[np.int32]
_WORD = 8


def longest_matches(queries: Bytes, corpus: bytes, longest: int) -> NDArray[np.int32]:
    """Length of the longest match in `corpus` at each position of `queries`, in bytes.

    `queries` are texts separated by QUERY_SEPARATOR, each of at most `longest` bytes; `corpus` is
    texts separated by CORPUS_SEPARATOR. Both must be shorter than 2^31 bytes together. Matches
    never cross a separator.

    >>> queries = np.frombuffer(b"banana", dtype=np.uint8)
    >>> longest_matches(queries, b"ana\\xffban", 6).tolist()
    [3, 3, 2, 3, 2, 1]
    """
    joined = corpus + CORPUS_SEPARATOR
    n_corpus = len(joined)
    raw = pad(joined + queries.tobytes() + QUERY_SEPARATOR)
    words = np.ndarray((len(raw) - _WORD,), dtype=">u8", buffer=raw, strides=(1,))
    words = words.astype(np.uint64)
    order, levels = _sort_suffixes(words, n_corpus, longest)

    is_corpus = order < n_corpus
    slots = np.arange(len(order))
    above = np.maximum.accumulate(np.where(is_corpus, slots, -1))
    below = np.minimum.accumulate(np.where(is_corpus, slots, len(order))[::-1])[::-1]
    at = np.flatnonzero(~is_corpus & (order < len(raw) - _WORD - 1))
    matches = np.zeros(len(queries), dtype=np.int32)
    for neighbour in (above[at], below[at]):
        exists = (neighbour >= 0) & (neighbour < len(order))
        mine, theirs = order[at[exists]], order[neighbour[exists]]
        place = mine - n_corpus
        matches[place] = np.maximum(matches[place], _common(mine, theirs, words, levels))
    return matches


def _sort_suffixes(words: NDArray[np.uint64], n_corpus: int, longest: int) -> tuple[Ints, list]:
    """Sort suffixes until groups of equal prefixes belong to one text or exceed `longest` bytes.

    Returns the order (suffixes by slot) and, for each level k, ranks such that a query suffix
    and a corpus suffix have the same rank if and only if their first 8 * 2^k bytes are equal. A
    rank is the first slot of a group, so sorting one group leaves the ranks of others unchanged.
    """
    n = len(words)
    order = np.argsort(words)
    starts_group = np.ones(n, dtype=bool)
    starts_group[1:] = np.diff(words[order]) != 0
    ranks = np.empty(n, dtype=np.int32)
    ranks[order] = _group_starts(starts_group, np.arange(n))
    levels = [ranks]
    length = _WORD
    while length <= longest:
        slots = _mixed_slots(order, ranks, n_corpus)
        if not len(slots):
            break
        members = order[slots]
        after = members + length
        # Past the end sorts first: 0; ranks count from 1.
        next_rank = np.where(after < n, ranks[np.minimum(after, n - 1)] + 1, 0)
        key = ranks[members].astype(np.int64) * (n + 1) + next_rank
        by_key = np.argsort(key)
        members, key = members[by_key], key[by_key]
        order[slots] = members
        starts_group = np.ones(len(slots), dtype=bool)
        starts_group[1:] = np.diff(key) != 0
        ranks = ranks.copy()
        ranks[members] = _group_starts(starts_group, slots)
        levels.append(ranks)
        length *= 2
    return order, levels


def _group_starts(starts_group: NDArray[np.bool_], slots: Ints) -> Ints:
    """For each member, in order, the slot of the first member of its group."""
    first = np.flatnonzero(starts_group)
    return np.repeat(slots[first], np.diff(np.append(first, len(slots))))


def _mixed_slots(order: Ints, ranks: _Ranks, n_corpus: int) -> Ints:
    """Slots, ascending, of the groups with suffixes of both texts."""
    has_corpus = np.zeros(len(order), dtype=bool)
    has_query = np.zeros(len(order), dtype=bool)
    has_corpus[ranks[:n_corpus]] = True
    has_query[ranks[n_corpus:]] = True
    return np.flatnonzero((has_corpus & has_query)[ranks[order]])


def _common(mine: Ints, theirs: Ints, words: NDArray[np.uint64], levels: list) -> Ints:
    """Common prefix lengths of pairs of suffixes, one from each text."""
    n = len(words)
    common = np.zeros(len(mine), dtype=np.int64)
    for k in range(len(levels) - 1, -1, -1):
        ranks = levels[k]
        a, b = mine + common, theirs + common
        inside = (a < n) & (b < n)
        same = ranks[np.minimum(a, n - 1)] == ranks[np.minimum(b, n - 1)]
        common += np.where(inside & same, _WORD << k, 0)
    a, b = np.minimum(mine + common, n - 1), np.minimum(theirs + common, n - 1)
    differing = words[a] ^ words[b]
    for k in range(1, _WORD + 1):
        # The first k bytes agree if no bit above the last 8 - k bytes differs.
        common += differing >> np.uint64(64 - 8 * k) == 0
    return common
