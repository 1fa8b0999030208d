"""Sample from a masked language model: one Markov chain per sample, over the tokens of its text.

A chain starts from masks, which are filled in a random order. Then each step masks one random token
and draws it again given all others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from auditor.config.sampling import Decoding
from auditor.errors import ConfigError, ModelError
from auditor.models.interfaces import Samples
from auditor.models.masked_batches import MaskedRow
from auditor.models.masked_language_model import MaskedLanguageModel
from auditor.sampling.decoding import pick, temperatures, truncate
from auditor.sampling.random_streams import uniforms

# Tokens of all chains that are stepped together.
_TOKENS_AT_ONCE = 8192


def draw_masked(
    model: MaskedLanguageModel,
    prompts: Sequence[Sequence[int]],
    ids: Sequence[int],
    *,
    seed: int,
    stream: str,
    decoding: Decoding,
    progress: Callable[[int], None] | None = None,
) -> Samples:
    """One text of `max_new_tokens` tokens after each prompt, which stays as it is.

    `decoding.chain` is the sampler:

    * gibbs: every token that is drawn is kept. It is fast, but the model's conditional
      distributions have no common joint distribution, so the samples have none that is known.
    * metropolis-hastings: a drawn token is kept with the probability that makes exp(-E) the
      distribution of the texts, where -E is the original pseudo-log-likelihood of the text given
      its prompt. Each proposal takes one pass per token.

    `decoding.sweeps` is the length of a chain: that many steps per token. Its last state is the
    sample, so the whole chain is burn-in, and no chain is thinned. Temperature and truncation apply
    to the tokens that are drawn (proposed). Special tokens are never drawn. Log-probabilities and
    ranks are those of `token_stats`. Seed, stream and a sample's id determine it.

    Source
    ------
    Wang & Cho 2019, "BERT has a Mouth, and It Must Speak", section 3; Goyal et al. 2021, "Exposing
    the Implicit Energy Networks behind Masked Language Models via Metropolis-Hastings", section 3.

    Raises
    ------
    ConfigError
        For a repetition penalty, which has no order of tokens to look back on.
    ModelError
        If a prompt and its text exceed the context.
    """
    if decoding.repetition_penalty != 1:
        raise ConfigError(
            "--repetition-penalty must be 1 for a masked model, whose tokens are not drawn in "
            f"order; got {decoding.repetition_penalty:g}. Leave it out."
        )
    n, width = len(prompts), decoding.max_new_tokens
    longest = max(map(len, prompts), default=0)
    if model.context is not None and longest + width > model.context:
        raise ModelError(
            f"{model.name}: prompt and new tokens must fit into its context of {model.context} "
            f"tokens; got {longest} + {width}. Lower --max-new-tokens or shorten the prompts."
        )
    step = max(1, _TOKENS_AT_ONCE // (longest + width + 2))
    tokens, proposed, accepted = np.zeros((n, width), np.int32), 0, 0
    for at in range(0, n, step):
        some = slice(at, at + step)
        chains = _Chains(model, prompts[some], ids[some], seed, stream, decoding)
        chains.run(progress)
        tokens[some] = chains.tokens
        proposed, accepted = proposed + chains.proposed, accepted + chains.accepted
    stats = model.token_stats(tokens.tolist(), prompts)
    return Samples(
        token_ids=tokens,
        logprob=stats.logprob.reshape(n, width),
        rank=stats.rank.reshape(n, width),
        length=np.full(n, width, np.int32),
        ended=np.zeros(n, bool),
        proposed=proposed,
        accepted=accepted,
    )


class _Chains:
    """Chains that are stepped together; `tokens` (n, width) is their state."""

    def __init__(self, model: MaskedLanguageModel, prompts, ids, seed, stream, decoding: Decoding):
        self.model, self.decoding = model, decoding
        self.before = [model.framed(p)[: -len(model.end) or None] for p in prompts]
        self.first = np.array([len(b) for b in self.before])
        n, width = len(prompts), decoding.max_new_tokens
        self.tokens = np.full((n, width), model.mask_id, np.int32)
        self.n_steps = width * (1 + decoding.sweeps)
        # Three numbers per step: the place, the token, and whether it is kept.
        numbers = uniforms(seed, stream, np.asarray(ids), np.arange(3 * self.n_steps))
        self.u = numbers.reshape(n, self.n_steps, 3)
        self.order = np.argsort(self.u[:, :width, 0], axis=1, kind="stable")
        self.temperature = temperatures(decoding, np.arange(self.n_steps))
        self.forbidden = torch.tensor(model.never_drawn, dtype=torch.int64, device=model.device)
        self.energy = np.zeros(n)
        self.proposed = self.accepted = 0

    def run(self, progress: Callable[[int], None] | None) -> None:
        n, width = self.tokens.shape
        is_mh = self.decoding.chain == "metropolis-hastings"
        told = 0
        for step in range(self.n_steps):
            if step < width:
                self._place(step, self.order[:, step], is_kept=None)
            else:
                if is_mh and step == width:
                    self.energy = self._energies(self.tokens, range(n))
                place = (self.u[:, step, 0] * width).astype(np.int64)
                self._place(step, place, is_kept=self._accepted if is_mh else None)
                self.proposed += n
            now = n * width * (step + 1) // self.n_steps
            if progress is not None and now > told:
                progress(now - told)
            told = now
        if not is_mh:
            self.accepted = self.proposed

    def _place(self, step: int, place: np.ndarray, is_kept) -> None:
        """Draw the tokens at `place` (n,) again; keep those that `is_kept` accepts."""
        chains = np.arange(len(place))
        old = self.tokens[chains, place]
        masked = self.tokens.copy()
        masked[chains, place] = self.model.mask_id
        rows = [
            [*b, *own, *self.model.end] for b, own in zip(self.before, masked.tolist(), strict=True)
        ]
        ids, masks = self.model.passes.padded(rows)
        device = self.model.device
        logits = self.model.passes.logits(
            ids.to(device), masks.to(device), chains, self.first + place
        )
        logits = self._proposal(logits.float(), self.temperature[step])
        new = pick(logits, torch.as_tensor(self.u[:, step, 1], device=device))
        drawn = new.cpu().numpy().astype(np.int32)
        if is_kept is not None:
            drawn = is_kept(step, place, old, drawn, logits.double().log_softmax(1).cpu().numpy())
        self.tokens[chains, place] = drawn

    def _proposal(self, logits: torch.Tensor, temperature: float) -> torch.Tensor:
        """Logits of the tokens that may be drawn, after temperature and truncation."""
        logits = logits.index_fill(1, self.forbidden, float("-inf")) / float(temperature)
        k = self.decoding.top_k
        if k is not None and k < logits.shape[1]:
            least = logits.topk(k, dim=1).values[:, -1:]
            logits = logits.masked_fill(logits < least, float("-inf"))
        return truncate(logits, self.decoding)

    def _accepted(self, step, place, old, new, proposal) -> np.ndarray:
        """Metropolis-Hastings: the new tokens where they are accepted, the old ones elsewhere."""
        chains = np.arange(len(place))
        changed = np.flatnonzero(new != old)
        self.accepted += len(place) - len(changed)
        trial = self.tokens.copy()
        trial[chains, place] = new
        energy = self.energy.copy()
        if len(changed):
            energy[changed] = self._energies(trial[changed], changed)
        # A truncated proposal may never lead back to the old token: its log q is -inf.
        gain = self.energy - energy + proposal[chains, old] - proposal[chains, new]
        with np.errstate(divide="ignore"):
            is_kept = np.log(self.u[:, step, 2]) < gain
        is_kept[new == old] = True
        self.accepted += int(is_kept[changed].sum())
        self.energy = np.where(is_kept, energy, self.energy)
        return np.where(is_kept, new, old)

    def _energies(self, tokens: np.ndarray, chains) -> np.ndarray:
        """Minus the original pseudo-log-likelihood of each text given its prompt (n,), nats."""
        rows = []
        for own, chain in zip(tokens.tolist(), chains, strict=True):
            whole = [*self.before[chain], *own, *self.model.end]
            places = range(self.first[chain], self.first[chain] + len(own))
            rows += [MaskedRow(whole, [t], [t]) for t in places]
        found = self.model.passes.measure(rows, batch_tokens=_TOKENS_AT_ONCE)
        nats = np.array([own[0][0] for own in found], dtype=np.float64)
        return -nats.reshape(tokens.shape).sum(axis=1)
