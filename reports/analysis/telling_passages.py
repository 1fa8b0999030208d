"""The verbatim passages that tell most: long ones that the training text holds rarely."""

import zlib

import numpy as np
import pandas as pd

from reports.analysis.duplicates import Trigrams, select
from reports.analysis.strategy_estimates import passages_of


def telling_passages(candidates: pd.DataFrame, n: int = 5) -> pd.DataFrame:
    """The n candidates whose verbatim passages tell most, the most telling first.

    A passage tells more the longer it is and the rarer it is in the training text: passages are
    ordered by their compressed size, so that repeats within one count little, divided by
    1 + log2(n_occurrences). Each passage is shown once, by the candidate that holds most of it;
    passages that share half of their word trigrams with one before them are left out, as are
    candidates that are only in the random control.

    candidates : the frame `candidates`, with match_start and match_end

    Returns DataFrame: rows of `candidates`, with `matched`, the text of the passage.

    >>> rows = pd.DataFrame({"text": ["to be or not", "ababababab"], "verdict": "verbatim",
    ...     "best_rank": [2, 1], "match_start": [0, 0], "match_end": [12, 10],
    ...     "n_occurrences": [1, 1]})
    >>> telling_passages(rows)["matched"].tolist()
    ['to be or not', 'ababababab']
    """
    is_shown = (candidates["verdict"] == "verbatim") & candidates["best_rank"].notna()
    if "match_start" not in candidates or not is_shown.any():
        return candidates.iloc[:0].assign(matched="")
    rows = candidates[is_shown]
    rows = rows[rows["match_start"].notna() & rows["match_end"].notna()]
    ends = rows[["text", "match_start", "match_end"]].itertuples(index=False)
    matched = pd.Series([text[int(a) : int(b)] for text, a, b in ends], rows.index, dtype=object)
    rows = rows.assign(matched=matched)[[bool(text.strip()) for text in matched]]
    bits = np.array([_compressed(text) for text in rows["matched"]])
    often = rows.get("n_occurrences", pd.Series(1, rows.index)).fillna(1).to_numpy(float)
    rows = rows.iloc[np.argsort(-bits / (1 + np.log2(np.maximum(often, 1))), kind="stable")]
    passages = passages_of(rows)
    rows = rows[~passages.duplicated().to_numpy() | passages.isna().to_numpy()]
    distinct = select(Trigrams.from_texts(rows["matched"]), np.arange(len(rows)), n)
    return rows.iloc[distinct.chosen]


def _compressed(text: str) -> int:
    return len(zlib.compress(text.encode("utf-8", "surrogatepass"), 9))
