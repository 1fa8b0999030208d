"""Causal language models: the steps of generation, and the statistics of given text."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

import numpy as np
import torch

from attacks.token_stats import TokenStats
from auditor.errors import ModelError
from auditor.language_models.activation import fuse_activations
from auditor.language_models.attention import use_slot_attention
from auditor.language_models.head import Head, not_finite, unknown_token
from auditor.language_models.machine import halved
from auditor.language_models.packing import pack_linears
from auditor.language_models.pieces import Piece, cut_to_context
from auditor.language_models.recording import recorded
from auditor.language_models.slots import SlotCache
from auditor.language_models.vocabulary import Vocabulary

# What a config calls a factor or a cap that is put on the logits after the projection.
_ON_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")


class LanguageModel:
    """A causal language model with its vocabulary, ready to sample and to judge text.

    Made by `auditor.load_model`. `name` is what a user called it, `fingerprint` the sha256 of its
    weight files, `context` the most tokens a sequence may have.
    """

    def __init__(self, network, vocabulary: Vocabulary, *, name: str, fingerprint: str, dtype):
        self.network = network.eval()
        use_slot_attention(network)
        fuse_activations(network)
        self.vocabulary = vocabulary
        self.name, self.fingerprint, self.dtype = name, fingerprint, dtype
        self.device = next(network.parameters()).device
        self.config = network.config.get_text_config()
        self.context = context_of(self.config)
        self.n_parameters = sum(p.numel() for p in network.parameters())
        self._trunk = _trunk(network)
        outer = network.get_output_embeddings()
        if outer is None:
            raise ModelError(f"{name} has no output projection: it is not a causal language model.")
        self.head = Head(outer.weight, getattr(outer, "bias", None), dtype)
        self._takes_positions = "position_ids" in inspect.signature(self._trunk.forward).parameters
        # On a GPU the host would be waited for at every step; see generation/ahead.py.
        self.runs_ahead = self.device.type == "cuda" and self._takes_positions
        self._steps_are_checked = False
        # What tells a trunk from its head differs from model to model: checked, not assumed.
        self._check_head()

    @torch.inference_mode()
    def _check_head(self) -> None:
        """Some models scale or cap their logits after the projection; we would be wrong on them."""
        for name in _ON_LOGITS:
            value = getattr(self.config, name, None)
            if value is not None and value != 1:
                raise self._unsupported(f"its config says {name} = {value}")
        ids = torch.arange(min(4, self.context or 4), device=self.device)[None] % self.head.n_vocab
        whole = self.network(input_ids=ids, use_cache=False).logits[0].double()
        apart = self.head.logits(self.hidden_states(ids)[0]).double()
        if not whole.isfinite().all():
            raise ModelError(not_finite(self.name, self.dtype))
        allowed = 1e-3 if self.dtype == torch.float32 else 1.0
        off = float((whole.log_softmax(-1) - apart.log_softmax(-1)).abs().max())
        if not off <= allowed:
            raise self._unsupported(f"they are off by {off:.3g} nats")

    def _unsupported(self, why: str) -> ModelError:
        return ModelError(
            f"{self.name}: its probabilities are not softmax(projection(hidden)): {why}, as with "
            "capped or scaled logits. Such models are not supported yet; supported are GPT-2, "
            "Llama, Qwen, Mistral, Pythia and models built like them."
        )

    @torch.inference_mode()
    def _check_steps(self) -> None:
        """Two texts stepped side by side must give what one pass over each gives."""
        if self._steps_are_checked or (self.context is not None and self.context < 5):
            return
        texts = [[i % self.head.n_vocab for i in text] for text in ([5, 6, 7, 8, 9], [3, 2, 4])]
        whole = [self.hidden_states(torch.tensor([t], device=self.device))[0, -1] for t in texts]
        try:
            session = Session(self, 2, 5)
            session.prefill([0, 1], [t[:-2] for t in texts])
            for i in (-2, -1):
                stepped = session.step(torch.tensor([t[i] for t in texts], device=self.device))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise ModelError(_unsteppable(self.name, type(error).__name__)) from None
        one, other = (
            self.head.logits(h).double().log_softmax(-1) for h in (torch.stack(whole), stepped)
        )
        off = float((one - other).abs().mean())
        if not off <= (1e-3 if self.dtype == torch.float32 else 0.5):
            raise ModelError(_unsteppable(self.name, f"off by {off:.3g} nats"))
        self._steps_are_checked = True

    def hidden_states(self, ids: torch.Tensor, **kwargs) -> torch.Tensor:
        """What the head is given for each token of a batch: (n, length) to (n, length, width)."""
        return self._trunk(input_ids=ids, use_cache="past_key_values" in kwargs, **kwargs)[0]

    def pack(self) -> LanguageModel:
        """Lay out the weights for speed where this machine and format can; it no longer trains."""
        pack_linears(self._trunk)
        self.head.pack()
        return self

    def bytes_per_slot(self, length: int) -> int:
        """Memory of one sequence in flight: keys and values, and its row of logits."""
        c = self.config
        heads = getattr(c, "num_key_value_heads", None) or c.num_attention_heads
        width = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
        size = torch.finfo(self.dtype).bits // 8
        cache = 2 * c.num_hidden_layers * heads * width * length * size
        return cache + self.head.n_vocab * (size + 1)

    def session(self, n_slots: int, capacity: int) -> Session:
        """Room for `n_slots` sequences of at most `capacity` tokens, to be stepped together.

        Raises
        ------
        ModelError
            If this kind of model gives other numbers step by step than in one pass.
        """
        self._check_steps()
        return Session(self, n_slots, capacity)

    # ------------------------------------------------------------------ statistics of given text
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
    ) -> TokenStats:
        """Log-probability and rank of every token of the given texts.

        Parameters
        ----------
        texts : token ids of each text
        prefixes : token ids before each text, or None
            A text's first token is conditioned on its prefix. With no prefix, or an empty one, on
            BOS; where the model has no BOS either, that token has no probability (NaN). What is
            longer than the context is judged in overlapping pieces (`cut_to_context`).
        moments : bool
            Also the vocabulary's mean and standard deviation of the log-probability.
        batch_tokens : int
            Tokens of one padded batch; memory stays flat whatever the number of texts.
        progress : callable(n_texts_done), or None
        note : callable(sentence), or None
            Told when memory runs out and a batch is halved.

        Returns
        -------
        TokenStats of the texts' own tokens, in the given order.

        Raises
        ------
        ModelError
            If the model gives what is no number, or one text alone does not fit into memory.
        """
        bos = self.vocabulary.bos_id
        start = [] if bos is None else [bos]
        given = [[]] * len(texts) if prefixes is None else prefixes
        pieces = cut_to_context(texts, [list(p) or start for p in given], self.context)
        lengths = np.array([len(p.prefix) + len(p.tokens) for p in pieces], int)
        rows: list = [None] * len(pieces)
        for batch in buckets(lengths, batch_tokens):
            measured = halved(
                lambda some: self._batch(some, moments),
                [pieces[i] for i in batch],
                too_large=f"{self.name}: one text of {lengths[batch[0]]} tokens does not fit into "
                "memory. Use --dtype bfloat16, shorter texts, or a machine with more.",
                note=note,
            )
            for i, row in zip(batch, measured, strict=True):
                rows[i] = row
            if progress is not None:
                # A text counts when its first piece is done, so the total is the texts.
                firsts = (i for i in batch if i == 0 or pieces[i - 1].owner != pieces[i].owner)
                progress(sum(1 for _ in firsts))
        return _assemble(texts, pieces, rows, moments)

    def _batch(self, pieces: list[Piece], moments: bool) -> list[tuple[np.ndarray, ...]]:
        """Columns of each piece: log-probability, rank and, where asked for, moments."""
        whole = [p.prefix + p.tokens for p in pieces]
        width = max(1, max(map(len, whole)))
        # Padded on the right: under a causal mask no token sees the padding after it.
        ids = torch.zeros((len(whole), width), dtype=torch.long)
        for i, sequence in enumerate(whole):
            ids[i, : len(sequence)] = torch.tensor(sequence, dtype=torch.long)
        if (token := int(ids.max())) >= self.head.n_vocab:
            raise ModelError(unknown_token(self.name, token, self.head.n_vocab))
        ids = ids.to(self.device)
        # Token t is judged by the hidden state at t - 1; with no prefix the first has none.
        first = [max(1, len(p.prefix)) for p in pieces]
        sizes = [max(0, len(w) - f) for w, f in zip(whole, first, strict=True)]
        if not sum(sizes):
            return [(np.empty(0, np.float32), np.empty(0, np.int32))] * len(pieces)
        row = np.repeat(np.arange(len(pieces)), sizes)
        time = np.concatenate([f + np.arange(n) for f, n in zip(first, sizes, strict=True)])
        r, t = (torch.as_tensor(x, device=self.device) for x in (row, time))
        measured = self.head.measure(self.hidden_states(ids)[r, t - 1], ids[r, t], moments)
        columns = (measured.logprob, measured.rank, measured.vocab_mean, measured.vocab_std)
        flat = [c.cpu().numpy() for c in columns if c is not None]
        if not np.isfinite(flat[0]).all():
            raise ModelError(not_finite(self.name, self.dtype))
        ends = np.cumsum(sizes)[:-1]
        return list(zip(*(np.split(c, ends) for c in flat), strict=True))


class Session:
    """Sequences in flight through one model: prompts in, then a token a step.

    `hidden` states go to `model.head`; the session itself never makes logits of a whole batch of
    prompts, only of their last tokens.
    """

    def __init__(self, model: LanguageModel, n_slots: int, capacity: int):
        self._model = model
        self._cache = SlotCache(model.config.num_hidden_layers, n_slots, capacity)
        self._positions = np.zeros(n_slots, dtype=np.int64)

    @torch.inference_mode()
    def prefill(self, slots: Sequence[int], prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Write prompts into slots; the hidden state (m, width) at each prompt's last token."""
        device = self._model.device
        lengths = [len(p) for p in prompts]
        ids = torch.zeros((len(prompts), max(lengths)), dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.tensor(prompt, dtype=torch.long)
        self._cache.at_start(torch.as_tensor(slots, device=device))
        hidden = self._model.hidden_states(ids.to(device), past_key_values=self._cache)
        self._positions[list(slots)] = lengths
        last = torch.tensor(lengths, device=device) - 1
        return hidden[torch.arange(len(prompts), device=device), last]

    @torch.inference_mode()
    def step(self, token_ids: torch.Tensor) -> torch.Tensor:
        """One more token (n_slots,) in every slot; the hidden states (n_slots, width) at it."""
        first, last = int(self._positions.min()), int(self._positions.max())
        positions = torch.as_tensor(self._positions, device=self._model.device)
        self._cache.at(positions, first, last)
        hidden = self._forward(token_ids, positions)
        self._positions += 1
        return hidden

    def make_room(self, length: int) -> int:
        """Room for sequences of that length in every slot; how much there is now."""
        return self._cache.make_room(length)

    @torch.inference_mode()
    def step_at(self, token_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """As `step`, at positions (n_slots,) that the device alone knows: below the room made."""
        self._cache.at(positions, 0, self._cache.room - 1)
        return self._forward(token_ids, positions)

    def record(self, work: Callable[[], None], state: list[torch.Tensor]) -> Callable[[], None]:
        """`work` as something that runs it again; `state` is what it changes besides the cache."""
        return recorded(work, state, self._model.device)

    def _forward(self, token_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        model = self._model
        seen = torch.arange(self._cache.room, device=model.device)[None] <= positions[:, None]
        mask = torch.zeros(seen.shape, dtype=model.dtype, device=model.device)
        mask.masked_fill_(~seen, torch.finfo(model.dtype).min)
        kwargs = {"attention_mask": mask[:, None, None]}  # (slots, 1, 1, room)
        if model._takes_positions:
            kwargs["position_ids"] = positions[:, None]
        return model.hidden_states(token_ids[:, None], past_key_values=self._cache, **kwargs)[:, 0]

    def park(self, slots: Sequence[int]) -> None:
        """Slots with nothing to do: kept at the first position, so that they never overflow."""
        self._positions[list(slots)] = 0

    def keep(self, slots: Sequence[int]) -> None:
        """Drop all slots but these."""
        self._cache.keep(torch.as_tensor(slots, device=self._model.device))
        self._positions = self._positions[list(slots)]


def _unsteppable(name: str, why: str) -> str:
    return (
        f"{name} cannot be sampled: its key-value cache is not of the plain kind ({why}). "
        "Supported are GPT-2, Llama, Qwen, Mistral, Pythia and models built like them."
    )


def _trunk(network):
    """The network without its projection."""
    found = network.get_decoder() if hasattr(network, "get_decoder") else None
    return network.base_model if found is None or found is network else found


# What a config calls the most tokens that a sequence has, or that a layer looks back on. Within
# the shorter of them all is in sight of all, so one plain mask is right for every layer.
_LIMITS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "sliding_window",
    "window_size",
    "attention_chunk_size",
)


def context_of(config) -> int | None:
    """The most tokens that a model of this text config can be fed at once; None without a limit."""
    limits = [getattr(config, name, None) for name in _LIMITS]
    known = [limit for limit in limits if isinstance(limit, int) and limit > 0]
    return min(known) if known else None


def buckets(lengths: np.ndarray, batch_tokens: int) -> list[list[int]]:
    """Indices grouped by length, longest first, so that a batch pads little and fits its budget."""
    batches: list[list[int]] = []
    for i in np.argsort(-lengths, kind="stable").tolist():
        # The first of a batch is its longest, so it sets the padded width.
        if not batches or (len(batches[-1]) + 1) * max(1, lengths[batches[-1][0]]) > batch_tokens:
            batches.append([])
        batches[-1].append(i)
    return batches


def _assemble(texts, pieces, rows, moments) -> TokenStats:
    """Rows of measured tokens to ragged columns; what had nothing before it is NaN, rank -1."""
    offsets = np.concatenate([[0], np.cumsum([len(t) for t in texts])]).astype(np.int64)
    n = int(offsets[-1])
    ids = np.fromiter((i for t in texts for i in t), dtype=np.int32, count=n)
    logprob, rank = np.full(n, np.nan, np.float32), np.full(n, -1, np.int32)
    mean, std = (np.full(n, np.nan, np.float32) for _ in range(2))
    end = 0
    for piece, row in zip(pieces, rows, strict=True):
        end += len(piece.tokens)
        own = slice(end - len(row[0]), end)
        logprob[own], rank[own] = row[0], row[1]
        if moments and len(row) > 2:
            mean[own], std[own] = row[2], row[3]
    extra = {"vocab_mean": mean, "vocab_std": std} if moments else {}
    return TokenStats(offsets=offsets, token_ids=ids, logprob=logprob, rank=rank, **extra)
