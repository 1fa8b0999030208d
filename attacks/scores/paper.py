"""The scores of Carlini et al. 2021, "Extracting Training Data from Large Language Models".

Scores are float64 (n,); higher means more likely memorized. L is the mean nats per token of a
text, `TokenStats.nll()`. Undefined values are NaN and never an error. A text of which the target
is certain (L = 0) is +inf in a ratio.
"""

from __future__ import annotations

import math
import zlib as zlib_module
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attacks.scores.token_stats import TokenStats, Values, offsets_of, reduce_texts


def likelihood(target: TokenStats) -> Values:
    """The mean log-likelihood of the text's tokens, in nats: -L_target.

    Returns
    -------
    float64 array (n,), at most 0; -inf if a token was impossible under the model.

    Source
    ------
    Carlini et al. 2021, §4.2. They rank by low perplexity, exp(L_target): the same order.

    >>> likelihood(TokenStats.from_lists([[5, 6]], [[-1.0, -3.0]], [[0, 4]]))
    array([-2.])
    """
    return 0.0 - target.nll()


def reference(target: TokenStats, reference: TokenStats) -> Values:
    """L_reference / L_target, for models with the same tokenizer.

    Returns
    -------
    float64 array (n,), at least 0.

    Raises
    ------
    ValueError
        If the tokens differ.

    Source
    ------
    Carlini et al. 2021, §5.2, "Comparing to Other Neural Language Models": the ratio of the
    log-perplexities.

    >>> target = TokenStats.from_lists([[5, 6]], [[-1.0, -3.0]], [[0, 4]])
    >>> reference(target, TokenStats.from_lists([[5, 6]], [[-4.0, -2.0]], [[9, 2]]))
    array([1.5])
    """
    check_same_tokens(target, reference)
    return _ratio(reference.nll(), target.nll())


def reference_by_bytes(target: TokenStats, reference: TokenStats, n_bytes: ArrayLike) -> Values:
    """The ratio of bits per byte, for models with different tokenizers.

    Between the documents of a text, each model's own special tokens count.

    Parameters
    ----------
    target, reference : TokenStats of the same n texts
    n_bytes : int array (n,), UTF-8 bytes of each text

    Returns
    -------
    float64 array (n,), at least 0; NaN for a text without bytes.

    Raises
    ------
    ValueError
        If the numbers of texts differ, or n_bytes is negative.

    Source
    ------
    After Carlini et al. 2021, §5.2, whose models share one tokenizer. Mean nats per token are not
    comparable between tokenizers.

    >>> target = TokenStats.from_lists([[5, 6]], [[-1.0, -3.0]], [[0, 4]])
    >>> reference_by_bytes(target, TokenStats.from_lists([[8]], [[-6.0]], [[9]]), [12])
    array([1.5])
    """
    _check_same_texts("reference", len(reference), len(target))
    return _ratio(bits_per_byte(reference, n_bytes), bits_per_byte(target, n_bytes))


def bits_per_byte(stats: TokenStats, n_bytes: ArrayLike) -> Values:
    """Bits per byte of the text under the model: total_nll / n_bytes / ln 2.

    A first token without a probability (no BOS) adds no bits, but its bytes count.

    Returns
    -------
    float64 array (n,); NaN for a text without bytes or without a scored token.

    Raises
    ------
    ValueError
        If n_bytes does not have one entry per text, or one is negative.

    >>> bits_per_byte(TokenStats.from_lists([[8]], [[-6.0]], [[9]]), [12]).round(6)
    array([0.721348])
    """
    counts = np.ravel(n_bytes)
    _check_same_texts("n_bytes", counts.size, len(stats))
    if (counts < 0).any():
        raise ValueError(
            f"n_bytes must be 0 or more; got {counts.min()}. Pass the UTF-8 length of each text."
        )
    bits = np.full(len(stats), np.nan)
    np.divide(stats.total_nll(), counts, out=bits, where=(counts > 0) & (stats.n_scored() > 0))
    return bits / math.log(2)


def zlib(target: TokenStats, zlib_bits: ArrayLike) -> Values:
    """Compressed size of the text over the target's loss: bits / L_target.

    Parameters
    ----------
    target : TokenStats of n texts
    zlib_bits : int array (n,), from the function `zlib_bits`

    Returns
    -------
    float64 array (n,), at least 0.

    Raises
    ------
    ValueError
        If zlib_bits does not have one entry per text.

    Source
    ------
    Carlini et al. 2021, §5.2, "Comparing to zlib Compression". Their code counts bytes instead of
    bits, which gives the same order.

    >>> zlib(TokenStats.from_lists([[5, 6]], [[-1.0, -3.0]], [[0, 4]]), [160])
    array([80.])
    """
    bits = np.ravel(zlib_bits).astype(np.float64)
    _check_same_texts("zlib_bits", bits.size, len(target))
    return _ratio(bits, target.nll())


def zlib_bits(texts: Sequence[str | bytes], *, level: int = 6) -> NDArray[np.int64]:
    """Size of each text's UTF-8 bytes after zlib compression, in bits.

    Parameters
    ----------
    texts : sequence of n str or bytes
        A lone surrogate is encoded as three bytes.
    level : int, 0 to 9
        zlib's compression level; 6 is its default and that of the authors' code.

    Returns
    -------
    int64 array (n,), bits.

    Raises
    ------
    TypeError
        If `texts` is a single text, or an entry is neither str nor bytes.
    ValueError
        If the level is invalid.

    Source
    ------
    Carlini et al. 2021, §5.2, "Comparing to zlib Compression".

    An empty text takes 8 bytes: 2 of header, 2 of an empty block and 4 of checksum.

    >>> zlib_bits([""])
    array([64])
    """
    if isinstance(texts, (str, bytes)):
        raise TypeError(
            f"texts must be a sequence of texts; got one {type(texts).__name__}. Pass [text]."
        )
    if level not in range(10):
        raise ValueError(f"level must be a whole number from 0 to 9; got {level}. Use 6.")
    sizes = (len(zlib_module.compress(_utf8(text), level)) for text in texts)
    return np.fromiter((8 * size for size in sizes), dtype=np.int64, count=len(texts))


def lowercase(target: TokenStats, lowercased: TokenStats) -> Values:
    """L(lower-cased text) / L(text).

    In a text of several documents, each is lower-cased; the tokens between them are kept.

    Parameters
    ----------
    target, lowercased : TokenStats of n texts and of the same texts lower-cased, under one model

    Returns
    -------
    float64 array (n,), at least 0; 1 if lower-casing changes nothing.

    Raises
    ------
    ValueError
        If the numbers of texts differ.

    Source
    ------
    Carlini et al. 2021, §5.2, "Comparing to Lowercased Text". The paper describes a ratio of
    perplexities; the authors' code, which we follow, divides their logarithms. The two rank texts
    differently (see docs/conformance.md).

    >>> target = TokenStats.from_lists([[5, 6]], [[-1.0, -3.0]], [[0, 4]])
    >>> lowercase(target, TokenStats.from_lists([[8]], [[-5.0]], [[9]]))
    array([2.5])
    """
    _check_same_texts("lowercased", len(lowercased), len(target))
    return _ratio(lowercased.nll(), target.nll())


def window(target: TokenStats, *, width: int = 50) -> Values:
    """The most likely passage: -min of the mean nats over all windows of `width` scored tokens.

    A shorter text is one window.

    Returns
    -------
    float64 array (n,), at most 0.

    Raises
    ------
    ValueError
        If the width is below 1.

    Source
    ------
    Carlini et al. 2021, §5.2, "Perplexity on a Sliding Window": finds a memorized passage within
    unlikely text. They rank by low perplexity; we use the negative of its logarithm.

    >>> stats = TokenStats.from_lists([[5, 6, 7]], [[-6.0, -1.0, -3.0]], [[9, 0, 4]])
    >>> window(stats, width=2), window(stats)
    (array([-2.]), array([-3.33333333]))
    """
    if width < 1:
        raise ValueError(f"width must be 1 token or more; got {width}. The paper uses 50.")
    nats, lengths = target.token_nll()[target.is_scored], target.n_scored()
    offsets = offsets_of(lengths)
    sums = np.full(len(nats), np.inf)
    if len(nats) >= width:
        sums[: len(nats) - width + 1] = _window_sums(nats, width)
    # Exclude windows that extend into the next text.
    sums[np.repeat(offsets[1:], lengths) - np.arange(len(nats)) < width] = np.inf
    least = reduce_texts(np.minimum, sums, offsets, empty=np.nan) / width
    return 0.0 - np.where(lengths < width, target.nll(), least)


def check_same_tokens(target: TokenStats, reference: TokenStats) -> None:
    """Raise ValueError unless the reference has the target's tokens, text by text."""
    _check_same_texts("reference", len(reference), len(target))
    same = np.array_equal(reference.offsets, target.offsets)
    if not (same and np.array_equal(reference.token_ids, target.token_ids)):
        raise ValueError(
            "reference must hold the target's token_ids, text by text; got others. "
            "Score the same tokens, or compare by bytes if the tokenizers differ."
        )


def _ratio(numerator: Values, denominator: Values) -> Values:
    # IEEE rules: x/0 is +inf for x > 0; 0/0 and inf/inf are NaN.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return numerator / denominator


def _window_sums(values: Values, width: int) -> Values:
    """Sums of every `width` consecutive values, float64 (n - width + 1,).

    Blocks of 1, 2, 4, ... values are added according to the binary digits of the width. The
    difference of two cumulative sums would lose small sums to rounding, and everything after an
    infinite value.
    """
    sums = np.zeros(len(values) - width + 1)
    blocks, size, start = values, 1, 0
    while size <= width:
        if size & width:
            sums += blocks[start : start + len(sums)]
            start += size
        blocks = blocks[:-size] + blocks[size:]
        size *= 2
    return sums


def _check_same_texts(name: str, got: int, n_texts: int) -> None:
    if got != n_texts:
        raise ValueError(
            f"{name} must be of the target's {n_texts:,} texts; got {got:,}. "
            "Pass one entry for each text, in the same order."
        )


def _utf8(text: str | bytes) -> bytes:
    if isinstance(text, bytes):
        return text
    if not isinstance(text, str):
        raise TypeError(
            f"texts must hold str or bytes; got {type(text).__name__}. "
            "Leave out missing texts, or pass empty ones."
        )
    return text.encode("utf-8", errors="surrogatepass")
