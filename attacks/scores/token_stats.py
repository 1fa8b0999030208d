"""What a model thought of every token of n texts: ragged columns, laid out as Arrow lays out lists.

Text i owns the tokens `offsets[i]:offsets[i + 1]` of every column, so a shard goes to Parquet and
back without a copy. Three kinds of token have to be kept apart:

* scored: a log-probability (-inf: the model held it impossible) and a rank of 0 or more, or
  RANK_UNKNOWN from a model that tells no ranks;
* unscored: rank -1 and NaN, because the token had nothing to be conditioned on; left out of sums;
* broken: a rank and yet NaN, a fault of the model; it makes its text's sums NaN, so that a
  fault is seen and counted and never averaged away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Rounding may lift a sure token's log-probability a hair above 0; a wrong sign lifts it far more.
LOGPROB_ROUNDING = 1e-3
# The rank of a token whose log-probability is known and whose rank is not.
RANK_UNKNOWN = -2


@dataclass(frozen=True, eq=False)
class TokenStats:
    """Token log-probabilities and ranks of n texts, under one model.

    Parameters
    ----------
    offsets : int64 array (n + 1,)
        Where each text starts and the last one ends; the first is 0.
    token_ids : int32 array (n_tokens,)
    logprob : float32 array (n_tokens,), nats
        Under the raw distribution (temperature 1, no truncation); NaN where rank is -1.
    rank : int32 array (n_tokens,)
        0 = the model's first choice; -1 = no probability, as nothing came before the token;
        RANK_UNKNOWN (-2) = a probability, and the model does not tell the rank.
    vocab_mean, vocab_std : float32 array (n_tokens,), nats, or None
        Mean and standard deviation of the log-probability of a token drawn from the model there.

    Raises
    ------
    ValueError
        If the columns do not fit each other, or a value is outside what its column may hold.

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
                    f"{name} must hold {len(self.token_ids):,} values, as token_ids does; "
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
        """TokenStats of texts given as one list (or array) a text; None or NaN: no probability.

        Parameters
        ----------
        token_ids, logprob, rank : sequence of n sequences, logprob in nats

        Returns
        -------
        TokenStats of n texts.

        Raises
        ------
        ValueError
            If the three do not hold the same number of values for every text.

        >>> TokenStats.from_lists([[3, 4]], [[None, -0.5]], [[-1, 0]]).logprob
        array([ nan, -0.5], dtype=float32)
        """
        lengths = [len(text) for text in token_ids]
        for name, texts in (("logprob", logprob), ("rank", rank)):
            got = [len(text) for text in texts]
            if got != lengths:
                raise ValueError(
                    f"{name} must hold one value a token, {_summary(lengths)} as token_ids does; "
                    f"got {_summary(got)}. Pass the columns of the same texts in the same order."
                )
        return cls(_offsets(lengths), _flat(token_ids), _flat(logprob), _flat(rank))  # type: ignore[arg-type]

    @classmethod
    def concatenate(cls, parts: Iterable[TokenStats]) -> TokenStats:
        """All texts of the parts, in order; of no parts: no texts.

        Raises
        ------
        ValueError
            If only some of the parts have vocab_mean or vocab_std.

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
                    f"{len(parts)}. Score the parts with the same options."
                )
            if missing or (not parts and name.startswith("vocab")):
                return None
            return np.concatenate(columns) if parts else np.empty(0)

        lengths = np.concatenate([np.empty(0, np.int64), *(part.n_tokens() for part in parts)])
        names = ("token_ids", "logprob", "rank", "vocab_mean", "vocab_std")
        return cls(_offsets(lengths), *(joined(name) for name in names))

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.offsets) - 1

    @property
    def is_scored(self) -> NDArray[np.bool_]:
        """Whether each token has a probability, bool (n_tokens,)."""
        return self.rank != -1

    def n_tokens(self) -> NDArray[np.int64]:
        """Tokens of each text, int64 (n,)."""
        return np.diff(self.offsets)

    def n_scored(self) -> NDArray[np.int64]:
        """Tokens of each text that have a probability (rank not -1), int64 (n,)."""
        scored_before = np.concatenate([[0], np.cumsum(self.is_scored)])
        return np.diff(scored_before[self.offsets])

    def token_nll(self) -> NDArray[np.float64]:
        """Nats of each token, float64 (n_tokens,), never below 0; NaN where there is none.

        A log-probability that rounding lifted above 0 counts as 0: a text's nats are a
        denominator, and a sign there would turn the surest text into the least sure.
        """
        # + 0.0 makes 0.0 of -0.0, which as a denominator would give -inf for +inf.
        return np.maximum(-self.logprob.astype(np.float64), 0.0) + 0.0

    def total_nll(self) -> NDArray[np.float64]:
        """Nats of each text, summed in float64 over its tokens with a probability, float64 (n,).

        0 where nothing was scored: the sum of nothing.
        """
        nats = np.where(self.is_scored, self.token_nll(), 0.0)
        return reduce_texts(np.add, nats, self.offsets, empty=0.0)

    def nll(self) -> NDArray[np.float64]:
        """Mean nats per token with a probability, float64 (n,); NaN where nothing was scored.

        This is the logarithm of the text's perplexity.
        """
        n_scored = self.n_scored()
        mean = np.full(len(self), np.nan)
        np.divide(self.total_nll(), n_scored, out=mean, where=n_scored > 0)
        return mean

    def logprob_of(self, i: int) -> NDArray[np.float32]:
        """Log-probabilities of text i, float32, nats: a view; negative i counts from the end.

        Raises
        ------
        IndexError
            If there is no text i.
        """
        if not -len(self) <= i < len(self):
            raise IndexError(_no_such_text(i, len(self)))
        i %= len(self)
        return self.logprob[self.offsets[i] : self.offsets[i + 1]]

    def take(self, index: ArrayLike | slice) -> TokenStats:
        """The texts of an index, in its order: whole numbers, a boolean mask or a slice.

        Raises
        ------
        IndexError
            If the index asks for a text that is not there, or is no index.

        >>> stats = TokenStats.from_lists([[3, 4], [5]], [[-1.0, -2.0], [-0.5]], [[0, 1], [0]])
        >>> stats.take([1, 0]).token_ids
        array([5, 3, 4], dtype=int32)
        """
        try:
            texts = np.atleast_1d(np.arange(len(self))[index])  # type: ignore[index]
        except IndexError as error:
            raise IndexError(_no_such_text(index, len(self))) from error
        offsets = _offsets(self.n_tokens()[texts])
        # Each new text's tokens lie one after the other, moved from where they were by this much.
        moved = np.repeat(self.offsets[texts] - offsets[:-1], np.diff(offsets))
        old = np.arange(offsets[-1]) + moved
        columns = (self.token_ids, self.logprob, self.rank, self.vocab_mean, self.vocab_std)
        return TokenStats(offsets, *(None if c is None else c[old] for c in columns))  # type: ignore[arg-type]


def reduce_texts(
    ufunc: np.ufunc, values: NDArray[Any], offsets: NDArray[np.int64], *, empty: float
) -> NDArray[np.float64]:
    """`ufunc.reduce` of each text's values, float64 (n,); `empty` for a text that has none.

    (`ufunc.reduceat` alone would give an empty text the first value of the next one.)

    >>> reduce_texts(np.add, np.array([1.0, 2.0, 4.0]), np.array([0, 2, 2, 3]), empty=0.0)
    array([3., 0., 4.])
    """
    reduced = np.full(len(offsets) - 1, empty, dtype=np.float64)
    filled = offsets[:-1] < offsets[1:]
    if filled.any():
        reduced[filled] = ufunc.reduceat(values, offsets[:-1][filled])
    return reduced


def _whole_numbers(name: str, values: ArrayLike, dtype: type[np.signedinteger]) -> NDArray[Any]:
    """The column as `dtype`, uncopied if it is that already; no value is cut or wrapped round."""
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
                f"got {column.min():,} to {column.max():,}. Check where the column comes from."
            )
    return np.asarray(column, dtype=dtype)


def _reals(name: str, values: ArrayLike) -> NDArray[np.float32]:
    column = _flat_column(name, values)
    try:
        # Beyond float32's range is infinite here, as it would be in the model's own float32.
        with np.errstate(over="ignore"):
            return np.asarray(column, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must be numbers; got {column.dtype} ({error}). Pass floats, NaN for none."
        ) from error


def _flat_column(name: str, values: ArrayLike) -> NDArray[Any]:
    column = np.asarray(values)
    if column.ndim != 1:
        raise ValueError(
            f"{name} must have 1 dimension, all texts' tokens in a row; got shape {column.shape}. "
            "Flatten it, or use TokenStats.from_lists."
        )
    return column


def _check_offsets(offsets: NDArray[np.int64], n_tokens: int) -> None:
    remedy = "Start at 0 and add up the texts' lengths."
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
            f"offsets must not fall; got {offsets[i]:,} then {offsets[i + 1]:,} at text {i:,}. "
            f"{remedy}"
        )


def _check_values(logprob: NDArray[np.float32], rank: NDArray[np.int32]) -> None:
    wrong = np.flatnonzero(logprob > LOGPROB_ROUNDING)
    if len(wrong):
        raise ValueError(
            f"logprob must be at most 0 (nats); got {logprob[wrong[0]]} at token {wrong[0]:,}. "
            "Pass log-probabilities, not their negatives."
        )
    wrong = np.flatnonzero(rank < RANK_UNKNOWN)
    if len(wrong):
        raise ValueError(
            f"rank must be -1 (no probability), -2 (unknown), 0 (first choice) or more; "
            f"got {rank[wrong[0]]} at token {wrong[0]:,}. Count ranks from 0."
        )
    wrong = np.flatnonzero((rank == -1) & ~np.isnan(logprob))
    if len(wrong):
        raise ValueError(
            f"logprob must be NaN where rank is -1 (no probability); "
            f"got {logprob[wrong[0]]} at token {wrong[0]:,}. Give the token its rank, or NaN."
        )


def _offsets(lengths: ArrayLike) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64, copy=False)


def _flat(texts: Sequence[Sequence[Any]]) -> NDArray[Any]:
    # Empty lists are float64 to numpy, and would make floats of the others' whole numbers.
    filled = [np.asarray(text) for text in texts if len(text)]
    return np.concatenate(filled) if filled else np.empty(0)


def _summary(lengths: list[int]) -> str:
    return f"{sum(lengths):,} tokens in {len(lengths):,} texts"


def _no_such_text(index: object, n_texts: int) -> str:
    return (
        f"index must name some of the {n_texts:,} texts, as whole numbers, mask or slice; "
        f"got {index!r}. Check it against len(stats)."
    )
