"""Protocols that describe what a function needs of a model.

A model that is not a causal torch network (for example one behind a provider's API) implements
those that it supports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    """Attributes of every model.

    name : the user's name for it
    kind : one of `auditor.models.kinds.KINDS`
    fingerprint : sha256 of its weight files, or what else identifies it
    n_parameters : number of parameters; 0 if unknown
    dtype, device : of its weights in this process; float32 and the CPU if it has none here
    context : the maximum sequence length in tokens; None: no limit
    notes : remarks for the user
    slow_because : {shortcut: why it is not used}
    without : {name of a score or statistic: why this kind of model does not have it}
    """

    name: str
    kind: str
    fingerprint: str
    n_parameters: int
    dtype: torch.dtype
    device: torch.device
    vocabulary: Vocabulary
    context: int | None
    notes: list[str]
    slow_because: dict[str, str]
    without: Mapping[str, str]

    @property
    def n_vocab(self) -> int:
        """Vocabulary size: every id below it has a probability."""

    def identity(self) -> dict[str, Any]:
        """Plain data that identifies the model: spec, sha256, dtype, bos_id."""


class ScoresTexts(KnownModel, Protocol):
    """A model that returns the log-probabilities of a text's tokens."""

    def token_stats(
        self,
        texts: Sequence[Sequence[int]],
        prefixes: Sequence[Sequence[int]] | None = None,
        *,
        moments: bool = False,
        progress: Callable[[int], None] | None = None,
        note: Callable[[str], None] | None = None,
        memo: Any = None,
    ) -> TokenStats:
        """Token statistics of each text given its prefix; see `LanguageModel.token_stats`.

        Unavailable ranks are `RANK_UNKNOWN`; unavailable moments are None. A model without
        batches in this process may ignore `memo`.
        """


@dataclass(frozen=True)
class Samples:
    """Sampled tokens of n sequences, padded to the longest; the first `length` are valid.

    token_ids int32, logprob float32 (nats, raw distribution), rank int32: (n, max_new_tokens).
    length int32, ended bool: (n,).
    proposed, accepted: steps of Markov chains after the first state (masked models).
    """

    token_ids: NDArray[np.int32]
    logprob: NDArray[np.float32]
    rank: NDArray[np.int32]
    length: NDArray[np.int32]
    ended: NDArray[np.bool_]
    proposed: int = 0
    accepted: int = 0


@runtime_checkable
class DrawsSamples(Protocol):
    """A model with its own sampler. Networks in this process are sampled by `generate`."""

    def draw(
        self,
        prompts: Sequence[Sequence[int]],
        ids: Sequence[int],
        *,
        seed: int,
        stream: str,
        decoding: Decoding,
        progress: Callable[[int], None] | None = None,
    ) -> Samples:
        """One continuation of each prompt, determined by seed, stream and the sample's id.

        `progress` gets the number of tokens just drawn.
        """


class WhiteBox(KnownModel, Protocol):
    """A causal network in this process: its hidden states, its projection, its weights."""

    network: Any
    config: Any
    limits: Limits
    takes_positions: bool
    cache_numbers: float

    @property
    def head(self) -> Head:
        """The projection from hidden states to the vocabulary."""

    @property
    def batch_tokens(self) -> int:
        """Maximum number of tokens per forward pass."""

    def hidden_states(self, ids: torch.Tensor, **kwargs) -> torch.Tensor:
        """Inputs of the head for each token of a batch: (n, time) to (n, time, width)."""

    def fill(self, ids: torch.Tensor, cache) -> None:
        """Write the keys and values of a batch (n, time) into a cache."""
