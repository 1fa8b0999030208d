"""A key-value cache with one slot per sequence, each at its own position, written in place."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn.functional import pad
from transformers.cache_utils import Cache, CacheLayerMixin

# The cache grows by this many tokens, at first by half of it: a compromise between copying often
# and attending to unused positions.
_ROOM = 64


class _SlotLayer(CacheLayerMixin):
    """Keys and values of one layer, (slots, heads, allocated length, head_dim), contiguous."""

    is_sliding = False

    def __init__(self, owner: SlotCache):
        super().__init__()
        self.owner = owner

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        n = self.owner.n_slots
        self.keys = key_states.new_empty((n, key_states.shape[1], 0, key_states.shape[3]))
        self.values = value_states.new_empty((n, value_states.shape[1], 0, value_states.shape[3]))
        self.is_initialized = True

    def make_room(self, room: int) -> None:
        """Grow to `room` tokens; new positions are zero, so that masked attention stays finite."""
        keys, values = self.keys, self.values
        if keys is not None and values is not None and room > keys.shape[2]:
            more = (0, 0, 0, room - keys.shape[2])
            self.keys, self.values = pad(keys, more), pad(values, more)

    def keep(self, slots: torch.Tensor) -> None:
        """Drop all slots but these."""
        keys, values = self.keys, self.values
        if keys is not None and values is not None:
            self.keys, self.values = keys[slots], values[slots]

    def update(self, key_states, value_states, *args, **kwargs):
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        return self.owner.write(self, key_states, value_states)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.owner.visible(query_length), 0

    def get_seq_length(self) -> int:
        return self.owner.start

    def get_max_length(self) -> int:
        return self.owner.capacity


class SlotCache(Cache):
    """Keys and values of `n_slots` sequences of at most `capacity` tokens each.

    Before each forward pass, the session sets the target: `at_start(slots)` for prompts at position
    0, `at(positions)` for one more token in every slot. A slot is reused by overwriting it from
    position 0. Attention gets the whole allocated length: a mask must hide unwritten positions.
    """

    def __init__(self, n_layers: int, n_slots: int, capacity: int):
        self.n_slots, self.capacity = n_slots, capacity
        self.start = 0  # tokens already cached, as reported to the network
        self._slots: torch.Tensor | None = None
        self._positions: torch.Tensor | None = None
        self.room = 0
        self._rows = [_SlotLayer(self) for _ in range(n_layers)]
        super().__init__(layers=[*self._rows])

    def at_start(self, slots: torch.Tensor) -> None:
        """The next pass writes prompts from position 0 of the given slots."""
        self._slots, self._positions, self.start = slots, None, 0

    def at(self, positions: torch.Tensor, first: int, last: int) -> None:
        """The next pass writes one token per slot at `positions` (n_slots,), in [first, last]."""
        self._slots = None
        self._positions = None if first == last else positions
        self.start = last
        self._need(last + 1)

    def make_room(self, length: int) -> int:
        """Allocate `length` tokens in every slot; return the allocated length."""
        self._need(length)
        for layer in self._rows:
            layer.make_room(self.room)
        return self.room

    def visible(self, query_length: int) -> int:
        return query_length if self._slots is not None else self.room

    def write(self, layer, key_states, value_states):
        if self._slots is not None:
            length = key_states.shape[2]
            self._need(length)
            layer.make_room(self.room)
            layer.keys[self._slots, :, :length] = key_states
            layer.values[self._slots, :, :length] = value_states
            return key_states, value_states
        layer.make_room(self.room)
        if self._positions is None:  # all slots at one position: a plain slice
            layer.keys[:, :, self.start : self.start + 1] = key_states
            layer.values[:, :, self.start : self.start + 1] = value_states
        else:
            rows = torch.arange(self.n_slots, device=key_states.device)
            layer.keys[rows, :, self._positions] = key_states[:, :, 0]
            layer.values[rows, :, self._positions] = value_states[:, :, 0]
        return layer.keys, layer.values

    def _need(self, length: int) -> None:
        if length > self.room:
            step = _ROOM if length > _ROOM // 2 else _ROOM // 2
            self.room = min(self.capacity, -(-length // step) * step)

    def numbers_per_token(self) -> float:
        """Numbers cached per token of one slot, over all layers."""
        tensors = [t for layer in self._rows for t in (layer.keys, layer.values) if t is not None]
        return sum(t.numel() for t in tensors) / max(1, self.n_slots * self.room)

    def tensors(self, length: int) -> dict[str, torch.Tensor]:
        """Keys and values of the first `length` positions of every layer, by name."""
        return {
            f"{kind}/{i}": tensor[:, :, :length]
            for i, layer in enumerate(self._rows)
            for kind, tensor in (("keys", layer.keys), ("values", layer.values))
            if tensor is not None
        }

    def restore(self, tensors: Mapping[str, torch.Tensor], room: int) -> None:
        """Put back what `tensors` returned, with `room` tokens allocated in every slot."""
        self.room = room
        for i, layer in enumerate(self._rows):
            if f"keys/{i}" in tensors:
                keys, values = tensors[f"keys/{i}"], tensors[f"values/{i}"]
                layer.lazy_initialization(keys, values)
                more = (0, 0, 0, room - keys.shape[2])
                layer.keys, layer.values = pad(keys, more), pad(values, more)

    def keep(self, slots: torch.Tensor) -> None:
        """Drop all slots but these, in this order."""
        for layer in self._rows:
            layer.keep(slots)
        self.n_slots = len(slots)
