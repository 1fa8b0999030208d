"""Synthetic inputs of the membership scores."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from attacks.scores.all_scores import TEXTS, all_scores
from attacks.scores.token_stats import TokenStats

N_VOCAB = 40


def of(ids, logprobs, entropies=None, stds=None, rng=None) -> TokenStats:
    """TokenStats of texts; a log-probability of None is undefined. Ranks are 0, or drawn."""
    ranks = [
        [-1 if p is None else 0 if rng is None else int(rng.integers(0, 3)) for p in text]
        for text in logprobs
    ]
    made = TokenStats.from_lists(ids, logprobs, ranks)
    if entropies is None:
        return made
    moments = (np.array([x for t in text for x in t], float) for text in (entropies, stds))
    mean, std = moments
    return TokenStats(made.offsets, made.token_ids, made.logprob, made.rank, -mean, std)


def random_texts(seed: int, lengths=None) -> SimpleNamespace:
    """Texts of 0 to 120 tokens; in every fourth the first token has no log-probability."""
    rng = np.random.default_rng(seed)
    if lengths is None:
        lengths = [0, 1, 2, 1, 4, 5, *rng.integers(3, 120, 14).tolist()]

    def logprobs(lengths):
        texts = [(-rng.gamma(0.7, 2.0, size=m)).tolist() for m in lengths]
        return [[None, *t[1:]] if i % 4 == 1 and t else t for i, t in enumerate(texts)]

    n = len(lengths)
    ids = [rng.integers(0, N_VOCAB, m).tolist() for m in lengths]
    others, lowered = (rng.integers(1, 60, n).tolist() for _ in range(2))
    shorter = [min(m, 50) for m in lengths]
    counts = rng.integers(0, 4, n)
    around = rng.integers(0, 30, counts.sum()).tolist()
    return SimpleNamespace(
        target=of(
            ids,
            logprobs(lengths),
            [rng.uniform(0, 4, m) for m in lengths],
            [rng.uniform(0, 3, m) for m in lengths],
            np.random.default_rng(seed + 1),
        ),
        small=of(ids, logprobs(lengths)),
        other=of([range(m) for m in others], logprobs(others)),
        lowercased=of([range(m) for m in lowered], logprobs(lowered)),
        conditioned=of([t[:m] for t, m in zip(ids, shorter, strict=True)], logprobs(shorter)),
        conditioned_members=of(
            [t[:m] for t, m in zip(ids, shorter, strict=True)], logprobs(shorter)
        ),
        neighbours=of([range(m) for m in around], logprobs(around)),
        n_neighbours=counts,
        n_bytes=rng.integers(1, 500, n),
        zlib_bits=8 * rng.integers(8, 300, n),
        token_counts=rng.integers(0, 1000, N_VOCAB),
    )


def every_score(texts: SimpleNamespace) -> dict[str, np.ndarray]:
    return all_scores(
        texts.target,
        made_for=TEXTS,
        zlib_bits=texts.zlib_bits,
        references={"small": texts.small, "other": texts.other},
        lowercased=texts.lowercased,
        n_bytes=texts.n_bytes,
        other_tokenizer={"other"},
        conditioned=texts.conditioned,
        conditioned_members=texts.conditioned_members,
        neighbours=texts.neighbours,
        n_neighbours=texts.n_neighbours,
        token_counts=texts.token_counts,
    )
