"""The reference score as a difference: what the reference needs more than the target."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from attacks.scores.min_k import Values
from attacks.scores.paper import bits_per_byte, check_same_tokens
from attacks.scores.token_stats import TokenStats


def reference_difference(target: TokenStats, other: TokenStats) -> Values:
    """L_reference - L_target, nats a token, under models with the same tokenizer.

    Returns
    -------
    float64 array (n,), nats a token; 0 where both find the text equally likely.

    Raises
    ------
    ValueError
        If the two are not of the same tokens.

    Source
    ------
    Shi et al. 2024 and Duan et al. 2024 ("Do Membership Inference Attacks Work on Large Language
    Models?") print this difference under the name of reference or calibration, where Carlini et
    al. 2021, §5.2, print the ratio. The two orders differ.

    >>> target = TokenStats.from_lists([[5, 6]], [[-1.0, -3.0]], [[0, 4]])
    >>> reference_difference(target, TokenStats.from_lists([[5, 6]], [[-4.0, -2.0]], [[9, 2]]))
    array([1.])
    """
    check_same_tokens(target, other)
    return _less(other.nll(), target.nll())


def reference_difference_by_bytes(
    target: TokenStats, other: TokenStats, n_bytes: ArrayLike
) -> Values:
    """The same where the tokenizers differ: bits a byte under the reference less the target's.

    Parameters
    ----------
    target, other : TokenStats of the same n texts
    n_bytes : int array (n,)
        Bytes of each text in UTF-8.

    Returns
    -------
    float64 array (n,), bits a byte; NaN where a text has no bytes.

    Raises
    ------
    ValueError
        If these are not of the same number of texts, or n_bytes is negative.

    >>> target = TokenStats.from_lists([[5, 6]], [[-1.0, -3.0]], [[0, 4]])
    >>> other = TokenStats.from_lists([[8]], [[-6.0]], [[9]])
    >>> reference_difference_by_bytes(target, other, [2]).round(4)  # 1 nat is 1.4427 bits
    array([1.4427])
    """
    return _less(bits_per_byte(other, n_bytes), bits_per_byte(target, n_bytes))


def _less(of_reference: Values, of_target: Values) -> Values:
    with np.errstate(invalid="ignore"):  # inf - inf: both impossible, undefined
        return of_reference - of_target
