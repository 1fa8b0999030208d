"""A key-value cache of slots: one row a sequence, written in place, rows at their own positions."""

from __future__ import annotations

import math

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

# Room grows by this many tokens at a time, the first time by half: rarely enough that moving what
# is there costs little, and by so little that attention reads few positions that hold nothing yet.
_ROOM = 64


class _SlotLayer(CacheLayerMixin):
    """One layer's keys and values, (slots, heads, room, head_dim), contiguous."""

    is_sliding = False

    def __init__(self, owner: SlotCache):
        super().__init__()
        self.owner = owner

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.keys, self._all_keys = self._reserve(key_states)
        self.values, self._all_values = self._reserve(value_states)
        self.is_initialized = True

    def _reserve(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """No room yet, and memory for all that there may be; what is not touched costs nothing."""
        shape = self.owner.n_slots, like.shape[1], 0, like.shape[3]
        everything = like.new_empty(self.owner.capacity * math.prod((*shape[:2], shape[3])))
        return _first(everything, shape), everything

    def make_room(self, room: int) -> None:
        """Zeros after what is there, so that positions not yet written hold numbers."""
        keys, values = self.keys, self.values
        if keys is not None and values is not None and room > keys.shape[2]:
            self.keys = _grown(keys, self._all_keys, room)
            self.values = _grown(values, self._all_values, room)

    def keep(self, slots: torch.Tensor) -> None:
        """Drop all slots but these."""
        keys, values = self.keys, self.values
        if keys is not None and values is not None:
            self.keys, self._all_keys = _kept(keys, slots, self.owner.capacity)
            self.values, self._all_values = _kept(values, slots, self.owner.capacity)

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


def _kept(
    old: torch.Tensor, slots: torch.Tensor, capacity: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Those rows in memory of their own, and all of that memory."""
    n, (_, heads, room, width) = len(slots), old.shape
    everything = old.new_empty(n * heads * capacity * width)
    new = _first(everything, (n, heads, room, width))
    torch.index_select(old, 0, slots, out=new)
    return new, everything


def _first(everything: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    return everything[: math.prod(shape)].view(shape)


def _grown(old: torch.Tensor, everything: torch.Tensor, room: int) -> torch.Tensor:
    """`old`, which lies at the start of `everything`, with more room a row, in the same memory.

    Rows move up from the last to the first, as many at a time as do not reach into where they go:
    memory that was never used is slow to get, and this takes no more of it than the new room.
    """
    n, heads, had, width = old.shape
    new = _first(everything, (n, heads, room, width))
    rows, moved = old.view(n * heads, had, width), new.view(n * heads, room, width)
    end = len(rows)
    while end and had:
        start = -(-end * had // room)  # from here on a row's place begins where no old row is
        if start < end:
            moved[start:end, :had] = rows[start:end]
            end = start
        else:
            moved[end - 1, :had] = rows[end - 1].clone()
            end -= 1
    new[:, :, had:] = 0
    return new


class SlotCache(Cache):
    """Keys and values of `n_slots` sequences of at most `capacity` tokens each.

    Before a forward pass the session says where it goes: `at_start(slots)` for prompts written
    from position 0, `at(positions)` for one more token in every slot. A slot is reused by writing
    over it from position 0. Keys and values are handed out whole, with the room that is not used
    yet: a mask must hide what a slot has not written.
    """

    def __init__(self, n_layers: int, n_slots: int, capacity: int):
        self.n_slots, self.capacity = n_slots, capacity
        self.start = 0  # what a model may ask: tokens already seen
        self._slots: torch.Tensor | None = None
        self._positions: torch.Tensor | None = None
        self.room = 0
        self._rows = [_SlotLayer(self) for _ in range(n_layers)]
        super().__init__(layers=[*self._rows])

    def at_start(self, slots: torch.Tensor) -> None:
        """The next pass writes prompts from position 0 of the given slots."""
        self._slots, self._positions, self.start = slots, None, 0

    def at(self, positions: torch.Tensor, first: int, last: int) -> None:
        """The next pass writes one token a slot, at `positions` (n_slots,), from first to last."""
        self._slots = None
        self._positions = None if first == last else positions
        self.start = last
        self._need(last + 1)

    def make_room(self, length: int) -> int:
        """Room for `length` tokens in every slot before they come; how much there is then."""
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
        """Keys and values kept of one token of one slot, in all layers, as the layers made them."""
        tensors = [t for layer in self._rows for t in (layer.keys, layer.values) if t is not None]
        return sum(t.numel() for t in tensors) / max(1, self.n_slots * self.room)

    def keep(self, slots: torch.Tensor) -> None:
        """Drop all slots but these, in this order."""
        for layer in self._rows:
            layer.keep(slots)
        self.n_slots = len(slots)
