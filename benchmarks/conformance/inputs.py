"""The small fixed inputs of the page of conformance: three texts, and what models thought of them.

Round numbers, so that a reader can follow with a pocket calculator.
"""

from __future__ import annotations

import numpy as np

from attacks.scores.token_stats import TokenStats

NAMES = ("a", "b", "c")
TEXTS = (
    "The cat sat on the mat, the cat sat on the hat",
    "The Owner Of This",
    "the",
)
_IDS = [[0, 1, 2, 3, 0, 4, 0, 1, 2, 3], [5, 6, 7, 8], [0]]


def _of(logprobs: list, ids: list | None = None) -> TokenStats:
    ids = [list(range(len(text))) for text in logprobs] if ids is None else ids
    return TokenStats.from_lists(ids, logprobs, [[0] * len(text) for text in logprobs])


_LOGPROBS = [[-1, -4, -2, -1, -0.5, -6, -0.5, -2, -1, -2], [-6, -5, -3, -2], [0]]
_MEANS = [-2, -1.5, -2, -2, -1, -4, -1, -2, -2, -3, -4, -4, -2, -3, 0]
_STDS = [1, 1, 1, 1, 0.5, 2, 0.5, 1, 1, 2, 2, 2, 1, 2, 0]

_RANKS = [0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 3, 2, 1, 0, 0]

_target = _of(_LOGPROBS, _IDS)
TARGET = TokenStats(
    _target.offsets,
    _target.token_ids,
    _target.logprob,
    np.array(_RANKS),
    np.array(_MEANS, float),
    np.array(_STDS, float),
)
REFERENCE = _of([[-2, -2, 0, -2, -1.5, -7, -1.5, -1, -6, -7], [-9, -6, -5, -4], [-1.5]], _IDS)
LOWERCASED = _of([[-2, -8, -4, -2, -1, -12, -1, -4, -2, -4], [-9, -7, -6, -6], [0]])
CONDITIONED = _of([[-3, -5, -2, -2, -1, -6, -1, -3, -2, -3], [-6, -6, -3, -3], [-0.5]], _IDS)
AFTER_MEMBERS = _of([[-2, -4, -1, -1, -1, -5, -1, -2, -1, -2], [-6, -4, -3, -2], [-1]], _IDS)
NEIGHBOURS = _of([[-3, -3], [-2, -6, -4], [-5, -5], [-4]])
N_NEIGHBOURS = np.array([2, 2, 0])
COUNTS = np.array([60, 5, 5, 20, 1, 0, 4, 4, 1])
MEMBERS = (9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 2.0, 1.0)
NONMEMBERS = (7.5, 5.0, 4.0, 3.0, 3.0, 2.0, 1.0, 0.0)
