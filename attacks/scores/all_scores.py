"""The scores of an audit's samples, all of them at once; `score_table` says what they are.

A score is float64 (n,), and higher means more likely memorized, without exception. What has no
value is NaN and never an error; `undefined_reasons` counts why. The functions themselves are in
`paper_scores` and can be had from here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attacks.scores.dc_pdd import dc_pdd
from attacks.scores.min_k import min_k, min_k_plus_plus, surp
from attacks.scores.neighbourhood import neighbourhood
from attacks.scores.paper import (
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
from attacks.scores.recall import recall
from attacks.scores.reference_difference import reference_difference, reference_difference_by_bytes
from attacks.scores.token_stats import TokenStats

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


def membership_scores(
    target: TokenStats,
    *,
    zlib_bits: ArrayLike | None = None,
    references: Mapping[str, TokenStats] | None = None,
    lowercased: TokenStats | None = None,
    n_bytes: ArrayLike | None = None,
    other_tokenizer: Collection[str] = frozenset(),
    conditioned: TokenStats | None = None,
    neighbours: TokenStats | None = None,
    n_neighbours: ArrayLike | None = None,
    token_counts: ArrayLike | None = None,
) -> dict[str, Values]:
    """Every score that `score_table` has for texts and whose inputs are given, in its order.

    Parameters
    ----------
    target : TokenStats of n texts
        With vocab_mean and vocab_std, for `min_k_plus_plus` and `surp`.
    zlib_bits : int array (n,), for `zlib`
    references : mapping of a name to the TokenStats of the same texts, for `reference:NAME` and
        `reference_difference:NAME`
    lowercased : TokenStats of the texts lower-cased, under the target, for `lowercase`
    n_bytes : int array (n,), needed for the references with another tokenizer
    other_tokenizer : names of the references to be compared by bytes
    conditioned : TokenStats of the texts, or of their first tokens, after a prefix of
        non-members, under the target, for `recall`
    neighbours, n_neighbours : TokenStats of all texts' neighbours in a row, and int array (n,) of
        how many each text has, for `neighbourhood`
    token_counts : int array (n_vocab,), of a reference corpus, for `dc_pdd`

    Returns
    -------
    dict of column name to float64 array (n,).

    Raises
    ------
    ValueError
        As the scores; or if neighbours come without n_neighbours, `other_tokenizer` names no
        reference, or n_bytes is missing.

    >>> target = TokenStats.from_lists([[5]], [[-1.0]], [[0]])
    >>> list(membership_scores(target, zlib_bits=[160], token_counts=np.ones(9, int)))
    ['loss', 'zlib', 'window', 'min_k', 'dc_pdd']
    """
    references = references or {}
    check_other_tokenizers(other_tokenizer, references, n_bytes is None)
    if neighbours is not None and n_neighbours is None:
        raise ValueError(
            "n_neighbours must be given with neighbours; got None. "
            "Pass how many neighbours each text has."
        )
    scores = {"loss": perplexity(target)}
    scores |= _reference_scores(target, references, n_bytes, other_tokenizer)
    if zlib_bits is not None:
        scores["zlib"] = zlib(target, zlib_bits)
    if lowercased is not None:
        scores["lowercase"] = lowercase(target, lowercased)
    scores["window"] = window(target)
    scores["min_k"] = min_k(target)
    if target.vocab_mean is not None and target.vocab_std is not None:
        scores["min_k_plus_plus"] = min_k_plus_plus(target)
        scores["surp"] = surp(target)
    if conditioned is not None:
        scores["recall"] = recall(target, conditioned)
    if neighbours is not None and n_neighbours is not None:
        scores["neighbourhood"] = neighbourhood(target, neighbours, n_neighbours)
    if token_counts is not None:
        scores["dc_pdd"] = dc_pdd(target, token_counts)
    return scores


def membership_undefined(
    scores: Mapping[str, Values],
    target: TokenStats,
    *,
    references: Mapping[str, TokenStats] | None = None,
    lowercased: TokenStats | None = None,
    n_bytes: ArrayLike | None = None,
    conditioned: TokenStats | None = None,
    neighbours: TokenStats | None = None,
    n_neighbours: ArrayLike | None = None,
) -> dict[str, dict[str, int]]:
    """Why values of the scores are NaN: counts by score and reason, the first that applies.

    Parameters
    ----------
    scores : dict of column name to float64 array (n,), as `membership_scores` gives
    target, references, lowercased, n_bytes, conditioned, neighbours, n_neighbours : what the
        scores were made of

    Returns
    -------
    dict of column name to dict of reason to count, without scores that have no NaN. "other" is
    for what the inputs passed here do not explain.

    >>> target = TokenStats([0, 1], [5], [-1.0], [0], [-3.0], [1.0])  # entropy 3: not surprising
    >>> membership_undefined({"surp": surp(target)}, target)
    {'surp': {'text has no surprising token': 1}}
    """
    compared: dict[str, TokenStats] = {}
    for name, stats in (references or {}).items():
        compared |= {f"reference:{name}": stats, f"reference_difference:{name}": stats}
    compared |= {"lowercase": lowercased} if lowercased is not None else {}
    compared |= {"recall": conditioned} if conditioned is not None else {}
    without_bytes = np.zeros(len(target), bool) if n_bytes is None else np.ravel(n_bytes) == 0
    around = (neighbours, n_neighbours)
    counts = {}
    for name, values in scores.items():
        causes = _causes(name, target, compared.get(name), without_bytes, around)
        if reasons := count_reasons(values, causes):
            counts[name] = reasons
    return counts


def _reference_scores(target, references, n_bytes, other_tokenizer) -> dict[str, Values]:
    ratios, differences = {}, {}
    for name, stats in references.items():
        if name in other_tokenizer:
            ratio = reference_by_bytes(target, stats, n_bytes)
            difference = reference_difference_by_bytes(target, stats, n_bytes)
        else:
            ratio, difference = reference(target, stats), reference_difference(target, stats)
        ratios[f"reference:{name}"] = ratio
        differences[f"reference_difference:{name}"] = difference
    return ratios | differences


def _causes(name, target, other, without_bytes, around) -> dict[str, NDArray[np.bool_]]:
    """What may have left a score undefined, and where it holds, the first cause first."""
    nll = target.nll()
    causes = {
        "text has no scored token": target.n_scored() == 0,
        "not finite token log-probability": ~np.isfinite(nll),
    }
    if other is not None:
        causes[NO_ROW] = without_row(other)
        causes["text to compare with has no scored token"] = other.n_scored() == 0
        causes["not finite log-probability in the text to compare with"] = ~np.isfinite(other.nll())
    if other is not None and not name.startswith("reference_difference"):
        causes["zero over zero"] = (nll == 0) & (other.nll() == 0)
    if name.startswith("reference"):
        causes["text has no bytes"] = without_bytes
    if name in ("min_k_plus_plus", "surp") and target.vocab_mean is not None:
        moments = target.vocab_mean + target.vocab_std
        broken = np.where(target.is_scored, moments, 0.0)
        whole = np.add.reduceat(np.append(np.isnan(broken), 0), target.offsets)[:-1] == 0
        causes["not finite vocabulary moments"] = ~whole & (target.n_tokens() > 0)
    if name == "surp":
        causes["text has no surprising token"] = np.ones(len(target), bool)
    if name == "neighbourhood" and around[1] is not None:
        causes["text has no neighbour"] = np.ravel(around[1]) == 0
    return causes


NO_ROW = "model to compare with has no row for a token of the text"


def without_row(stats: TokenStats) -> NDArray[np.bool_]:
    """Texts that a model was not asked about, as it has no row for one of their tokens: bool (n,).

    None of their tokens has a probability; of others the first alone may have none.

    >>> without_row(TokenStats.from_lists([[5, 9], [5]], [[None, None], [None]], [[-1, -1], [-1]]))
    array([ True, False])
    """
    return (stats.n_tokens() > 1) & (stats.n_scored() == 0)


def count_reasons(
    values: NDArray[np.float64], causes: Mapping[str, NDArray[np.bool_]]
) -> dict[str, int]:
    """How many values are NaN for each cause, the first that holds; "other" for those of none.

    Parameters
    ----------
    values : float64 array (n,)
    causes : mapping of a reason to a bool array (n,), in the order in which they apply

    Returns
    -------
    dict of reason to count, without those of none.

    >>> count_reasons(np.array([np.nan, 1.0, np.nan]), {"empty": np.array([True, True, False])})
    {'empty': 1, 'other': 1}
    """
    counts = {}
    unexplained = np.isnan(values)
    for reason, holds in {**causes, "other": np.ones(len(values), bool)}.items():
        if n := int((unexplained & holds).sum()):
            counts[reason] = n
        unexplained &= ~holds
    return counts
