"""Near-verbatim extraction: sample k continuations per prefix, compare with the suffix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from auditor.config.audit import Decoding
from auditor.models.device import free_memory
from auditor.models.language_model import LanguageModel
from auditor.sampling.generate import generate

NEAR = 0.1  # near-verbatim: at most this many edits per suffix token
_MOST_SLOTS = 128
_SAMPLES_AT_ONCE = 8_192


@dataclass(frozen=True, eq=False)
class Sampled:
    """Comparison of k samples per prefix with the true suffixes.

    n_samples : int
    n_exact, n_near : int64 array (n,)
        Samples equal to the suffix; samples within NEAR of it.
    distance : int64 array (n,)
        Smallest token edit distance between the suffix and a sample.
    """

    n_samples: int
    n_exact: NDArray[np.int64]
    n_near: NDArray[np.int64]
    distance: NDArray[np.int64]


def sample_suffixes(
    model: LanguageModel,
    prefixes: NDArray[np.integer],
    suffixes: NDArray[np.integer],
    *,
    n_samples: int,
    decoding: Decoding,
    seed: int,
    progress: Callable[[int], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> Sampled:
    """Sample each prefix n_samples times and compare the samples with the true suffix.

    Parameters
    ----------
    model : as `generate` takes it
    prefixes, suffixes : int arrays (n, p) and (n, m)
    n_samples : int
    decoding : Decoding
        Samples always have m tokens and continue past EOS, consistent with p_z.
    seed : int
        Fixes each sample together with the numbers of its prefix and of the sample.
    progress : callable(n_tokens), optional
        Called with the number of tokens just drawn.
    note : callable(sentence), optional
        Called when memory runs out.

    Returns
    -------
    Sampled

    Raises
    ------
    ModelError
        As `generate`.

    Source
    ------
    Gemma Team 2024, "Gemma: Open Models Based on Gemini Research and Technology", memorization
    evaluations: approximate memorization is within 10 % edit distance.
    """
    n, m = suffixes.shape
    own = decoding.model_copy(update={"max_new_tokens": m, "stop_at_eos": False})
    distance = np.zeros((n, n_samples), np.int64)
    step = max(1, _SAMPLES_AT_ONCE // n_samples)
    for at in range(0, n, step):
        some = range(at, min(n, at + step))
        drawn, _ = generate(
            model,
            [prefixes[i].tolist() for i in some for _ in range(n_samples)],
            [i * n_samples + k for i in some for k in range(n_samples)],
            seed=seed,
            stream="extract",
            decoding=own,
            n_slots=_slots(model, prefixes.shape[1] + m),
            progress=progress,
            note=note,
        )
        rows = drawn.token_ids.reshape(len(some), n_samples, m)
        for i, samples in zip(some, rows, strict=True):
            true = suffixes[i].tolist()
            distance[i] = [Levenshtein.distance(true, s) for s in samples.tolist()]
    return Sampled(
        n_samples,
        (distance == 0).sum(axis=1),
        (distance <= NEAR * m).sum(axis=1),
        distance.min(axis=1),
    )


def _slots(model: LanguageModel, length: int) -> int:
    """Batch size that fits into a third of the free memory."""
    room = free_memory(model.device) // 3
    return int(min(_MOST_SLOTS, max(1, room // model.bytes_per_slot(length))))
