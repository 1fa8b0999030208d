"""The paper's score functions: how much likelier a text is to be memorized than to be invented.

Each is float64 (n,), and higher means more likely memorized, without exception. L is the mean
nats per token of a text, `TokenStats.nll()`. What has no value is NaN and never an error. A text
that the target is certain of (L = 0) is +inf under the ratios: nothing could look more memorized.

Source of all: Carlini et al. 2021, "Extracting Training Data from Large Language Models", §4.2
and §5.2.
"""

from __future__ import annotations

import math
import zlib as zlib_module
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attacks.scores.token_stats import TokenStats, reduce_texts

Values = NDArray[np.float64]


def perplexity(target: TokenStats) -> Values:
    """The negative logarithm of the text's perplexity: -L_target.

    Returns
    -------
    float64 array (n,), at most 0; -inf where a token was impossible to the model.

    Source
    ------
    Carlini et al. 2021, §4.2. They rank by low perplexity; its logarithm gives the same order.

    >>> perplexity(TokenStats.from_lists([[5, 6]], [[-1.0, -3.0]], [[0, 4]]))
    array([-2.])
    """
    return 0.0 - target.nll()


def reference(target: TokenStats, reference: TokenStats) -> Values:
    """How much more the text surprises a model with the same tokenizer: L_reference / L_target.

    Returns
    -------
    float64 array (n,), at least 0.

    Raises
    ------
    ValueError
        If the two are not of the same tokens.

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
    """The reference score where the tokenizers differ: a ratio of bits per byte.

    Where a text is several documents, the tokens between them count on both sides: the target's,
    and in their place the reference's own.

    Parameters
    ----------
    target, reference : TokenStats of the same n texts
    n_bytes : int array (n,)
        Bytes of each text in UTF-8.

    Returns
    -------
    float64 array (n,), at least 0; NaN where a text has no bytes.

    Raises
    ------
    ValueError
        If these are not of the same number of texts, or n_bytes is negative.

    Source
    ------
    After Carlini et al. 2021, §5.2, who had one tokenizer only; mean nats per token cannot be
    compared when the tokens differ in length.

    >>> target = TokenStats.from_lists([[5, 6]], [[-1.0, -3.0]], [[0, 4]])
    >>> reference_by_bytes(target, TokenStats.from_lists([[8]], [[-6.0]], [[9]]), [12])
    array([1.5])
    """
    _check_same_texts("reference", len(reference), len(target))
    return _ratio(bits_per_byte(reference, n_bytes), bits_per_byte(target, n_bytes))


def bits_per_byte(stats: TokenStats, n_bytes: ArrayLike) -> Values:
    """Bits that the model needs for each byte of the text: total_nll / n_bytes / ln 2.

    A first token without a probability (no BOS) adds no bits, though its bytes count.

    Returns
    -------
    float64 array (n,); NaN where nothing was scored or a text has no bytes.

    Raises
    ------
    ValueError
        If there is not one count of bytes, 0 or more, for each text.

    >>> bits_per_byte(TokenStats.from_lists([[8]], [[-6.0]], [[9]]), [12]).round(6)
    array([0.721348])
    """
    counts = np.ravel(n_bytes)
    _check_same_texts("n_bytes", counts.size, len(stats))
    if (counts < 0).any():
        raise ValueError(
            f"n_bytes must be 0 or more; got {counts.min()}. Pass the length of each text's UTF-8."
        )
    bits = np.full(len(stats), np.nan)
    np.divide(stats.total_nll(), counts, out=bits, where=(counts > 0) & (stats.n_scored() > 0))
    return bits / math.log(2)


def zlib(target: TokenStats, zlib_bits: ArrayLike) -> Values:
    """How much information the text holds for how sure the target is of it: bits / L_target.

    Parameters
    ----------
    target : TokenStats of n texts
    zlib_bits : int array (n,)
        As the function `zlib_bits` gives.

    Returns
    -------
    float64 array (n,), at least 0.

    Raises
    ------
    ValueError
        If there is not one number of bits for each text.

    Source
    ------
    Carlini et al. 2021, §5.2, "Comparing to zlib Compression". Their public code counts bytes,
    which is this divided by 8: the same order.

    >>> zlib(TokenStats.from_lists([[5, 6]], [[-1.0, -3.0]], [[0, 4]]), [160])
    array([80.])
    """
    bits = np.ravel(zlib_bits).astype(np.float64)
    _check_same_texts("zlib_bits", bits.size, len(target))
    return _ratio(bits, target.nll())


def zlib_bits(texts: Sequence[str | bytes], *, level: int = 6) -> NDArray[np.int64]:
    """Bits of each text once zlib has compressed its UTF-8 bytes.

    Parameters
    ----------
    texts : sequence of n str or bytes
        A lone surrogate, which UTF-8 proper forbids, becomes the three bytes it would have.
    level : int, 0 to 9
        zlib's effort; 6 is its default, with which the authors' public code runs.

    Returns
    -------
    int64 array (n,), bits.

    Raises
    ------
    TypeError
        If `texts` is one text, or holds something that is none.
    ValueError
        If the level is not one of zlib's.

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
    """How much lower-casing takes from the text's likelihood: L(lower-cased) / L(text).

    Where a text is several documents, each is lower-cased, and the tokens between them stay.

    Parameters
    ----------
    target, lowercased : TokenStats
        The same model's, of n texts and of the same texts lower-cased (and tokenized anew).

    Returns
    -------
    float64 array (n,), at least 0; 1 where lower-casing changes nothing.

    Raises
    ------
    ValueError
        If these are not of the same number of texts.

    Source
    ------
    Carlini et al. 2021, §5.2, "Comparing to Lowercased Text". The paper speaks of the ratio of
    the perplexities; the authors' public code divides their logarithms, the mean nats. We follow
    the logarithms. The two orders differ: see `lowercase_of_perplexities`.

    >>> target = TokenStats.from_lists([[5, 6]], [[-1.0, -3.0]], [[0, 4]])
    >>> lowercase(target, TokenStats.from_lists([[8]], [[-5.0]], [[9]]))
    array([2.5])
    """
    _check_same_texts("lowercased", len(lowercased), len(target))
    return _ratio(lowercased.nll(), target.nll())


def lowercase_of_perplexities(target: TokenStats, lowercased: TokenStats) -> Values:
    """`lowercase` as the paper's words have it: exp(L(lower-cased) - L(text)).

    Kept so that the two orders can be compared; it is not in the table of scores.

    Returns
    -------
    float64 array (n,), at least 0; 1 where lower-casing changes nothing.

    Raises
    ------
    ValueError
        If these are not of the same number of texts.

    Source
    ------
    Carlini et al. 2021, §5.2, "Comparing to Lowercased Text".

    >>> target = TokenStats.from_lists([[5, 6]], [[-1.0, -3.0]], [[0, 4]])
    >>> lowercase_of_perplexities(target, TokenStats.from_lists([[8]], [[-5.0]], [[9]])).round(4)
    array([20.0855])
    """
    _check_same_texts("lowercased", len(lowercased), len(target))
    with np.errstate(over="ignore", invalid="ignore"):  # inf - inf: both impossible, undefined
        return np.exp(lowercased.nll() - target.nll())


def window(target: TokenStats, *, width: int = 50) -> Values:
    """The likeliest stretch of the text: -min over windows of `width` tokens of the mean nats.

    Every window of consecutive scored tokens is looked at. A shorter text is one window.

    Returns
    -------
    float64 array (n,), at most 0.

    Raises
    ------
    ValueError
        If the width is below 1.

    Source
    ------
    Carlini et al. 2021, §5.2, "Perplexity on a Sliding Window": finds a memorized passage that
    unlikely text surrounds. They rank by low perplexity; we by the negative of its logarithm.

    >>> stats = TokenStats.from_lists([[5, 6, 7]], [[-6.0, -1.0, -3.0]], [[9, 0, 4]])
    >>> window(stats, width=2), window(stats)
    (array([-2.]), array([-3.33333333]))
    """
    if width < 1:
        raise ValueError(f"width must be 1 token or more; got {width}. The paper uses 50.")
    nats = target.token_nll()[target.is_scored]
    lengths = target.n_scored()
    ends = np.cumsum(lengths)
    offsets = np.concatenate([[0], ends])
    sums = np.full(len(nats), np.inf)
    if len(nats) >= width:
        sums[: len(nats) - width + 1] = _window_sums(nats, width)
    # A window that would run into the next text is none.
    sums[np.repeat(ends, lengths) - np.arange(len(nats)) < width] = np.inf
    least = reduce_texts(np.minimum, sums, offsets, empty=np.nan) / width
    return 0.0 - np.where(lengths < width, target.nll(), least)


def check_same_tokens(target: TokenStats, reference: TokenStats) -> None:
    """A ValueError unless a reference holds the target's tokens, text by text."""
    _check_same_texts("reference", len(reference), len(target))
    same = np.array_equal(reference.offsets, target.offsets)
    if not (same and np.array_equal(reference.token_ids, target.token_ids)):
        raise ValueError(
            "reference must hold the target's token_ids, text by text; got others. "
            "Score the same tokens, or compare by bytes if the tokenizers differ."
        )


def _ratio(numerator: Values, denominator: Values) -> Values:
    # By IEEE: x/0 is +inf for x > 0, as a certain text should be; 0/0 and inf/inf are NaN.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return numerator / denominator


def _window_sums(values: Values, width: int) -> Values:
    """Sums of every `width` consecutive values, float64 (n - width + 1,).

    Blocks of 1, 2, 4, ... values are added, as the binary digits of the width ask for. The
    difference of two cumulative sums would be as quick, but would lose a sure passage's small
    sums to the rounding of all that came before, and everything after an infinite value.
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
