"""Batched generation on a GPU: steps are queued in bursts without synchronising with the host.

Tokens, positions and uniforms stay on the device, and a step is a CUDA graph that updates them in
place (on a CPU, the same code is called directly). Each burst's results are copied to the host
while the next burst runs. A sequence that ends early runs to the end of the queued steps; the
surplus tokens are discarded.

Not yet run on a GPU: tests compare the CPU path with the plain engine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from auditor.models.kernels.cuda_graph import recorded
from auditor.sampling.engine import Generation, PausedError

BURST = 16  # steps queued at once


@dataclass(frozen=True)
class _Burst:
    """A queued burst: the sample of each slot (-1: none), its length so far, and the results."""

    sample: np.ndarray
    at: np.ndarray
    numbers: tuple[torch.Tensor, ...]  # token ids, log-probabilities, ranks: (BURST, slots)
    arrived: Any  # a CUDA event, or None on a CPU


class CudaGeneration(Generation):
    """A Generation whose tokens, positions and uniforms stay on the device."""

    def _begin(self, n_slots: int, capacity: int) -> None:
        super()._begin(n_slots, capacity)
        device, most = self.model.device, self.decoding.max_new_tokens
        self.at = np.zeros(n_slots, np.int64)  # queued tokens of each slot's sample
        self.position = np.zeros(n_slots, np.int64)  # of each slot's next token
        self.tokens_on = torch.zeros(n_slots, dtype=torch.int64, device=device)
        self.positions_on = torch.zeros_like(self.tokens_on)
        self.at_on = torch.zeros_like(self.tokens_on)
        self.uniform_on = torch.zeros((n_slots, most), dtype=torch.float64, device=device)
        self.cursor = torch.zeros(1, dtype=torch.int64, device=device)
        self.drawn_on = torch.zeros((BURST, n_slots), dtype=torch.int64, device=device)
        self.logprob_on = torch.zeros((BURST, n_slots), dtype=torch.float32, device=device)
        self.rank_on = torch.zeros((BURST, n_slots), dtype=torch.int32, device=device)
        self.recorded: dict[int, Callable[[], None]] = {}

    def _fill(self, slots: np.ndarray) -> None:
        super()._fill(slots)
        self.at[slots] = 0
        taken = slots[self.sample[slots] >= 0]
        self.position[slots] = 0
        self.position[taken] = [len(self.prompts[i]) - 1 for i in self.sample[taken]]
        where = torch.as_tensor(slots, device=self.model.device)
        for here, there in (
            (self.next_token, self.tokens_on),
            (self.position, self.positions_on),
            (self.at, self.at_on),
            (self.uniform, self.uniform_on),
        ):
            there[where] = _sent(here[slots], self.model.device)

    def _advance(self, progress: Callable[[int], None] | None, stop: Callable[[], bool]) -> None:
        """Run bursts until nothing is pending."""
        queued: _Burst | None = None
        while (self.sample >= 0).any() or queued is not None:
            if stop():
                raise PausedError({})
            before, queued = queued, self._queue() if (self.sample >= 0).any() else None
            if before is not None:
                n, ended = self._collect(before)
                if progress is not None:
                    progress(n)
                # Free the slots of finished samples, unless they were reassigned.
                freed = np.flatnonzero(np.isin(self.sample, ended) & (self.sample >= 0))
                if len(freed):
                    self._release(freed)

    def _queue(self) -> _Burst:
        """Queue a burst, then reassign slots that have reached max_new_tokens."""
        busy = self.sample >= 0
        steps = int(min(BURST, (self.decoding.max_new_tokens - self.at[busy]).max()))
        room = self.session.cache.make_room(min(self.capacity, int(self.position.max()) + steps))
        if room not in self.recorded:
            state = [self.tokens_on, self.positions_on, self.at_on, self.cursor]
            state += [] if self.seen is None else [self.seen]
            self.recorded[room] = recorded(self._one_step, state, self.model.device)
        self.cursor.zero_()
        for _ in range(steps):
            self.recorded[room]()
        sample, at = self.sample.copy(), self.at.copy()
        numbers, arrived = _fetched((self.drawn_on, self.logprob_on, self.rank_on))
        self.at[busy] += steps
        # Idle slots advance too; they are overwritten from the start.
        self.position = np.minimum(self.position + steps, self.capacity - 1)
        full = np.flatnonzero(busy & (self.at >= self.decoding.max_new_tokens))
        if len(full):
            self._release(full)
        return _Burst(sample, at, numbers, arrived)

    def _release(self, slots: np.ndarray) -> None:
        self.sample[slots] = -1
        self._fill(slots)

    def _one_step(self) -> None:
        """One token in every slot, without reading values on the host."""
        hidden = self.session.step_at(self.tokens_on, self.positions_on)
        u = self.uniform_on.gather(1, self.at_on[:, None])[:, 0]
        ids, measured = self._draw(hidden, u, self._temperature[self.at_on])
        self.drawn_on.index_copy_(0, self.cursor, ids[None])
        self.logprob_on.index_copy_(0, self.cursor, measured.logprob[None])
        self.rank_on.index_copy_(0, self.cursor, measured.rank[None])
        self.tokens_on.copy_(ids)
        self.positions_on.add_(1).clamp_(max=self.capacity - 1)
        self.at_on.add_(1).clamp_(max=self.decoding.max_new_tokens - 1)
        self.cursor.add_(1).clamp_(max=BURST - 1)

    def _collect(self, burst: _Burst) -> tuple[int, np.ndarray]:
        """Store a burst's results; return the number of tokens and the finished samples."""
        if burst.arrived is not None:
            burst.arrived.synchronize()
        drawn, logprob, rank = (x.numpy() for x in burst.numbers)
        held = burst.sample >= 0
        open_ = held.copy()
        open_[held] = ~self.finished[burst.sample[held]]
        slots = np.flatnonzero(open_)
        before = int(self.length.sum())
        for step in range(len(drawn)):
            at = burst.at[slots] + step
            slots = slots[at < self.decoding.max_new_tokens]
            if not len(slots):
                break
            index, at = burst.sample[slots], burst.at[slots] + step
            over = self._enter(
                index, at, drawn[step, slots], logprob[step, slots], rank[step, slots]
            )
            self.finished[index[over]] = True
            slots = slots[~over]
        done = burst.sample[open_]
        return int(self.length.sum()) - before, done[self.finished[done]]


def _sent(values: np.ndarray, device: torch.device) -> torch.Tensor:
    """Copy to the device asynchronously."""
    here = torch.as_tensor(values)
    return here.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else here


def _fetched(numbers: tuple[torch.Tensor, ...]) -> tuple[tuple[torch.Tensor, ...], Any]:
    """Copy to the host asynchronously; also an event for completion (None on a CPU)."""
    if numbers[0].device.type != "cuda":
        return tuple(x.clone() for x in numbers), None
    here = tuple(torch.empty(x.shape, dtype=x.dtype, pin_memory=True) for x in numbers)
    for target, source in zip(here, numbers, strict=True):
        target.copy_(source, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()
    return here, arrived
