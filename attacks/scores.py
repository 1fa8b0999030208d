"""The scores of an audit's samples, all of them at once; `score_table` says what they are.

A score is float64 (n,), and higher means more likely memorized, without exception. What has no
value is NaN and never an error; `undefined_reasons` counts why. The functions themselves are in
`paper_scores` and can be had from here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attacks.paper_scores import (
    bits_per_byte,
    lowercase,
    lowercase_of_perplexities,
    perplexity,
    reference,
    reference_by_bytes,
    window,
    zlib,
    zlib_bits,
)
from attacks.token_stats import TokenStats
from attacks.undefined import NO_ROW, count_reasons, without_row

__all__ = [
    "all_scores",
    "bits_per_byte",
    "lowercase",
    "lowercase_of_perplexities",
    "perplexity",
    "reference",
    "reference_by_bytes",
    "undefined_reasons",
    "window",
    "zlib",
    "zlib_bits",
]

Values = NDArray[np.float64]


def all_scores(
    target: TokenStats,
    *,
    zlib_bits: ArrayLike | None = None,
    references: Mapping[str, TokenStats] | None = None,
    lowercased: TokenStats | None = None,
    n_bytes: ArrayLike | None = None,
    other_tokenizer: Collection[str] = frozenset(),
) -> dict[str, Values]:
    """Every score that `score_table` has for samples and whose inputs are given, in its order.

    Parameters
    ----------
    target : TokenStats of n texts
    zlib_bits : int array (n,), for `zlib`
    references : mapping of a name to the TokenStats of the same texts, for `reference:NAME`
    lowercased : TokenStats of the texts lower-cased, under the target, for `lowercase`
    n_bytes : int array (n,), needed for the references with another tokenizer
    other_tokenizer : names of the references to be compared by bytes

    Returns
    -------
    dict of column name to float64 array (n,).

    Raises
    ------
    ValueError
        If `other_tokenizer` names no reference, or n_bytes is missing; as the scores, besides.

    >>> list(all_scores(TokenStats.from_lists([[5]], [[-1.0]], [[0]]), zlib_bits=[160]))
    ['perplexity', 'zlib', 'window']
    """
    references = references or {}
    check_other_tokenizers(other_tokenizer, references, n_bytes is None)
    scores = {"perplexity": perplexity(target)}
    for name, stats in references.items():
        if n_bytes is not None and name in other_tokenizer:
            scores[f"reference:{name}"] = reference_by_bytes(target, stats, n_bytes)
        else:
            scores[f"reference:{name}"] = reference(target, stats)
    if zlib_bits is not None:
        scores["zlib"] = zlib(target, zlib_bits)
    if lowercased is not None:
        scores["lowercase"] = lowercase(target, lowercased)
    scores["window"] = window(target)
    return scores


def undefined_reasons(
    scores: Mapping[str, Values],
    target: TokenStats,
    *,
    references: Mapping[str, TokenStats] | None = None,
    lowercased: TokenStats | None = None,
    n_bytes: ArrayLike | None = None,
) -> dict[str, dict[str, int]]:
    """Why values of the scores are NaN: counts by score and reason, the first that applies.

    Parameters
    ----------
    scores : dict of column name to float64 array (n,), as `all_scores` gives
    target, references, lowercased, n_bytes : what the scores were made of

    Returns
    -------
    dict of column name to dict of reason to count, without scores that have no NaN. "other" is
    for what the inputs passed here do not explain.

    >>> target = TokenStats.from_lists([[5], []], [[-1.0], []], [[0], []])
    >>> undefined_reasons({"perplexity": perplexity(target)}, target)
    {'perplexity': {'text has no scored token': 1}}
    """
    compared = {f"reference:{name}": stats for name, stats in (references or {}).items()}
    if lowercased is not None:
        compared["lowercase"] = lowercased
    no_bytes = np.zeros(len(target), bool) if n_bytes is None else np.asarray(n_bytes) == 0
    counts: dict[str, dict[str, int]] = {}
    for name, values in scores.items():
        other = compared.get(name, target)
        # A reference that was not passed cannot be said to be zero; zlib has none.
        both_known = name == "zlib" or name in compared
        causes = {
            "text has no scored token": target.n_scored() == 0,
            NO_ROW: without_row(other),
            "text to compare with has no scored token": other.n_scored() == 0,
            "not finite token log-probability": ~np.isfinite(target.nll() + other.nll()),
            "zero over zero": both_known & (target.nll() == 0) & (other.nll() == 0),
            "text has no bytes": no_bytes,
        }
        if reasons := count_reasons(values, causes):
            counts[name] = reasons
    return counts


def check_other_tokenizers(
    names: Collection[str], references: Collection[str], without_bytes: bool
) -> None:
    """A ValueError unless `names` are references, and bytes are there to compare them by."""
    unknown = sorted(set(names) - set(references))
    if unknown:
        raise ValueError(
            f"other_tokenizer must name references ({', '.join(references) or 'none given'}); "
            f"got {', '.join(unknown)}. Add it to references or take it out."
        )
    if names and without_bytes:
        raise ValueError(
            "n_bytes must be given for references with another tokenizer "
            f"({', '.join(sorted(names))}); got None. Pass the bytes of each text."
        )
