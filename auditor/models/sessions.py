"""Sessions: generate many sequences together, one token per step.

`Session` caches keys and values in slots. `WholeTextSession` recomputes every sequence at each
step: slow, but correct for every causal model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from auditor.models.interfaces import WhiteBox
from auditor.models.kv_cache import SlotCache

# Tokens per pass over prompts or recomputed sequences.
TOKENS_AT_ONCE = 16_384
# Names in config.layer_types.
_SLIDING, _CHUNKED = "sliding_attention", "chunked_attention"


class Session:
    """Sequences with cached keys and values, one slot each.

    `step` returns hidden states for `model.head`; `prefill` only fills the cache.
    """

    def __init__(self, model: WhiteBox, n_slots: int, capacity: int):
        self._model = model
        self.cache = SlotCache(model.config.num_hidden_layers, n_slots, capacity)
        self._positions = np.zeros(n_slots, dtype=np.int64)
        self._is_windowed = any(window < capacity for window in model.limits.windows)

    @torch.inference_mode()
    def prefill(self, slots: Sequence[int], prompts: Sequence[Sequence[int]]) -> None:
        """Write prompts into the cache."""
        device = self._model.device
        for at, ids in _batches(prompts, TOKENS_AT_ONCE):
            rows = slice(at, at + len(ids))
            self.cache.at_start(torch.as_tensor(slots[rows], device=device))
            self._model.fill(ids.to(device), self.cache)
        self._positions[list(slots)] = [len(p) for p in prompts]

    @torch.inference_mode()
    def step(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Append a token (n_slots,) to every slot; return its hidden states (n_slots, width)."""
        first, last = int(self._positions.min()), int(self._positions.max())
        positions = torch.as_tensor(self._positions, device=self._model.device)
        self.cache.at(positions, first, last)
        hidden = self._forward(token_ids, positions)
        self._positions += 1
        return hidden

    @torch.inference_mode()
    def step_at(self, token_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """`step` at positions (n_slots,) on the device, below the allocated length."""
        self.cache.at(positions, 0, self.cache.room - 1)
        return self._forward(token_ids, positions)

    def _forward(self, token_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        model = self._model
        kwargs = {"attention_mask": self._masks(positions)}
        if model.takes_positions:
            kwargs["position_ids"] = positions[:, None]
        return model.hidden_states(token_ids[:, None], past_key_values=self.cache, **kwargs)[:, 0]

    def _masks(self, positions: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
        """Additive attention masks for the new tokens, (slots, 1, 1, allocated length).

        One mask for all layers, or one for each layer type, as transformers expects.
        """
        config = self._model.config
        at = positions[:, None]
        key = torch.arange(self.cache.room, device=positions.device)[None]
        seen = key <= at
        if not self._is_windowed:
            return self._additive(seen)
        kinds = getattr(config, "layer_types", None)
        window = getattr(config, "sliding_window", None)
        sliding = seen & (key > at - window) if window else seen
        if not kinds:
            return self._additive(sliding)
        masks = dict.fromkeys(kinds, seen)
        masks |= {_SLIDING: sliding} if _SLIDING in masks else {}
        if _CHUNKED in masks:
            chunk = config.attention_chunk_size
            masks[_CHUNKED] = seen & (key // chunk == at // chunk)
        return {kind: self._additive(mask) for kind, mask in masks.items()}

    def _additive(self, seen: torch.Tensor) -> torch.Tensor:
        dtype = self._model.dtype
        mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
        mask.masked_fill_(~seen, torch.finfo(dtype).min)
        return mask[:, None, None]

    def park(self, slots: Sequence[int]) -> None:
        """Reset idle slots to position 0, so that they never overflow."""
        self._positions[list(slots)] = 0

    def state(self) -> dict[str, np.ndarray]:
        """Everything that `restore` needs to continue with the same numbers."""
        tensors = self.cache.tensors(int(self._positions.max(initial=0)))
        arrays = {name: _numbers(tensor) for name, tensor in tensors.items()}
        dtype = next((str(t.dtype) for t in tensors.values()), "torch.float32")
        state = {"positions": self._positions, "room": np.array(self.cache.room)}
        return {**state, "dtype": np.array(dtype.removeprefix("torch.")), **arrays}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a `state` of a session with as many slots."""
        self._positions = state["positions"].astype(np.int64)
        dtype = getattr(torch, str(state["dtype"]))
        tensors = {
            name: torch.from_numpy(state[name]).view(dtype).to(self._model.device)
            for name in state
            if name.startswith(("keys/", "values/"))
        }
        self.cache.restore(tensors, int(state["room"]))

    def keep(self, slots: Sequence[int]) -> None:
        """Drop all slots but these."""
        self.cache.keep(torch.as_tensor(slots, device=self._model.device))
        self._positions = self._positions[list(slots)]


class WholeTextSession:
    """Sequences recomputed at each step, for models without a plain key-value cache."""

    def __init__(self, model: WhiteBox, n_slots: int):
        self._model = model
        self._rows: list[list[int]] = [[] for _ in range(n_slots)]

    def prefill(self, slots: Sequence[int], prompts: Sequence[Sequence[int]]) -> None:
        """Store prompts in slots."""
        for slot, prompt in zip(slots, prompts, strict=True):
            self._rows[slot] = list(prompt)

    @torch.inference_mode()
    def step(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Append a token (n_slots,) to every slot; return its hidden states (n_slots, width)."""
        for row, token in zip(self._rows, token_ids.tolist(), strict=True):
            row.append(token)
        # Sort by length to reduce padding.
        order = sorted(range(len(self._rows)), key=lambda slot: -len(self._rows[slot]))
        rows, device = [self._rows[slot] for slot in order], self._model.device
        parts = []
        for at, ids in _batches(rows, self._model.batch_tokens):
            hidden = self._model.hidden_states(ids.to(device))
            last = torch.tensor([len(row) - 1 for row in rows[at : at + len(ids)]], device=device)
            parts.append(hidden[torch.arange(len(ids), device=device), last])
        found = torch.cat(parts)
        return found[torch.as_tensor(np.argsort(order), device=device)]

    def park(self, slots: Sequence[int]) -> None:
        """Empty the slots."""
        for slot in slots:
            self._rows[slot] = []

    def state(self) -> dict[str, np.ndarray]:
        """The tokens of each slot, padded with -1."""
        rows = np.full((len(self._rows), max(map(len, self._rows), default=0)), -1, np.int64)
        for slot, row in enumerate(self._rows):
            rows[slot, : len(row)] = row
        return {"rows": rows}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a `state` of a session with as many slots."""
        self._rows = [row[row >= 0].tolist() for row in state["rows"]]

    def keep(self, slots: Sequence[int]) -> None:
        """Drop all slots but these."""
        self._rows = [self._rows[slot] for slot in slots]


def _numbers(tensor: torch.Tensor) -> np.ndarray:
    """A tensor as an array of integers with the same bits: numpy has no bfloat16."""
    size = {2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    return tensor.cpu().contiguous().view(size).numpy()


def _batches(rows: Sequence[Sequence[int]], most: int):
    """Yield (first row, padded ids (n, longest)) for batches of at most `most` padded tokens."""
    at = 0
    while at < len(rows):
        end, width = at + 1, len(rows[at])
        while end < len(rows) and (end + 1 - at) * max(width, len(rows[end])) <= most:
            width = max(width, len(rows[end]))
            end += 1
        yield at, padded(rows[at:end])
        at = end


def padded(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Token ids padded on the right, int64 (n, longest); a causal mask hides the padding."""
    ids = torch.zeros((len(rows), max(1, *map(len, rows))), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.long)
    return ids
