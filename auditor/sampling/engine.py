"""Batched generation with slots; log-probabilities are recorded while sampling.

Each slot contains one sequence. A step appends one token to every slot; a finished sequence is
replaced by the next one at once. A sample depends only on (seed, stream, sample id).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from auditor.config.audit import Decoding
from auditor.errors import ModelError
from auditor.models.interfaces import Samples
from auditor.models.language_model import LanguageModel
from auditor.models.lm_head import Measured, measure, not_finite, unknown_token
from auditor.sampling.decoding import draw, temperatures
from auditor.sampling.random_streams import uniforms

# The arrays of a generation that belong to its samples and slots.
_OF_SAMPLES = ("token_ids", "logprob", "rank", "length", "ended", "finished")
_OF_SLOTS = ("sample", "next_token")


class PausedError(KeyboardInterrupt):
    """Sampling was interrupted between two steps; `state` is what `Generation.resume` needs.

    The state is empty if the engine cannot continue in the middle of a sequence.
    """

    def __init__(self, state: dict[str, np.ndarray]):
        super().__init__()
        self.state = state


class Generation:
    """Continue `prompts[i]` for sample `sample_ids[i]`."""

    def __init__(
        self,
        model: LanguageModel,
        prompts: Sequence[Sequence[int]],
        sample_ids: Sequence[int],
        *,
        seed: int,
        stream: str,
        decoding: Decoding,
    ):
        self.model, self.decoding = model, decoding
        self.prompts = [list(p) for p in prompts]
        self.sample_ids = np.asarray(sample_ids, dtype=np.int64)
        self.seed, self.stream = seed, stream
        n, steps = len(self.prompts), decoding.max_new_tokens
        self.token_ids = np.zeros((n, steps), np.int32)
        self.logprob = np.zeros((n, steps), np.float32)
        self.rank = np.zeros((n, steps), np.int32)
        self.length = np.zeros(n, np.int32)
        self.ended = np.zeros(n, bool)
        self.finished = np.zeros(n, bool)
        self._temperature = torch.as_tensor(
            temperatures(decoding, np.arange(steps)), dtype=torch.float32, device=model.device
        )

    @torch.inference_mode()
    def run(
        self,
        n_slots: int,
        progress: Callable[[int], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Samples:
        """Sample all unfinished sequences, at most `n_slots` at a time.

        Raises PausedError between two steps once `stop()` is true.
        """
        todo = np.flatnonzero(~self.finished).tolist()
        n_slots = min(n_slots, len(todo))
        if not todo:
            return Samples(self.token_ids, self.logprob, self.rank, self.length, self.ended)
        # Samples that an earlier run left unfinished restart with the same random numbers.
        if progress is not None and self.length[todo].any():
            progress(-int(self.length[todo].sum()))
        self.length[todo] = 0
        capacity = max(len(self.prompts[i]) for i in todo) + self.decoding.max_new_tokens
        self._begin(n_slots, capacity)
        self.pending = deque(todo)
        self._fill(np.arange(n_slots))
        return self._finish(progress, stop)

    @torch.inference_mode()
    def resume(
        self,
        state: Mapping[str, np.ndarray],
        progress: Callable[[int], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Samples:
        """Continue from the state of a PausedError, to the same samples bit by bit."""
        self._begin(len(state["sample"]), int(state["capacity"]))
        for name in (*_OF_SAMPLES, *_OF_SLOTS):
            getattr(self, name)[:] = state[name]
        self.pending = deque(state["pending"].tolist())
        self.session.restore(state)
        if self.seen is not None:
            self.seen[:] = torch.as_tensor(state["seen"], device=self.seen.device)
        busy = np.flatnonzero(self.sample >= 0)
        steps = np.arange(self.decoding.max_new_tokens)
        ids = self.sample_ids[self.sample[busy]]
        self.uniform[busy] = uniforms(self.seed, self.stream, ids, steps)
        if progress is not None:
            progress(int(self.length.sum()))
        return self._finish(progress, stop)

    def _state(self) -> dict[str, np.ndarray]:
        """What `resume` needs; see `PausedError`."""
        state = {name: getattr(self, name) for name in (*_OF_SAMPLES, *_OF_SLOTS)}
        state |= {"pending": np.array(self.pending, np.int64)}
        state |= {"capacity": np.array(self.capacity), **self.session.state()}
        return state if self.seen is None else {**state, "seen": self.seen.cpu().numpy()}

    def _finish(self, progress, stop) -> Samples:
        self._advance(progress, stop or (lambda: False))
        self.release()
        return Samples(self.token_ids, self.logprob, self.rank, self.length, self.ended)

    def _begin(self, n_slots: int, capacity: int) -> None:
        """Create empty slots."""
        self.capacity = capacity
        self.session: Any = self.model.session(n_slots, capacity)
        self.sample = np.full(n_slots, -1)  # the sample of each slot; -1: none
        self.next_token = np.zeros(n_slots, np.int64)
        self.uniform = np.zeros((n_slots, self.decoding.max_new_tokens))
        self.seen = None
        if self.decoding.repetition_penalty != 1:
            shape = (n_slots, self.model.n_vocab)
            self.seen = torch.zeros(shape, dtype=torch.bool, device=self.model.device)

    def _advance(self, progress: Callable[[int], None] | None, stop: Callable[[], bool]) -> None:
        """Step until every slot is empty and nothing is pending."""
        while True:
            if stop():  # also after the last step, as the samples are not written yet
                raise PausedError(self._state())
            if not (self.sample >= 0).any():
                return
            done = self._step()
            if progress is not None:
                progress(int((self.sample >= 0).sum()))
            if len(done):
                self.finished[self.sample[done]] = True
                self.sample[done] = -1
                self._fill(done)
                self._shrink()

    def release(self) -> None:
        """Free the memory of the session."""
        self.session = self.seen = None

    def _fill(self, slots: np.ndarray) -> None:
        """Assign pending prompts to free slots; park the others."""
        taken = [s for s in slots.tolist() if self._take(s)]
        idle = [s for s in slots.tolist() if self.sample[s] < 0]
        if taken:
            # Prefill all but a prompt's last token, which is the input of the next step.
            heads = {s: self.prompts[self.sample[s]][:-1] for s in taken}
            long = [s for s in taken if heads[s]]
            self.session.park([s for s in taken if not heads[s]])
            if long:
                self.session.prefill(long, [heads[s] for s in long])
            ids = self.sample_ids[self.sample[taken]]
            steps = np.arange(self.decoding.max_new_tokens)
            self.uniform[taken] = uniforms(self.seed, self.stream, ids, steps)
        if idle:
            self.session.park(idle)

    def _take(self, slot: int) -> bool:
        if not self.pending:
            return False
        self.sample[slot] = index = self.pending.popleft()
        self.next_token[slot] = self.prompts[index][-1]
        if self.seen is not None:
            self.seen[slot] = False
            self.seen[slot, self.prompts[index]] = True
        return True

    def _step(self) -> np.ndarray:
        """One token for every slot; returns the finished slots."""
        device = self.model.device
        hidden = self.session.step(torch.as_tensor(self.next_token, device=device))
        active = np.flatnonzero(self.sample >= 0)
        index = self.sample[active]
        at = self.length[index]
        u = np.zeros(len(self.sample))
        u[active] = self.uniform[active, at]
        steps = np.zeros(len(self.sample), np.int64)
        steps[active] = at
        temperature = self._temperature[torch.as_tensor(steps, device=device)]
        ids, measured = self._draw(hidden, torch.as_tensor(u, device=device), temperature)
        drawn = ids.cpu().numpy()[active]
        logprob, rank = (x.cpu().numpy()[active] for x in (measured.logprob, measured.rank))
        over = self._enter(index, at, drawn, logprob, rank)
        self.next_token[active] = drawn
        # Parked slots must not advance.
        idle = np.flatnonzero(self.sample < 0)
        if len(idle):
            self.session.park(idle.tolist())
        return active[over]

    def _draw(self, hidden, uniform, temperature) -> tuple[torch.Tensor, Measured]:
        """The next token of every slot (slots,) and its statistics."""
        head = self.model.head
        logits = head.logits(hidden)
        # A repetition penalty depends on a logit's sign, so it needs uncentred logits.
        raw = logits if self.seen is None else head.uncentred(hidden, logits)
        ids = draw(raw, uniform, temperature, self.decoding, self.seen)
        measured = measure(logits, ids, head.exact(hidden, logits, ids[:, None])[:, 0])
        if self.seen is not None:
            self.seen.scatter_(1, ids[:, None], True)
        return ids, measured

    def _enter(self, index, at, drawn, logprob, rank) -> np.ndarray:
        """Store token number `at` of samples `index`; return which of them are finished."""
        if not np.isfinite(logprob).all():
            raise ModelError(not_finite(self.model.name, self.model.dtype))
        self.token_ids[index, at] = drawn
        self.logprob[index, at] = logprob
        self.rank[index, at] = rank
        self.length[index] += 1
        over = self.length[index] >= self.decoding.max_new_tokens
        if self.decoding.stop_at_eos and self.model.vocabulary.eos_id is not None:
            self.ended[index] = drawn == self.model.vocabulary.eos_id
            over |= self.ended[index]
        return over

    def _shrink(self) -> None:
        """Drop idle slots when they are the majority and nothing is pending."""
        busy = np.flatnonzero(self.sample >= 0)
        if self.pending or not len(busy) or 2 * len(busy) > len(self.sample):
            return
        self.session.keep(busy.tolist())
        self.sample, self.next_token = self.sample[busy], self.next_token[busy]
        self.uniform = self.uniform[busy]
        if self.seen is not None:
            self.seen = self.seen[torch.as_tensor(busy, device=self.seen.device)]


def check_prompts(
    model: LanguageModel, prompts: Sequence[Sequence[int]], decoding: Decoding
) -> None:
    """Raise ModelError for prompts that are empty, too long, or contain unknown tokens."""
    lengths = [len(p) for p in prompts]
    if not all(lengths):
        raise ModelError(
            f"{model.name}: a prompt must have at least one token; got an empty prompt. Set a BOS "
            "token with --bos, or use prompts with text."
        )
    token = max((max(prompt) for prompt in prompts), default=0)
    if token >= model.n_vocab:
        raise ModelError(unknown_token(model.name, token, model.n_vocab))
    context, longest = model.context, max(lengths, default=0)
    if context is not None and longest + decoding.max_new_tokens > context:
        raise ModelError(
            f"{model.name}: prompt and new tokens must fit into its context of {context} tokens; "
            f"got {longest} + {decoding.max_new_tokens}. Lower --max-new-tokens or shorten the "
            "prompts."
        )
    switch = model.limits.rope_switch
    if switch is None or longest + decoding.max_new_tokens <= switch:
        return
    if min(lengths) <= switch + 1:
        raise ModelError(
            f"{model.name}: prompt and new tokens must be at most {switch:,}, because the model "
            f"uses other rotary factors beyond {switch:,} tokens (LongRoPE); got {longest} + "
            f"{decoding.max_new_tokens}. Lower --max-new-tokens or shorten the prompts."
        )
