"""How often each window's text occurs in the corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pandas as pd

from auditor.corpus.reading import Document
from auditor.matching.verbatim import Query, find_matches

# More tokens than any text has, so that only whole windows match, by their characters.
_NO_TOKENS = 1 << 30


def count_repeats(
    texts: Sequence[str | None],
    corpus: Iterable[Document],
    *,
    count: Callable[[str], int] | None = None,
) -> pd.Series:
    """Occurrences of each text in a corpus, Int64 (n,); NA where the text is None.

    Parameters
    ----------
    texts : sequence of str or None
    corpus : iterable of Document, to be read twice
        Scanned if `count` is None.
    count : callable(text) -> int, optional
        Counts in an index of the same corpus instead, such as `open_index(folder).count`.

    >>> corpus = [Document("a", "one two one two", "")]
    >>> count_repeats(["one two", None], corpus).tolist()
    [2, <NA>]
    """
    known = {text for text in texts if text}
    if count is not None:
        found = {text: count(text) for text in known}
    else:
        found = _searched(sorted(known), corpus)
    values = [found.get(text) if text else None for text in texts]
    return pd.Series(pd.array(values, dtype="Int64"), name="repeats")


def _searched(texts: list[str], corpus: Iterable[Document]) -> dict[str, int]:
    found = dict.fromkeys(texts, 0)
    if not texts:
        return found
    queries = [Query(str(i), text, []) for i, text in enumerate(texts)]
    shortest = min(map(len, texts))
    for match in find_matches(queries, corpus, min_tokens=_NO_TOKENS, min_chars=shortest):
        text = texts[int(match.sample_id)]
        if match.n_chars == len(text):
            found[text] = match.n_occurrences
    return found
