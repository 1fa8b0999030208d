"""Extraction from a model that only continues text: greedy decoding against the true suffix.

The control compares each suffix with the continuation of another document's prefix, which costs no
further request. What that reproduces, the model would write after any prefix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.config.audit import Decoding
from auditor.models.interfaces import DrawsSamples
from auditor.scoring.suffixes import Measured

UNAVAILABLE = (
    "p_z is unavailable for a served model: each prefix is continued greedily, and the "
    "continuation is compared with the suffix and, as a control, with that of another document."
)


@dataclass(frozen=True, eq=False)
class Continued:
    """n greedy continuations against the true suffixes.

    measured : Measured
        `first` is true up to the first wrong token; `logprob` is NaN.
    unrelated : bool array (n,)
        Whether the continuation of another document's prefix is the suffix.
    n_first_unrelated : int array (n,)
        Tokens that it has in common with the beginning of the suffix.
    """

    measured: Measured
    unrelated: NDArray[np.bool_]
    n_first_unrelated: NDArray[np.int64]


def continue_prefixes(
    model: DrawsSamples,
    prefixes: NDArray[np.integer],
    suffixes: NDArray[np.integer],
    *,
    progress: Callable[[int], None] | None = None,
) -> Continued:
    """Continue each prefix greedily; prefixes (n, p) and suffixes (n, m) are of n documents."""
    n, m = suffixes.shape
    drawn = model.draw(
        prefixes.tolist(),
        range(n),
        seed=0,
        stream="extract",
        decoding=Decoding(max_new_tokens=m, top_k=1),
        progress=progress,
    )
    own = common_prefixes(drawn.token_ids, suffixes)
    # Each suffix against the continuation of the next document's prefix; one has no other.
    others = common_prefixes(np.roll(drawn.token_ids, -1, axis=0), suffixes)
    n_common = others.sum(axis=1) if n > 1 else np.zeros(n, np.int64)
    nats = np.full((n, m), np.nan, np.float32)
    return Continued(Measured(own, nats), n_common == m, n_common)


def common_prefixes(one: NDArray[np.integer], other: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Whether rows agree up to each token, bool (n, m).

    >>> common_prefixes(np.array([[1, 2, 3]]), np.array([[1, 5, 3]]))
    array([[ True, False, False]])
    """
    return np.logical_and.accumulate(one == other, axis=1)
