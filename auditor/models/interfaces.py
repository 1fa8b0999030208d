"""What other modules may ask of a model, as small protocols."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from auditor.models.limits import Limits


class CausalNetwork(Protocol):
    """A causal network and what is known of it: what sessions and self-checks work on."""

    name: str
    network: Any
    config: Any
    device: torch.device
    dtype: torch.dtype
    context: int | None
    limits: Limits
    takes_positions: bool
    slow_because: dict[str, str]
    cache_numbers: float

    @property
    def batch_tokens(self) -> int:
        """The most tokens of one pass."""

    def hidden_states(self, ids: torch.Tensor, **kwargs) -> torch.Tensor:
        """What the head is given for each token of a batch: (n, time) to (n, time, width)."""

    def fill(self, ids: torch.Tensor, cache) -> None:
        """Put the keys and values of a batch (n, time) into a cache."""
