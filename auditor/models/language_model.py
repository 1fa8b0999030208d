"""Causal language models: hidden states, sessions, and token statistics of given texts."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from attacks.scores.token_stats import TokenStats
from auditor.errors import ModelError
from auditor.models.checks import check_network, check_steps, n_rows, probe_ids
from auditor.models.context_windows import cut_to_context
from auditor.models.device import out_of_memory
from auditor.models.kernels.attention import use_slot_attention
from auditor.models.kernels.gelu import fuse_activations
from auditor.models.kernels.packed_linear import can_pack, pack_linears
from auditor.models.limits import limits_of
from auditor.models.lm_head import Head, NetworkHead, not_finite, unknown_token
from auditor.models.sessions import TOKENS_AT_ONCE, Session, WholeTextSession
from auditor.models.teacher_forcing import Memo, teacher_forced
from auditor.models.tokenizer import Vocabulary

# Maximum logits per pass when the network computes them itself.
_LOGITS_AT_ONCE = 1 << 26


class LanguageModel:
    """A causal language model with its vocabulary, for sampling and scoring text.

    Created by `auditor.load_model`. `name` is the user's name for it, `fingerprint` the sha256 of
    its weight files, `context` the maximum sequence length in tokens, `notes` remarks for the user.

    Two shortcuts make it fast: the vocabulary projection runs outside the network, and keys and
    values are cached in slots. Each is verified against the network's forward pass. If a shortcut
    gives different results, the slower forward pass is used, and `slow_because` says why.

    Raises
    ------
    ModelError
        If the network is not causal, gives non-finite logits, or cannot be run.
    """

    kind = "causal"
    without: Mapping[str, str] = MappingProxyType({})

    def __init__(self, network, vocabulary: Vocabulary, *, name: str, fingerprint: str, dtype):
        self.network = network.eval()
        use_slot_attention(network)
        fuse_activations(network)
        self.vocabulary = vocabulary
        self.name, self.fingerprint, self.dtype = name, fingerprint, dtype
        self.device = next(network.parameters()).device
        self.config = network.config.get_text_config()
        self.limits = limits_of(self.config, network)
        self.context = self.limits.context
        self.n_parameters = sum(p.numel() for p in network.parameters())
        self.slow_because: dict[str, str] = {}
        self.notes: list[str] = []
        self._trunk = _trunk(network)
        self.takes_positions = "position_ids" in inspect.signature(self._trunk.forward).parameters
        if self.context is not None and self.context < 2:
            raise ModelError(
                f"{name}: the context in config.json must be at least 2 tokens; got "
                f"{self.context}. Use another model."
            )
        self.cache_numbers = 0.0
        check_network(self)
        self.head = self._head()
        self._longest_checked = 0
        # On a GPU, synchronising with the host at every step is slow: sampling/cuda_engine.py.
        self.queues_steps = self.device.type == "cuda" and self.takes_positions

    def _head(self) -> Head:
        if why := self.slow_because.get("head"):
            self.notes.append(f"{self.name} computes its own logits, which is slower: {why}.")
            with torch.inference_mode():
                logits = self.network(input_ids=probe_ids(self), use_cache=False).logits
            return NetworkHead(logits.shape[-1])
        outer = self.network.get_output_embeddings()
        return Head(outer.weight, getattr(outer, "bias", None), self.dtype)

    def identity(self) -> dict[str, Any]:
        """Plain data that identifies the model."""
        return {
            "spec": self.name,
            "sha256": self.fingerprint,
            "dtype": str(self.dtype).removeprefix("torch."),
            "bos_id": self.vocabulary.bos_id,
        }

    @property
    def n_vocab(self) -> int:
        """Rows of the vocabulary projection."""
        return self.head.n_vocab

    @property
    def batch_tokens(self) -> int:
        """Maximum number of tokens per forward pass; bounds the memory."""
        if "head" in self.slow_because:
            return max(1, _LOGITS_AT_ONCE // n_rows(self))
        return TOKENS_AT_ONCE

    def hidden_states(self, ids: torch.Tensor, **kwargs) -> torch.Tensor:
        """Inputs of the head for each token of a batch: (n, time) to (n, time, width)."""
        use_cache = "past_key_values" in kwargs
        if "head" in self.slow_because:
            return self.network(input_ids=ids, use_cache=use_cache, **kwargs).logits
        return self._trunk(input_ids=ids, use_cache=use_cache, **kwargs)[0]

    def fill(self, ids: torch.Tensor, cache) -> None:
        """Write the keys and values of a batch (n, time) into a cache, without logits."""
        self._trunk(input_ids=ids, use_cache=True, past_key_values=cache)

    def pack(self) -> LanguageModel:
        """Pack the weights for faster inference where supported; training is no longer possible.

        Layers whose packed output differs are left unpacked.
        """
        if not any(can_pack(weight) for weight in self._trunk.parameters()):
            return self
        with torch.inference_mode():
            before = self.hidden_states(probe_ids(self)).float()
        left = pack_linears(self._trunk, lambda: self._reproduces(before))
        if left:
            self.slow_because["layers"] = f"{', '.join(left)} cannot be packed"
        self.head.pack()
        return self

    @torch.inference_mode()
    def _reproduces(self, before: torch.Tensor) -> bool:
        """Whether the hidden states of a few tokens equal `before` up to rounding (3 %)."""
        try:
            after = self.hidden_states(probe_ids(self)).float()
        except Exception as error:
            if out_of_memory(error):
                raise
            return False
        return float((before - after).norm()) <= 0.03 * float(before.norm()) + 1e-6

    # ---------------------------------------------------------------- generation
    def bytes_per_slot(self, length: int) -> int:
        """Memory of one sequence: measured keys and values, and its row of logits."""
        size = torch.finfo(self.dtype).bits // 8
        return int(self.cache_numbers * length * size) + self.head.n_vocab * (size + 1)

    def check_capacity(self, capacity: int) -> None:
        """Check whether sequences of `capacity` tokens can use the slot cache."""
        if "steps" not in self.slow_because:
            own = self.limits.own_window
            outgrown = max((w for w in self.limits.windows if w < capacity), default=0)
            if own is not None and own < capacity:
                self.slow_because["steps"] = f"its layers truncate the cache to {own} tokens"
            elif outgrown > self._longest_checked:
                # The check texts must also exceed the layer's window.
                check_steps(self, length=outgrown + 40)
                self._longest_checked = outgrown
        self.queues_steps = self.queues_steps and "steps" not in self.slow_because

    def session(self, n_slots: int, capacity: int) -> Session | WholeTextSession:
        """A session for `n_slots` sequences of at most `capacity` tokens, stepped together."""
        self.check_capacity(capacity)
        if "steps" in self.slow_because:
            return WholeTextSession(self, n_slots)
        return Session(self, n_slots, capacity)

    # ------------------------------------------------------------------ scoring
    @torch.inference_mode()
    def token_stats(
        self,
        texts: Sequence[Sequence[int]],
        prefixes: Sequence[Sequence[int]] | None = None,
        *,
        moments: bool = False,
        batch_tokens: int = 4096,
        progress=None,
        note=None,
        memo: Memo | None = None,
    ) -> TokenStats:
        """Log-probability and rank of every token of the given texts.

        Parameters
        ----------
        texts : token ids of each text
        prefixes : token ids before each text, or None
            Conditions a text's first token. Without a prefix, BOS is used; without BOS, the first
            token's log-probability is NaN. Sequences longer than the context are scored in
            overlapping windows (`cut_to_context`).
        moments : bool
            Also the vocabulary's mean and standard deviation of the log-probability.
        batch_tokens : int
            Tokens per padded batch; bounds the memory.
        progress : callable(n_texts_done), or None
        note : callable(sentence), or None
            Called when memory runs out and a batch is halved.
        memo : Memo, or None
            Finished batches of the same call, which are not computed again.

        Raises
        ------
        ModelError
            If the log-probabilities are not finite, or a single text does not fit into memory.
        """
        given = [[]] * len(texts) if prefixes is None else prefixes
        start = self.vocabulary.start
        pieces = cut_to_context(texts, [list(p) or start for p in given], self.context)
        largest = max((max(p.prefix + p.tokens, default=0) for p in pieces), default=0)
        if largest >= self.n_vocab:
            raise ModelError(unknown_token(self.name, largest, self.n_vocab))

        def measure(hidden: torch.Tensor, targets: torch.Tensor) -> list[torch.Tensor]:
            found = self.head.measure(hidden, targets, moments)
            if not found.logprob.isfinite().all():
                raise ModelError(not_finite(self.name, self.dtype))
            return [column for column in found if column is not None]

        def done(batch: list[int]) -> None:
            # Count only first pieces, so that the total is the number of texts.
            if progress is not None:
                progress(sum(i == 0 or pieces[i - 1].owner != pieces[i].owner for i in batch))

        rows = teacher_forced(
            self.hidden_states,
            [(p.prefix, p.tokens) for p in pieces],
            measure,
            batch_tokens=min(batch_tokens, self.batch_tokens),
            device=self.device,
            rope_switch=self.limits.rope_switch,
            feeds_last=True,
            too_large=lambda n: (
                f"{self.name}: one text of {n} tokens does not fit into memory. "
                "Use --dtype bfloat16, shorter texts, or a machine with more memory."
            ),
            progress=done,
            note=note,
            memo=memo,
        )
        return _assemble(texts, pieces, rows, moments)


def _trunk(network):
    """The part of the network that contains the token embeddings but not the projection."""
    embeddings = network.get_input_embeddings()
    for part in (network.get_decoder(), network.base_model, getattr(network, "model", None)):
        if not isinstance(part, torch.nn.Module) or part is network:
            continue
        if embeddings in part.modules():
            return part
    return network


def _assemble(texts, pieces, rows, moments) -> TokenStats:
    """Join the rows of all pieces; tokens without context get NaN and rank -1."""
    offsets = np.concatenate([[0], np.cumsum([len(t) for t in texts])]).astype(np.int64)
    n = int(offsets[-1])
    ids = np.fromiter((i for t in texts for i in t), dtype=np.int32, count=n)
    logprob, rank = np.full(n, np.nan, np.float32), np.full(n, -1, np.int32)
    mean, std = (np.full(n, np.nan, np.float32) for _ in range(2))
    end = 0
    for piece, row in zip(pieces, rows, strict=True):
        end += len(piece.tokens)
        if not row:
            continue
        own = slice(end - len(row[0]), end)
        logprob[own], rank[own] = row[0], row[1]
        if moments:
            mean[own], std[own] = row[2], row[3]
    extra = {"vocab_mean": mean, "vocab_std": std} if moments else {}
    return TokenStats(offsets=offsets, token_ids=ids, logprob=logprob, rank=rank, **extra)
