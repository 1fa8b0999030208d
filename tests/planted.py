"""Models with known probabilities, and tiny random models of real architectures.

A `PlantedModel` has no weights: a test defines its next-token logits as a function of the sequence
so far. Its head is a real `Head` with an identity matrix, so the whole engine is exercised.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from auditor.models.limits import Limits
from auditor.models.lm_head import Head

Rule = Callable[[tuple[int, ...]], np.ndarray]


@dataclass(frozen=True)
class Ids:
    """The part of a vocabulary that sampling uses."""

    bos_id: int | None = 0
    eos_id: int | None = 0

    @property
    def start(self) -> list[int]:
        return [] if self.bos_id is None else [self.bos_id]


class PlantedModel:
    """A language model given by a rule: tokens so far -> logits of the next, (n_vocab,).

    It runs out of memory with a batch above `most_slots`. `sessions` lists all sessions made.
    """

    name, dtype, device = "planted", torch.float32, torch.device("cpu")
    kind = "causal"
    queues_steps = False

    def __init__(
        self,
        rule: Rule,
        n_vocab: int,
        *,
        eos_id: int | None = 0,
        context: int | None = None,
        most_slots: int | None = None,
    ):
        self.rule, self.context, self.most_slots = rule, context, most_slots
        self.vocabulary = Ids(bos_id=0, eos_id=eos_id)
        self.head = Head(torch.eye(n_vocab), None, torch.float32)
        self.limits = Limits(context)
        self.sessions: list[PlantedSession] = []

    @property
    def n_vocab(self) -> int:
        return self.head.n_vocab

    def check_capacity(self, capacity: int) -> None:
        """Accept any length."""

    def bytes_per_slot(self, length: int) -> int:
        return 1

    def session(self, n_slots: int, capacity: int) -> PlantedSession:
        if self.most_slots is not None and n_slots > self.most_slots:
            raise torch.OutOfMemoryError("planted: out of memory")
        self.sessions.append(PlantedSession(self, n_slots, capacity))
        return self.sessions[-1]


class PlantedSession:
    """The sequences of a batch, as lists."""

    def __init__(self, model: PlantedModel, n_slots: int, capacity: int):
        self.model, self.capacity = model, capacity
        self.rows: list[list[int]] = [[] for _ in range(n_slots)]
        self.widths: list[int] = []  # batch size at each step

    def prefill(self, slots: Sequence[int], prompts: Sequence[Sequence[int]]) -> None:
        for slot, prompt in zip(slots, prompts, strict=True):
            self.rows[slot] = list(prompt)

    def step(self, token_ids: torch.Tensor) -> torch.Tensor:
        self.widths.append(len(self.rows))
        for row, token in zip(self.rows, token_ids.tolist(), strict=True):
            row.append(token)
            assert len(row) <= self.capacity, "a slot overflowed"
        logits = [self.model.rule(tuple(row)) for row in self.rows]
        return torch.tensor(np.array(logits), dtype=torch.float32)

    def park(self, slots: Sequence[int]) -> None:
        for slot in slots:
            self.rows[slot] = []

    def keep(self, slots: Sequence[int]) -> None:
        self.rows = [self.rows[slot] for slot in slots]


def noise(n_vocab: int) -> Rule:
    """Logits that depend on all tokens so far and on their order."""

    def rule(tokens: tuple[int, ...]) -> np.ndarray:
        mixed = sum((i + 1) * (t + 1) for i, t in enumerate(tokens))
        return 3 * np.sin(np.arange(1, n_vocab + 1) * (1.0 + mixed))

    return rule


def recites(secret: Sequence[int], n_vocab: int) -> Rule:
    """After BOS and a prefix of the secret, the next token's logit is 10; all others are 0."""

    def rule(tokens: tuple[int, ...]) -> np.ndarray:
        logits = np.zeros(n_vocab)
        text = tokens[1:]
        if len(text) < len(secret) and text == tuple(secret[: len(text)]):
            logits[secret[len(text)]] = 10
        return logits

    return rule


def counts(tokens: tuple[int, ...], n_vocab: int) -> np.ndarray:
    """Frequency of each token in a sequence."""
    return np.bincount(tokens, minlength=n_vocab)


def tiny_network(kind: str = "gpt2", *, n_vocab: int = 61, context: int = 64, seed: int = 0):
    """A random network, far from uniform: `gpt2`, or `llama` with grouped-query attention."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from auditor.models.tiny_gpt2 import build_gpt2

    if kind == "llama":
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            llama = LlamaConfig(
                vocab_size=n_vocab,
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=context,
                initializer_range=0.3,
                bos_token_id=0,
                eos_token_id=0,
            )
            return LlamaForCausalLM(llama).eval()
    network = build_gpt2(n_vocab=n_vocab, n_layer=2, width=32, n_head=4, context=context, seed=seed)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1:
                weight.mul_(15)  # from a standard deviation of 0.02 to 0.3
    return network.eval()


def tiny_model(
    kind: str = "gpt2",
    *,
    bos_id: int | None = 0,
    eos_id: int = 0,
    dtype=torch.float32,
    **shape,
):
    """A `tiny_network` as a LanguageModel; by default BOS and EOS are token 0."""
    from auditor.models.language_model import LanguageModel

    network = tiny_network(kind, **shape).to(dtype)
    return LanguageModel(network, Ids(bos_id, eos_id), name=kind, fingerprint="", dtype=dtype)
