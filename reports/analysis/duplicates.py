"""Duplicate texts by the paper's rule on multisets of word trigrams, for many texts.

The rule compares a text with every text chosen before it. Done as written, that is millions of
Counter intersections. Here words and trigrams become integers once, with an index from trigram to
texts, and choosing a text marks all its duplicates in one sweep; so the cost depends on how many
texts are chosen, not on how many are passed over.
"""

import string
import unicodedata
from array import array
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

import numpy as np

_SWEEP = 1 << 22  # postings read at a time: bounds memory when all texts are alike


class _Spaces(dict[int, str]):
    """Translation table from punctuation to spaces, filled on demand."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        is_punctuation = char in string.punctuation or unicodedata.category(char)[0] == "P"
        self[code] = " " if is_punctuation else char
        return self[code]


_SPACES = _Spaces()


def words(text: str) -> list[str]:
    """The words of a text, split at whitespace and punctuation; case is kept.

    Source
    ------
    Carlini et al. 2021, section 6.1. Punctuation is Unicode's, with ASCII's symbols ($ + < = > ^
    ` | ~); a script that writes no spaces gives one word a clause.

    >>> words("Don't split: a_b, or  do!")
    ['Don', 't', 'split', 'a', 'b', 'or', 'do']
    """
    # Seven times as fast as a regular expression, and right where its \w is not: that one
    # splits words at the vowel signs of Indic scripts and keeps underscores.
    return text.translate(_SPACES).split()


def _padded(found: list[str]) -> list[str]:
    return [""] * (3 - len(found)) + found


def _word_ids(texts: Iterable[str]) -> tuple[np.ndarray, np.ndarray, int]:
    """Words of all texts as integers (0 = the empty word), words per text, vocabulary size."""
    number: defaultdict[str, int] = defaultdict(count(1).__next__)
    number[""] = 0
    ids, lengths = array("i"), array("q")
    for text in texts:
        found = words(text)
        if len(found) < 3:
            found = _padded(found)
        ids.extend(map(number.__getitem__, found))
        lengths.append(len(found))
    return np.array(ids, dtype=np.int32), np.array(lengths, dtype=np.int64), len(number)


def _trigram_keys(ids: np.ndarray, lengths: np.ndarray, n_words: int) -> np.ndarray:
    """One int64 for each trigram of each text; equal where the three words are equal."""
    starts = np.ones(len(ids), dtype=bool)
    ends = np.cumsum(lengths)
    starts[ends - 1] = starts[ends - 2] = False
    (at,) = np.nonzero(starts)
    keys = ids[at].astype(np.int64) * n_words + ids[at + 1]
    if n_words**3 >= 2**63:
        # Number the pairs that occur: there are no more of them than words in all the texts.
        keys = np.unique(keys, return_inverse=True)[1].astype(np.int64)
    return keys * n_words + ids[at + 2]


def _bounds(sizes: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])


@dataclass(frozen=True, eq=False)
class Trigrams:
    """Word trigrams of n texts as integers, and the index back from trigram to texts.

    Only trigrams that two or more texts share are kept: the others can make nobody a duplicate.
    All of them count in `totals`.

    >>> trigrams = Trigrams.from_texts(["a b c d", "x a b c y", "no relation here"])
    >>> trigrams.totals, trigrams.duplicates_of(1)
    (array([2, 3, 1]), array([0]))
    """

    totals: np.ndarray  # int64 (n_texts,): |tri(s)|
    offsets: np.ndarray  # int64 (n_texts + 1,): into ids and counts
    ids: np.ndarray  # int32 (n_pairs,): shared trigrams, text by text
    counts: np.ndarray  # int32 (n_pairs,): how often the text has it
    posting_offsets: np.ndarray  # int64 (n_ids + 1,): into the two below
    posting_texts: np.ndarray  # int32 (n_pairs,): texts that have a trigram, trigram by trigram
    posting_counts: np.ndarray  # int32 (n_pairs,)

    def __len__(self) -> int:
        return len(self.totals)

    @classmethod
    def from_texts(cls, texts: Iterable[str]) -> "Trigrams":
        """Encode texts exactly, without hashing; needs about 50 bytes per word.

        texts : iterable of str, read once and not kept

        >>> len(Trigrams.from_texts([]))
        0
        """
        ids, lengths, n_words = _word_ids(texts)
        totals = lengths - 2
        keys = _trigram_keys(ids, lengths, n_words)
        del ids
        # Stable, so that the texts of one trigram stay in order and equal texts side by side.
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        owners = np.repeat(np.arange(len(totals), dtype=np.int32), totals)[order]
        del order
        return cls(totals, *_index(keys, owners, len(totals)))

    def duplicates_of(self, index: int) -> np.ndarray:
        """The texts that are duplicates of one text, without itself."""
        own = slice(self.offsets[index], self.offsets[index + 1])
        ids, counts = self.ids[own], self.counts[own]
        starts = self.posting_offsets[ids]
        sizes = self.posting_offsets[ids + 1] - starts
        overlap = np.zeros(len(self), dtype=np.int64)
        for part in np.split(np.arange(len(ids)), _sweeps(sizes)):
            size = sizes[part]
            ends = np.cumsum(size)
            at = np.arange(size.sum()) + np.repeat(starts[part] - ends + size, size)
            shared = np.minimum(self.posting_counts[at], np.repeat(counts[part], size))
            found = np.bincount(self.posting_texts[at], weights=shared, minlength=len(self))
            overlap += found.astype(np.int64)
        duplicate = 2 * overlap >= self.totals
        duplicate[index] = False
        return np.flatnonzero(duplicate)


def _sweeps(sizes: np.ndarray) -> np.ndarray:
    """Where to cut a list of posting sizes so that each part stays near _SWEEP postings."""
    return np.flatnonzero(np.diff(np.cumsum(sizes) // _SWEEP)) + 1


def _index(keys: np.ndarray, owners: np.ndarray, n_texts: int) -> tuple[np.ndarray, ...]:
    """Sorted (trigram, text) pairs, repeats included, to the six index columns of Trigrams."""
    new_key = np.ones(len(keys), dtype=bool)
    new_key[1:] = keys[1:] != keys[:-1]
    new_pair = new_key.copy()
    new_pair[1:] |= owners[1:] != owners[:-1]
    (at,) = np.nonzero(new_pair)
    counts = np.diff(at, append=len(keys)).astype(np.int32)
    owners, ids = owners[at], np.cumsum(new_key[at]) - 1
    n_holders = np.bincount(ids) if len(ids) else np.zeros(0, dtype=np.int64)
    shared = n_holders[ids] > 1
    owners, counts = owners[shared], counts[shared]
    renumbered = np.cumsum(n_holders > 1, dtype=np.int32) - np.int32(1)
    ids = renumbered[ids[shared]]
    by_text = np.argsort(owners, kind="stable")
    offsets = _bounds(np.bincount(owners, minlength=n_texts))
    postings = _bounds(n_holders[n_holders > 1])
    return offsets, ids[by_text], counts[by_text], postings, owners, counts


@dataclass(frozen=True, eq=False)
class Selection:
    """The selection of `select`, in order, and the number of duplicates that it skipped."""

    chosen: np.ndarray  # int64 (<= top,): indices of texts
    n_skipped: int


def select(trigrams: Trigrams, order: np.ndarray, top: int) -> Selection:
    """Select texts in order, skip duplicates of selected texts, and stop at `top`.

    order : indices of texts, best first; not all texts need to be in it, each at most once

    Source
    ------
    Carlini et al. 2021, section 6.1.

    >>> trigrams = Trigrams.from_texts(["x a b c y", "a b c d", "no relation here"])
    >>> select(trigrams, np.array([0, 1, 2]), top=2)
    Selection(chosen=array([0, 2]), n_skipped=1)
    """
    duplicate = np.zeros(len(trigrams), dtype=bool)
    chosen: list[int] = []
    n_skipped = 0
    for index in np.asarray(order).tolist():
        if len(chosen) >= top:
            break
        if duplicate[index]:
            n_skipped += 1
        else:
            chosen.append(index)
            duplicate[trigrams.duplicates_of(index)] = True
    return Selection(np.array(chosen, dtype=np.int64), n_skipped)


def mark_duplicates(trigrams: Trigrams, order: np.ndarray) -> np.ndarray:
    """For each text, the first kept text before it that it duplicates.

    order : indices of texts, in the order in which they are kept or marked

    Returns int64 array (n_texts,); -1 for a text that is kept, or that is not in `order`.

    Source
    ------
    Carlini et al. 2021, section 6.1.

    >>> trigrams = Trigrams.from_texts(["a b c d", "x a b c y", "no relation here"])
    >>> mark_duplicates(trigrams, np.array([1, 0, 2])), mark_duplicates(trigrams, np.arange(3))
    (array([ 1, -1, -1]), array([-1, -1, -1]))
    """
    first = np.full(len(trigrams), -1, dtype=np.int64)
    waiting = np.zeros(len(trigrams), dtype=bool)
    waiting[order] = True
    for index in np.asarray(order).tolist():
        if waiting[index]:
            waiting[index] = False
            found = trigrams.duplicates_of(index)
            found = found[waiting[found]]
            first[found] = index
            waiting[found] = False
    return first
