"""The longest stretch of a sample's words whose trigrams stand close together in a document."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.corpora.blocks import Ints

_NEVER = np.iinfo(np.int64).max // 4

# Starts of windows looked at together: with the sample's trigrams they make a table.
_STARTS_AT_ONCE = 2048


@dataclass(frozen=True)
class Stretch:
    """Words [start, start + n_words) of a sample, and the document's word where they begin."""

    n_words: int
    start: int
    place: int


def longest_stretch(places: Ints, trigrams: Ints, n_words: int, *, at_least: int) -> Stretch | None:
    """The longest stretch of m words whose trigrams all lie within 2 m words of the document.

    Parameters
    ----------
    places, trigrams : int64 arrays (n_hits,)
        The document's word number `places[i]` begins a trigram that is the sample's trigram
        number `trigrams[i]`, too.
    n_words : int
        Words of the sample, which has n_words - 2 trigrams.
    at_least : int
        Shorter stretches are not looked for; 3 or more.

    Returns
    -------
    Stretch or None
        Of several that are longest: the one earliest in the document, then in the sample. `place`
        is the first of its trigrams within the window.

    >>> hits = np.arange(10)
    >>> longest_stretch(hits + 50, hits, 12, at_least=3)
    Stretch(n_words=12, start=0, place=50)
    """
    if not len(places):
        return None
    far = int(places.max()) + 1
    keys = np.sort(trigrams * far + places)
    starts = np.unique(places)
    by_trigram = keys // far, keys % far
    starts = starts[_most_trigrams(*by_trigram, starts, n_words) >= at_least - 2]
    bound = _longest_runs(*by_trigram, starts, n_words)
    firsts = np.arange(n_words - 2) * far
    best: Stretch | None = None
    wanted = at_least
    for i in range(len(starts)):
        if wanted > n_words:
            break
        # A stretch of m words has m - 2 trigrams, so fewer cannot make one.
        if bound[i] < wanted - 2:
            continue
        place = int(starts[i])
        next_hit = np.searchsorted(keys, firsts + place)
        found = keys[np.minimum(next_hit, len(keys) - 1)]
        exists = (next_hit < len(keys)) & (found < firsts + far)
        distance = np.where(exists, found - firsts - place, _NEVER)
        stretch = _from_place(distance, place, wanted)
        if stretch:
            best, wanted = stretch, stretch.n_words + 1
    return best


def _most_trigrams(trigrams: Ints, places: Ints, starts: Ints, n_words: int) -> Ints:
    """For each start, how many of the sample's trigrams begin in the widest window from there.

    The hits are sorted by trigram and place.
    """
    first, end = _starts_of(trigrams, places, starts, n_words)
    change = np.bincount(first, minlength=len(starts) + 1)
    change -= np.bincount(end, minlength=len(starts) + 1)
    return np.cumsum(change[:-1])


def _longest_runs(trigrams: Ints, places: Ints, starts: Ints, n_words: int) -> Ints:
    """For each start, the most trigrams in a row in the sample that begin in the widest window."""
    rows = np.arange(n_words - 2, dtype=np.int32)[:, None]
    first, end = _starts_of(trigrams, places, starts, n_words)
    runs = [np.zeros(0, dtype=np.int64)]
    for begin in range(0, len(starts), _STARTS_AT_ONCE):
        n = min(_STARTS_AT_ONCE, len(starts) - begin)
        # (n_trigrams, n + 1): +1 where a trigram comes into the window, -1 where it leaves it.
        size = (n_words - 2) * (n + 1)
        change = np.bincount(trigrams * (n + 1) + np.clip(first - begin, 0, n), minlength=size)
        change -= np.bincount(trigrams * (n + 1) + np.clip(end - begin, 0, n), minlength=size)
        is_near = np.cumsum(change.reshape(-1, n + 1)[:, :n], axis=1) > 0
        last_gap = np.maximum.accumulate(np.where(is_near, np.int32(-1), rows), axis=0)
        runs.append((rows - last_gap).max(axis=0).astype(np.int64))
    return np.concatenate(runs)


def _starts_of(trigrams: Ints, places: Ints, starts: Ints, n_words: int) -> tuple[Ints, Ints]:
    """For each hit, the range of starts from which it is its trigram's next one, and near enough.

    These are the starts after the same trigram's hit before it, up to the hit itself.
    """
    before = np.append(-1, places[:-1])
    before[np.append(True, np.diff(trigrams) != 0)] = -1
    too_far = places - (2 * n_words - 3) - 1
    first = np.searchsorted(starts, np.maximum(before, too_far), "right")
    return first, np.searchsorted(starts, places, "right")


def _from_place(distance: NDArray[np.int64], place: int, wanted: int) -> Stretch | None:
    """The longest stretch, of at least `wanted` words, with a trigram at the window's first word.

    `distance` is, for each trigram of the sample, how far after that word it stands next.
    """
    n_words = len(distance) + 2
    here = np.flatnonzero(distance == 0)
    # Neighbours that both stand at the first word belong to the same stretch: one is enough.
    here = here[np.append(True, np.diff(here) > 1)]
    lengths = np.arange(wanted, n_words + 1)
    best: Stretch | None = None
    for anchor in here.tolist():
        right = np.maximum.accumulate(distance[anchor:])
        left = np.maximum.accumulate(distance[anchor::-1])
        # Of m words, the last trigram begins no more than 2 m - 3 words after the window does.
        n_left = np.searchsorted(left, 2 * lengths - 3, "right")
        n_right = np.searchsorted(right, 2 * lengths - 3, "right")
        fits = np.flatnonzero(n_left + n_right - 1 >= lengths - 2)
        if len(fits) and (best is None or lengths[fits[-1]] > best.n_words):
            start = anchor - int(n_left[fits[-1]]) + 1
            best = Stretch(int(lengths[fits[-1]]), start, place)
    return best
