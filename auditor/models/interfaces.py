"""What a function may need of a model, as three small protocols.

A function states which it needs. A model that is no causal network of torch (masked,
encoder-decoder, served by a provider) implements those that it can.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from attacks.scores.token_stats import TokenStats
from auditor.config.audit import Decoding
from auditor.models.limits import Limits
from auditor.models.lm_head import Head
from auditor.models.tokenizer import Vocabulary


class KnownModel(Protocol):
    """What every model has: names, tokens and bounds.

    `name` is what the user called it, `context` the most tokens of a sequence (None: no limit),
    `notes` sentences that a user should read.
    """

    name: str
    vocabulary: Vocabulary
    context: int | None
    notes: list[str]

    @property
    def n_vocab(self) -> int:
        """Tokens that have a probability: ids below this number."""

    def identity(self) -> dict[str, Any]:
        """What tells the model from others, as plain data: spec, sha256, dtype, bos_id."""


class JudgesTexts(KnownModel, Protocol):
    """A model that gives the log-probabilities of the tokens of a text."""

    def token_stats(
        self,
        texts: Sequence[Sequence[int]],
        prefixes: Sequence[Sequence[int]] | None = None,
        *,
        moments: bool = False,
        progress: Callable[[int], None] | None = None,
        note: Callable[[str], None] | None = None,
    ) -> TokenStats:
        """Statistics of each text's tokens, given its prefix; see `LanguageModel.token_stats`.

        A model that gives no ranks says so by `RANK_UNKNOWN`; one that gives no moments of the
        vocabulary leaves them None.
        """


@dataclass(frozen=True)
class Samples:
    """Sampled tokens of n sequences, padded to the longest; `length` says how many count.

    token_ids int32, logprob float32 (nats, raw distribution), rank int32: (n, max_new_tokens).
    length int32, ended bool: (n,).
    """

    token_ids: NDArray[np.int32]
    logprob: NDArray[np.float32]
    rank: NDArray[np.int32]
    length: NDArray[np.int32]
    ended: NDArray[np.bool_]


@runtime_checkable
class DrawsSamples(Protocol):
    """A model that samples by itself. Networks in this process are sampled by `generate`."""

    def draw(
        self,
        prompts: Sequence[Sequence[int]],
        ids: Sequence[int],
        *,
        seed: int,
        stream: str,
        decoding: Decoding,
    ) -> Samples:
        """One continuation of each prompt; seed, stream and the sample's id fix what it becomes."""


class WhiteBox(KnownModel, Protocol):
    """A causal network in this process: its hidden states, its projection, its weights."""

    network: Any
    config: Any
    device: torch.device
    dtype: torch.dtype
    limits: Limits
    takes_positions: bool
    slow_because: dict[str, str]
    cache_numbers: float

    @property
    def head(self) -> Head:
        """The projection from hidden states to the vocabulary."""

    @property
    def batch_tokens(self) -> int:
        """The most tokens of one pass."""

    def hidden_states(self, ids: torch.Tensor, **kwargs) -> torch.Tensor:
        """What the head is given for each token of a batch: (n, time) to (n, time, width)."""

    def fill(self, ids: torch.Tensor, cache) -> None:
        """Put the keys and values of a batch (n, time) into a cache."""
