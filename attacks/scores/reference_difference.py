"""The reference score as a difference instead of a ratio."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from attacks.scores.paper import bits_per_byte, check_same_tokens
from attacks.scores.token_stats import TokenStats, Values


def reference_difference(target: TokenStats, other: TokenStats) -> Values:
    """L_reference - L_target, for models with the same tokenizer.

    Returns
    -------
    float64 array (n,), nats per token; 0 if the text is equally likely under both.

    Raises
    ------
    ValueError
        If the tokens differ.

    Source
    ------
    Shi et al. 2024 and Duan et al. 2024 ("Do Membership Inference Attacks Work on Large Language
    Models?") report this difference as "reference" or "calibration"; Carlini et al. 2021, §5.2,
    report the ratio. The two rank texts differently.

    >>> target = TokenStats.from_lists([[5, 6]], [[-1.0, -3.0]], [[0, 4]])
    >>> reference_difference(target, TokenStats.from_lists([[5, 6]], [[-4.0, -2.0]], [[9, 2]]))
    array([1.])
    """
    check_same_tokens(target, other)
    with np.errstate(invalid="ignore"):  # inf - inf (both impossible) is undefined
        return other.nll() - target.nll()


def reference_difference_by_bytes(
    target: TokenStats, other: TokenStats, n_bytes: ArrayLike
) -> Values:
    """The difference in bits per byte, for models with different tokenizers.

    Parameters
    ----------
    target, other : TokenStats of the same n texts
    n_bytes : int array (n,), UTF-8 bytes of each text

    Returns
    -------
    float64 array (n,), bits per byte; NaN for a text without bytes.

    Raises
    ------
    ValueError
        If the numbers of texts differ, or n_bytes is negative.

    >>> target = TokenStats.from_lists([[5, 6]], [[-1.0, -3.0]], [[0, 4]])
    >>> other = TokenStats.from_lists([[8]], [[-6.0]], [[9]])
    >>> reference_difference_by_bytes(target, other, [2]).round(4)  # 1 nat is 1.4427 bits
    array([1.4427])
    """
    with np.errstate(invalid="ignore"):  # inf - inf (both impossible) is undefined
        return bits_per_byte(other, n_bytes) - bits_per_byte(target, n_bytes)
