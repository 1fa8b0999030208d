"""The membership scores of texts, all of them at once; `score_table` says what they are.

The scores that the literature on membership inference compares, as columns. A score is float64
(n,), and higher means more likely a member, without exception. What has no value is NaN and never
an error; `membership_undefined` counts why. (What is `perplexity` for an audit's samples is `loss`
here.)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attacks.frequency import dc_pdd
from attacks.min_k import min_k, min_k_plus_plus
from attacks.neighbourhood import neighbourhood
from attacks.paper_scores import lowercase, perplexity, reference, reference_by_bytes, window, zlib
from attacks.recall import recall
from attacks.reference_difference import reference_difference, reference_difference_by_bytes
from attacks.scores import check_other_tokenizers
from attacks.surprise import surp
from attacks.token_stats import TokenStats
from attacks.undefined import NO_ROW, count_reasons, without_row

Values = NDArray[np.float64]


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
        broken = np.where(target.rank >= 0, moments, 0.0)
        whole = np.add.reduceat(np.append(np.isnan(broken), 0), target.offsets)[:-1] == 0
        causes["not finite vocabulary moments"] = ~whole & (target.n_tokens() > 0)
    if name == "surp":
        causes["text has no surprising token"] = np.ones(len(target), bool)
    if name == "neighbourhood" and around[1] is not None:
        causes["text has no neighbour"] = np.ravel(around[1]) == 0
    return causes
