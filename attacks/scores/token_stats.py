"""Token log-probabilities and ranks of n texts, as ragged columns in the layout of Arrow lists.

Text i owns the tokens `offsets[i]:offsets[i + 1]` of every column, so shards are read from and
written to Parquet without a copy. There are three kinds of token:

* scored: a log-probability (-inf: impossible under the model) and a rank of 0 or more, or
  RANK_UNKNOWN if the model reports no ranks;
* unscored: rank -1 and NaN, since the token has no context; left out of sums;
* broken: a rank but NaN, a fault of the model; the sums of its text are NaN, so that the fault is
  counted and not averaged away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]
# Rounding can make the log-probability of a certain token slightly positive.
LOGPROB_ROUNDING = 1e-3
# The rank of a token with a known log-probability and an unknown rank.
RANK_UNKNOWN = -2


@dataclass(frozen=True, eq=False)
class TokenStats:
    """Token log-probabilities and ranks of n texts, under one model.

    Parameters
    ----------
    offsets : int64 array (n + 1,)
        Start of each text and end of the last one; the first is 0.
    token_ids : int32 array (n_tokens,)
    logprob : float32 array (n_tokens,), nats
        Under the raw distribution (temperature 1, no truncation); NaN where rank is -1.
    rank : int32 array (n_tokens,)
        0 = the most likely token; -1 = no probability, since the token has no context;
        RANK_UNKNOWN (-2) = unknown.
    vocab_mean, vocab_std : float32 array (n_tokens,), nats, or None
        Mean and standard deviation of log p over the vocabulary, weighted by p, at each position.

    Raises
    ------
    ValueError
        If columns differ in length, or a value is outside the range of its column.

    >>> stats = TokenStats.from_lists([[5, 6], []], [[-1.0, -3.0], []], [[0, 4], []])
    >>> len(stats), stats.n_tokens().tolist(), stats.total_nll().tolist()
    (2, [2, 0], [4.0, 0.0])
    """

    offsets: NDArray[np.int64]
    token_ids: NDArray[np.int32]
    logprob: NDArray[np.float32]
    rank: NDArray[np.int32]
    vocab_mean: NDArray[np.float32] | None = None
    vocab_std: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        columns: dict[str, NDArray[Any]] = {
            "offsets": _whole_numbers("offsets", self.offsets, np.int64),
            "token_ids": _whole_numbers("token_ids", self.token_ids, np.int32),
            "logprob": _reals("logprob", self.logprob),
            "rank": _whole_numbers("rank", self.rank, np.int32),
        }
        for name in ("vocab_mean", "vocab_std"):
            if getattr(self, name) is not None:
                columns[name] = _reals(name, getattr(self, name))
        for name, column in columns.items():
            object.__setattr__(self, name, column)
        _check_offsets(self.offsets, len(self.token_ids))
        for name, column in columns.items():
            if name != "offsets" and len(column) != len(self.token_ids):
                raise ValueError(
                    f"{name} must have {len(self.token_ids):,} values, as token_ids has; "
                    f"got {len(column):,}. Pass columns of the same tokens."
                )
        _check_values(self.logprob, self.rank)

    @classmethod
    def from_lists(
        cls,
        token_ids: Sequence[Sequence[int]],
        logprob: Sequence[Sequence[float | None]],
        rank: Sequence[Sequence[int]],
    ) -> TokenStats:
        """TokenStats from one list per text and column; None or NaN = no probability.

        Raises
        ------
        ValueError
            If a text has different numbers of values in the three columns.

        >>> TokenStats.from_lists([[3, 4]], [[None, -0.5]], [[-1, 0]]).logprob
        array([ nan, -0.5], dtype=float32)
        """
        lengths = [len(text) for text in token_ids]
        for name, texts in (("logprob", logprob), ("rank", rank)):
            got = [len(text) for text in texts]
            if got != lengths:
                raise ValueError(
                    f"{name} must have one value per token, {_summary(lengths)} as in token_ids; "
                    f"got {_summary(got)}. Pass the columns of the same texts in the same order."
                )
        return cls(offsets_of(lengths), _flat(token_ids), _flat(logprob), _flat(rank))  # type: ignore[arg-type]

    @classmethod
    def concatenate(cls, parts: Iterable[TokenStats]) -> TokenStats:
        """All texts of the parts, in order.

        Raises
        ------
        ValueError
            If only some parts have vocab_mean or vocab_std.

        >>> part = TokenStats.from_lists([[3]], [[-0.5]], [[0]])
        >>> TokenStats.concatenate([part, part]).offsets
        array([0, 1, 2])
        """
        parts = list(parts)

        def joined(name: str) -> Any:
            columns = [getattr(part, name) for part in parts]
            missing = sum(column is None for column in columns)
            if missing and missing < len(parts):
                raise ValueError(
                    f"{name} must be in all parts or in none; got it in {len(parts) - missing} of "
                    f"{len(parts)}. Score all parts with the same options."
                )
            if missing or (not parts and name.startswith("vocab")):
                return None
            return np.concatenate(columns) if parts else np.empty(0)

        lengths = np.concatenate([np.empty(0, np.int64), *(part.n_tokens() for part in parts)])
        names = ("token_ids", "logprob", "rank", "vocab_mean", "vocab_std")
        return cls(offsets_of(lengths), *(joined(name) for name in names))

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.offsets) - 1

    @property
    def is_scored(self) -> NDArray[np.bool_]:
        """Whether each token has a probability, bool (n_tokens,)."""
        return self.rank != -1

    def n_tokens(self) -> NDArray[np.int64]:
        """Number of tokens of each text, int64 (n,)."""
        return np.diff(self.offsets)

    def n_scored(self) -> NDArray[np.int64]:
        """Number of tokens of each text with a probability, int64 (n,)."""
        return np.diff(offsets_of(self.is_scored)[self.offsets])

    def token_nll(self) -> Values:
        """Nats of each token, float64 (n_tokens,), at least 0; NaN without a probability.

        Log-probabilities above 0 (rounding) count as 0: scores divide by these nats, and a
        negative one would turn the most certain text into the least certain.
        """
        # + 0.0 turns -0.0 into 0.0; dividing by -0.0 would give -inf.
        return np.maximum(-self.logprob.astype(np.float64), 0.0) + 0.0

    def total_nll(self) -> Values:
        """Total nats of each text's scored tokens, float64 (n,); 0 if there are none."""
        nats = np.where(self.is_scored, self.token_nll(), 0.0)
        return reduce_texts(np.add, nats, self.offsets, empty=0.0)

    def nll(self) -> Values:
        """Mean nats per scored token, the logarithm of the perplexity, float64 (n,); may be NaN."""
        return mean_of_texts(self.token_nll(), self.is_scored, self.offsets)

    def take(self, index: ArrayLike | slice) -> TokenStats:
        """The texts of an index (integers, a boolean mask or a slice), in its order.

        Raises
        ------
        IndexError
            If the index is invalid or out of range.

        >>> stats = TokenStats.from_lists([[3, 4], [5]], [[-1.0, -2.0], [-0.5]], [[0, 1], [0]])
        >>> stats.take([1, 0]).token_ids
        array([5, 3, 4], dtype=int32)
        """
        try:
            texts = np.atleast_1d(np.arange(len(self))[index])  # type: ignore[index]
        except IndexError as error:
            raise IndexError(
                f"index must select from the {len(self):,} texts by integers, a mask or a slice; "
                f"got {index!r}. Check it against len(stats)."
            ) from error
        offsets = offsets_of(self.n_tokens()[texts])
        shift = np.repeat(self.offsets[texts] - offsets[:-1], np.diff(offsets))
        old = np.arange(offsets[-1]) + shift
        columns = (self.token_ids, self.logprob, self.rank, self.vocab_mean, self.vocab_std)
        return TokenStats(offsets, *(None if c is None else c[old] for c in columns))  # type: ignore[arg-type]


def offsets_of(lengths: ArrayLike) -> NDArray[np.int64]:
    """Offsets of texts of these lengths, int64 (n + 1,).

    >>> offsets_of([2, 0, 1])
    array([0, 2, 2, 3])
    """
    return np.append(np.int64(0), np.cumsum(lengths, dtype=np.int64))


def reduce_texts(
    ufunc: np.ufunc, values: NDArray[Any], offsets: NDArray[np.int64], *, empty: float
) -> Values:
    """`ufunc.reduce` of each text's values, float64 (n,); `empty` for a text without values.

    (`ufunc.reduceat` alone would give an empty text the first value of the next one.)

    >>> reduce_texts(np.add, np.array([1.0, 2.0, 4.0]), np.array([0, 2, 2, 3]), empty=0.0)
    array([3., 0., 4.])
    """
    reduced = np.full(len(offsets) - 1, empty, dtype=np.float64)
    filled = offsets[:-1] < offsets[1:]
    if filled.any():
        reduced[filled] = ufunc.reduceat(values, offsets[:-1][filled])
    return reduced


def mean_of_texts(values: Values, kept: NDArray[np.bool_], offsets: NDArray[np.int64]) -> Values:
    """Mean of each text's kept values, float64 (n,); NaN for a text that keeps none.

    >>> mean_of_texts(np.array([1.0, 3.0, 9.0]), np.array([True, True, False]), np.array([0, 2, 3]))
    array([ 2., nan])
    """
    # Not a product with `kept`: inf * 0 is NaN.
    total = reduce_texts(np.add, np.where(kept, values, 0.0), offsets, empty=0.0)
    count = reduce_texts(np.add, kept.astype(np.float64), offsets, empty=0.0)
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


def _whole_numbers(name: str, values: ArrayLike, dtype: type[np.signedinteger]) -> NDArray[Any]:
    """The column as `dtype`, without a copy if possible; values that do not fit are an error."""
    column = _flat_column(name, values)
    if column.size and column.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be whole numbers; got {column.dtype}. "
            f"Convert it with .astype(np.{dtype.__name__})."
        )
    if column.size and not np.can_cast(column.dtype, dtype):
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        if column.min() < low or column.max() > high:
            raise ValueError(
                f"{name} must lie between {low:,} and {high:,} ({dtype.__name__}); "
                f"got {column.min():,} to {column.max():,}. Check the origin of the column."
            )
    return np.asarray(column, dtype=dtype)


def _reals(name: str, values: ArrayLike) -> NDArray[np.float32]:
    column = _flat_column(name, values)
    try:
        # Values beyond float32's range become infinite.
        with np.errstate(over="ignore"):
            return np.asarray(column, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must be numbers; got {column.dtype} ({error}). Pass floats; NaN = no value."
        ) from error


def _flat_column(name: str, values: ArrayLike) -> NDArray[Any]:
    column = np.asarray(values)
    if column.ndim != 1:
        raise ValueError(
            f"{name} must have 1 dimension, the tokens of all texts; got shape {column.shape}. "
            "Flatten it, or use TokenStats.from_lists."
        )
    return column


def _check_offsets(offsets: NDArray[np.int64], n_tokens: int) -> None:
    remedy = "Pass the cumulative text lengths, starting at 0."
    if len(offsets) == 0:
        raise ValueError(f"offsets must hold at least a 0; got an empty array. {remedy}")
    if offsets[0] != 0 or offsets[-1] != n_tokens:
        raise ValueError(
            f"offsets must run from 0 to the number of tokens, {n_tokens:,}; "
            f"got {offsets[0]:,} to {offsets[-1]:,}. {remedy}"
        )
    falling = np.flatnonzero(np.diff(offsets) < 0)
    if len(falling):
        i = falling[0]
        raise ValueError(
            f"offsets must not decrease; got {offsets[i]:,}, {offsets[i + 1]:,} at text {i:,}. "
            f"{remedy}"
        )


def _check_values(logprob: NDArray[np.float32], rank: NDArray[np.int32]) -> None:
    for column, wrong, message in (
        (logprob, logprob > LOGPROB_ROUNDING, "logprob must be at most 0 (nats)"),
        (rank, rank < RANK_UNKNOWN, "rank must be -1 (no probability), -2 (unknown), 0 or more"),
        (logprob, (rank == -1) & ~np.isnan(logprob), "logprob must be NaN where rank is -1"),
    ):
        if wrong.any():
            at = int(wrong.argmax())
            raise ValueError(
                f"{message}; got {column[at]} at token {at:,}. Pass log-probabilities, not their "
                "negatives, and ranks from 0 = the most likely token."
            )


def _flat(texts: Sequence[Sequence[Any]]) -> NDArray[Any]:
    # Empty lists are float64 in numpy and would turn the integers of the others into floats.
    filled = [np.asarray(text) for text in texts if len(text)]
    return np.concatenate(filled) if filled else np.empty(0)


def _summary(lengths: list[int]) -> str:
    return f"{sum(lengths):,} tokens in {len(lengths):,} texts"
