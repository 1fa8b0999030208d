"""All scores of texts at once; `score_table` describes them.

Scores are float64 (n,); higher means more likely memorized. Undefined values are NaN and never an
error; `undefined_reasons` counts why.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attacks.scores import paper
from attacks.scores.dc_pdd import dc_pdd
from attacks.scores.min_k import min_k, min_k_plus_plus, surp
from attacks.scores.neighbourhood import neighbourhood
from attacks.scores.paper import zlib_bits
from attacks.scores.recall import con_recall, recall
from attacks.scores.reference_difference import reference_difference, reference_difference_by_bytes
from attacks.scores.score_table import SAMPLES, TEXTS, scores_for
from attacks.scores.token_differences import WBC_LENGTHS, ez_mia, wbc
from attacks.scores.token_stats import RANK_UNKNOWN, TokenStats, Values, offsets_of

__all__ = ["SAMPLES", "TEXTS", "all_scores", "undefined_reasons", "zlib_bits"]

# Arguments: the inputs in `Score.needs`, in that order.
_FUNCTIONS: dict[str, Callable[..., Values]] = {
    "likelihood": paper.likelihood,
    "loss": paper.likelihood,
    "zlib": paper.zlib,
    "lowercase": paper.lowercase,
    "window": paper.window,
    "min_k": min_k,
    "min_k_plus_plus": min_k_plus_plus,
    "surp": surp,
    "recall": recall,
    "con_recall": con_recall,
    "neighbourhood": neighbourhood,
    "dc_pdd": dc_pdd,
}
# Scores with a reference; the second function is for a different tokenizer, None: undefined there.
_COMPARED: dict[str, tuple[Callable[..., Values], Callable[..., Values] | None]] = {
    "reference": (paper.reference, paper.reference_by_bytes),
    "reference_difference": (reference_difference, reference_difference_by_bytes),
    "ez_mia": (ez_mia, None),
    "wbc": (wbc, None),
}


def all_scores(
    target: TokenStats,
    *,
    made_for: str = SAMPLES,
    zlib_bits: ArrayLike | None = None,
    references: Mapping[str, TokenStats] | None = None,
    lowercased: TokenStats | None = None,
    n_bytes: ArrayLike | None = None,
    other_tokenizer: Collection[str] = frozenset(),
    conditioned: TokenStats | None = None,
    conditioned_members: TokenStats | None = None,
    neighbours: TokenStats | None = None,
    n_neighbours: ArrayLike | None = None,
    token_counts: ArrayLike | None = None,
    masked_losses: ArrayLike | None = None,
    reference_masked_losses: Mapping[str, ArrayLike] | None = None,
    without: Collection[str] = (),
) -> dict[str, Values]:
    """Every score for samples or texts whose inputs are given, in the order of `score_table`.

    Parameters
    ----------
    target : TokenStats of n texts
        With vocab_mean and vocab_std, for `min_k_plus_plus` and `surp`.
    made_for : "samples" of an audit, or "texts" whose membership is tested
    zlib_bits : int array (n,), for `zlib`
    references : mapping of a name to the TokenStats of the same texts, for `reference:NAME`,
        `reference_difference:NAME`, `ez_mia:NAME` and `wbc:NAME`
    lowercased : TokenStats of the lower-cased texts under the target, for `lowercase`
    n_bytes : int array (n,), required if a reference has another tokenizer
    other_tokenizer : names of the references to compare by bytes
    conditioned : TokenStats of the texts, or their first tokens, after a prefix of non-members,
        under the target, for `recall`
    conditioned_members : the same after a prefix of members, for `con_recall`
    neighbours, n_neighbours : TokenStats of the neighbours of all texts, and int array (n,) of
        how many each text has, for `neighbourhood`
    token_counts : int array (n_vocab,), of a reference corpus, for `dc_pdd`
    masked_losses, reference_masked_losses : nats per token (n,) of the target, and of some
        references under the same random masks, for `masked_reference:NAME`
    without : names of scores to leave out

    Returns
    -------
    dict of column name to float64 array (n,).

    Raises
    ------
    ValueError
        As the scores; if neighbours are given without n_neighbours, `other_tokenizer` names an
        unknown reference, or n_bytes is missing.

    >>> target = TokenStats.from_lists([[5]], [[-1.0]], [[0]])
    >>> list(all_scores(target, zlib_bits=[160]))
    ['likelihood', 'zlib', 'window']
    >>> list(all_scores(target, made_for="texts", zlib_bits=[160], token_counts=np.ones(9, int)))
    ['loss', 'zlib', 'window', 'min_k', 'dc_pdd']
    """
    references = references or {}
    _check_other_tokenizers(other_tokenizer, references, n_bytes is None)
    if neighbours is not None and n_neighbours is None:
        raise ValueError(
            "n_neighbours must be given with neighbours; got None. "
            "Pass the number of neighbours of each text."
        )
    has_moments = target.vocab_mean is not None and target.vocab_std is not None
    given: dict[str, tuple[Any, ...]] = {
        "target": (target,),
        "zlib_bits": (zlib_bits,),
        "lowercased": (lowercased,),
        "moments": () if has_moments else (None,),
        "conditioned": (conditioned,),
        "conditioned_members": (conditioned_members,),
        "neighbours": (neighbours, n_neighbours),
        "token_counts": (token_counts,),
    }
    scores: dict[str, Values] = {}
    for score in scores_for(made_for):
        if score.name in without:
            continue
        if score.name == "masked_reference":
            for name, losses in (reference_masked_losses or {}).items():
                if masked_losses is not None:
                    scores[f"{score.name}:{name}"] = masked_reference(masked_losses, losses)
            continue
        if score.name in _COMPARED:
            alike, by_bytes = _COMPARED[score.name]
            for name, stats in references.items():
                if name not in other_tokenizer:
                    scores[f"{score.name}:{name}"] = alike(target, stats)
                elif by_bytes is not None:
                    scores[f"{score.name}:{name}"] = by_bytes(target, stats, n_bytes)
            continue
        inputs = [value for need in score.needs for value in given[need]]
        if all(value is not None for value in inputs):
            scores[score.name] = _FUNCTIONS[score.name](*inputs)
    return scores


def masked_reference(target: ArrayLike, reference: ArrayLike) -> Values:
    """Mean cross-entropy of masked tokens under a reference minus that under the target (n,).

    The logarithm of a likelihood ratio of the masked tokens, per token; both models must have been
    given the same masks.

    Source
    ------
    Mireshghallah et al. 2022, "Quantifying Privacy Risks of Masked Language Models Using
    Membership Inference Attacks", section 3.2.

    >>> masked_reference([1.0, 2.0], [1.5, 1.0])
    array([ 0.5, -1. ])
    """
    return np.asarray(reference, dtype=np.float64) - np.asarray(target, dtype=np.float64)


def undefined_reasons(
    scores: Mapping[str, Values],
    target: TokenStats,
    *,
    references: Mapping[str, TokenStats] | None = None,
    lowercased: TokenStats | None = None,
    n_bytes: ArrayLike | None = None,
    conditioned: TokenStats | None = None,
    conditioned_members: TokenStats | None = None,
    neighbours: TokenStats | None = None,
    n_neighbours: ArrayLike | None = None,
) -> dict[str, dict[str, int]]:
    """Why scores are NaN: counts by score and by the first reason that applies.

    Parameters
    ----------
    scores : dict of column name to float64 array (n,), from `all_scores`
    target, references, lowercased, n_bytes, conditioned, conditioned_members, neighbours,
    n_neighbours : the inputs of the scores

    Returns
    -------
    dict of column name to dict of reason to count, without scores that have no NaN. "other"
    counts values that these inputs do not explain.

    >>> target = TokenStats.from_lists([[5], []], [[-1.0], []], [[0], []])
    >>> undefined_reasons(all_scores(target), target)["likelihood"]
    {'text has no scored token': 1}
    >>> target = TokenStats([0, 1], [5], [-1.0], [0], [-3.0], [1.0])  # entropy 3: too high
    >>> undefined_reasons({"surp": surp(target)}, target)
    {'surp': {'text has no surprising token': 1}}
    """
    compared = {
        f"{score}:{name}": stats
        for name, stats in (references or {}).items()
        for score in _COMPARED
    }
    compared |= {"lowercase": lowercased} if lowercased is not None else {}
    compared |= {"recall": conditioned} if conditioned is not None else {}
    compared |= {"con_recall": conditioned_members} if conditioned_members is not None else {}
    no_bytes = np.zeros(len(target), bool) if n_bytes is None else np.ravel(n_bytes) == 0
    counts: dict[str, dict[str, int]] = {}
    for name, values in scores.items():
        causes = _causes(name, target, compared.get(name), no_bytes, n_neighbours)
        if reasons := _count_reasons(values, causes):
            counts[name] = reasons
    return counts


def _causes(
    name: str,
    target: TokenStats,
    other: TokenStats | None,
    no_bytes: NDArray[np.bool_],
    n_neighbours: ArrayLike | None,
) -> dict[str, NDArray[np.bool_]]:
    """Possible causes of an undefined score, and the texts to which each applies, in order."""
    nll, compared = target.nll(), target if other is None else other
    causes = {
        "text has no scored token": target.n_scored() == 0,
        # No token of such a text has a probability; otherwise only the first may lack one.
        "model to compare with has no row for a token of the text": (compared.n_tokens() > 1)
        & (compared.n_scored() == 0),
        "text to compare with has no scored token": compared.n_scored() == 0,
        "not finite token log-probability": ~np.isfinite(nll + compared.nll()),
    }
    # Unknown if the reference was not passed; zlib has none.
    if name == "zlib" or (other is not None and not name.startswith("reference_difference")):
        causes["zero over zero"] = (nll == 0) & (compared.nll() == 0)
    if name.startswith("reference"):
        causes["text has no bytes"] = no_bytes
    if name.startswith("ez_mia"):
        causes["model gives no token ranks"] = _any(target, target.rank == RANK_UNKNOWN)
        causes["no difference at any wrong token"] = np.ones(len(target), bool)
    if name.startswith("wbc"):
        causes["text has fewer than two scored tokens"] = target.n_scored() < min(WBC_LENGTHS)
    mean, std = target.vocab_mean, target.vocab_std
    if name in ("min_k_plus_plus", "surp") and mean is not None and std is not None:
        broken = np.where(target.is_scored, mean + std, 0.0)
        whole = np.add.reduceat(np.append(np.isnan(broken), 0), target.offsets)[:-1] == 0
        causes["not finite vocabulary moments"] = ~whole & (target.n_tokens() > 0)
    if name == "surp":
        causes["text has no surprising token"] = np.ones(len(target), bool)
    if name == "neighbourhood" and n_neighbours is not None:
        causes["text has no neighbour"] = np.ravel(n_neighbours) == 0
    return causes


def _any(stats: TokenStats, is_so: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether it holds for any token of each text."""
    return np.diff(offsets_of(is_so)[stats.offsets]) > 0


def _count_reasons(values: Values, causes: Mapping[str, NDArray[np.bool_]]) -> dict[str, int]:
    """Number of NaN values by the first cause that applies; "other" if none does."""
    counts = {}
    unexplained = np.isnan(values)
    for reason, holds in {**causes, "other": np.ones(len(values), bool)}.items():
        if n := int((unexplained & holds).sum()):
            counts[reason] = n
        unexplained &= ~holds
    return counts


def _check_other_tokenizers(
    names: Collection[str], references: Collection[str], without_bytes: bool
) -> None:
    """Raise ValueError unless `names` are references and n_bytes is given for them."""
    unknown = sorted(set(names) - set(references))
    if unknown:
        raise ValueError(
            f"other_tokenizer must name references ({', '.join(references) or 'none given'}); "
            f"got {', '.join(unknown)}. Add it to references or remove it."
        )
    if names and without_bytes:
        raise ValueError(
            "n_bytes must be given for references with another tokenizer "
            f"({', '.join(sorted(names))}); got None. Pass the bytes of each text."
        )
