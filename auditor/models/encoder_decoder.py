"""Encoder-decoders: T5 and its like, which have sentinel tokens, and BART, which has a mask token.

A text alone is scored by infilling: spans of it are hidden, the encoder reads the rest, and the
decoder is scored on the hidden tokens. A text after a prompt is scored in the decoder while the
encoder reads the prompt. If the prompt has a gap (a sentinel, or the mask token), the text fills
it; otherwise the text is the decoder's answer to the prompt.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from transformers.modeling_outputs import BaseModelOutput

from attacks.scores.token_stats import TokenStats, offsets_of
from auditor.errors import ModelError
from auditor.models.context_windows import cut_to_context
from auditor.models.device import retry_with_smaller_batch
from auditor.models.library_calls import failing_with
from auditor.models.limits import limits_of
from auditor.models.lm_head import NetworkHead, not_finite, unknown_token
from auditor.models.sessions import padded
from auditor.models.span_corruption import Span, corrupt, covering_spans, random_of
from auditor.models.teacher_forcing import Memo, buckets
from auditor.models.tokenizer import Vocabulary

# Maximum logits per pass.
_LOGITS_AT_ONCE = 1 << 26
# T5 has relative positions and no limit of its own; it was trained on sequences of this length.
_TRAINED_ON = 512
# Families whose decoder writes out the whole text in which the encoder sees mask tokens.
_WITH_MASK = ("bart", "led", "mvp")
# Config keys of the maximum length that only encoder-decoders have (LED).
_CONTEXT = ("max_encoder_position_embeddings", "max_decoder_position_embeddings")
_WITHOUT = {
    "recall": (
        "a text after a prefix is the decoder's answer to it, which is another task than infilling."
    ),
}

Measure = Callable[[torch.Tensor, torch.Tensor], Sequence[torch.Tensor]]


@dataclass(frozen=True)
class Query:
    """One row of a pass: decoder position `at[i]` predicts `targets[i]`.

    source, decoder : token ids that the encoder and the decoder read
    """

    source: list[int]
    decoder: list[int]
    at: list[int]
    targets: list[int]

    @classmethod
    def of(cls, source: list[int], written: list[int], places: list[int]) -> Query:
        """A query of the tokens at some places of what the decoder writes."""
        last = max(places, default=1)
        targets = [written[i] for i in places]
        return cls(source, written[:last], [i - 1 for i in places], targets)


class EncoderDecoder:
    """An encoder-decoder with its vocabulary, for scoring and sampling text.

    Created by `auditor.load_model`; attributes as in `auditor.models.interfaces.KnownModel`.

    gaps : tuple of int
        The sentinels in order, or the mask token alone.
    closing : tuple of int
        Tokens that end an answer: EOS, and the sentinels.
    head : Head
        Measures logits, which the network computes itself.

    Raises
    ------
    ModelError
        If the tokenizer has neither sentinels nor a mask token that the model was trained to fill,
        config.json has no decoder_start_token_id, or the network cannot be run.
    """

    kind = "encoder-decoder"
    without: Mapping[str, str] = MappingProxyType(_WITHOUT)

    def __init__(
        self, network, vocabulary: Vocabulary, *, name: str, fingerprint: str, dtype: torch.dtype
    ):
        self.network = network.eval()
        self.vocabulary = vocabulary
        self.name, self.fingerprint, self.dtype = name, fingerprint, dtype
        self.device = next(network.parameters()).device
        self.config = network.config
        self.n_parameters = sum(p.numel() for p in network.parameters())
        self.slow_because: dict[str, str] = {}
        self.notes: list[str] = []
        self._start = self._decoder_start()
        self._lead, self._tail = _added_tokens(vocabulary.tokenizer)
        self.context: int | None = self._context()
        self.head = NetworkHead(self._probe())
        self.gaps = self._gaps()
        ends = [vocabulary.eos_id, *_listed(self.config.eos_token_id)]
        sentinels = self.gaps if self.has_sentinels else ()
        self.closing = tuple(sorted({*sentinels, *(i for i in ends if i is not None)}))

    @property
    def n_vocab(self) -> int:
        """Number of logits."""
        return self.head.n_vocab

    @property
    def has_sentinels(self) -> bool:
        """Whether each gap has its own token, and the decoder writes the hidden spans alone."""
        return len(self.gaps) > 1

    @property
    def batch_tokens(self) -> int:
        """Maximum number of tokens per pass; bounds the memory of the logits."""
        return max(1, _LOGITS_AT_ONCE // self.n_vocab)

    def identity(self) -> dict[str, Any]:
        """Plain data that identifies the model."""
        return {
            "spec": self.name,
            "sha256": self.fingerprint,
            "dtype": str(self.dtype).removeprefix("torch."),
            "bos_id": self.vocabulary.bos_id,
        }

    # ------------------------------------------------------------------ what the model reads
    def gap_after(self, prompt: Sequence[int]) -> list[int]:
        """A prompt with a gap at its end."""
        return [*prompt, self.gaps[0]]

    def infill(self, ids: Sequence[int], spans: Sequence[Span]) -> Query:
        """Hide spans of a text: the query of their tokens in order, then of what closes each span.

        A span is closed by the next sentinel or, without sentinels, by the token after it. There
        may be at most one span fewer than sentinels.
        """
        gaps = self.gaps if self.has_sentinels else self.gaps * (len(spans) + 1)
        shown, hidden = corrupt(ids, spans, gaps)
        if self.has_sentinels:
            written = [self._start, *hidden]
            before = np.cumsum([0, *(b - a for a, b in spans)]).tolist()
            firsts = [2 + i + n for i, n in zip(range(len(spans)), before, strict=False)]
        else:
            written = [self._start, *self._lead, *ids, *self._tail]
            firsts = [1 + len(self._lead) + a for a, _ in spans]
        stops = [first + b - a for first, (a, b) in zip(firsts, spans, strict=True)]
        places = [i for a, b in zip(firsts, stops, strict=True) for i in range(a, b)]
        closers = [i for i in stops if i < len(written)]
        return Query.of([*self._lead, *shown, *self._tail], written, [*places, *closers])

    def opening(self, prompt: Sequence[int]) -> tuple[list[int], list[int]]:
        """What encoder and decoder read before the first token after a prompt is written.

        Of a prompt longer than the context, the last tokens are read.
        """
        given = list(self.vocabulary.without_bos(prompt))[-self.room :]
        source = [*self._lead, *given, *self._tail]
        place = next((i for i, token in enumerate(given) if token in self.gaps), None)
        if self.has_sentinels:
            return source, [self._start, *([] if place is None else [given[place]])]
        return source, [self._start, *self._lead, *([] if place is None else given[:place])]

    @property
    def room(self) -> int:
        """Tokens of text that encoder and decoder take beside the added ones."""
        context = self.context or _TRAINED_ON
        return max(1, context - len(self._lead) - len(self._tail) - 1)

    def _queries(self, text: Sequence[int], prefix: Sequence[int]) -> list[tuple[Query, list[int]]]:
        """The queries that score a text, with the places in the text of their targets."""
        out: list[tuple[Query, list[int]]] = []
        if not text:
            return out
        if self.vocabulary.without_bos(prefix):
            source, opening = self.opening(prefix)
            at = 0
            for piece in cut_to_context([text], [opening], self.context):
                written = [*piece.prefix, *piece.tokens]
                places = list(range(len(piece.prefix), len(written)))
                query = Query.of(source, written, places)
                out.append((query, list(range(at, at + len(piece.tokens)))))
                at += len(piece.tokens)
            return out
        most = len(self.gaps) - 1 if self.has_sentinels else len(text)
        for begin, stop in _pieces(len(text), self.room):
            piece_ids = text[begin:stop]
            rng = random_of(piece_ids, 0)
            for spans in covering_spans(stop - begin, rng, most=max(1, most)):
                places = [begin + i for a, b in spans for i in range(a, b)]
                out.append((self.infill(piece_ids, spans), places))
        return out

    # ------------------------------------------------------------------ scoring
    @torch.inference_mode()
    def token_stats(
        self,
        texts: Sequence[Sequence[int]],
        prefixes: Sequence[Sequence[int]] | None = None,
        *,
        moments: bool = False,
        batch_tokens: int = 4096,
        progress: Callable[[int], None] | None = None,
        note: Callable[[str], None] | None = None,
        memo: Memo | None = None,
    ) -> TokenStats:
        """Log-probability and rank of every token of the given texts.

        A text without a prefix is scored by infilling. Each of its tokens is in a span of exactly
        one of several corruptions (`covering_spans`); these depend on the text alone. A text longer
        than the context is cut into pieces first. A text with a prefix is scored in the decoder
        while the encoder reads the prefix; see this module. Sentinels are not scored, unless a text
        has them.

        Parameters
        ----------
        texts : token ids of each text
        prefixes : token ids before each text, or None; a leading BOS is ignored
        moments : bool
            Also the vocabulary's mean and standard deviation of the log-probability.
        batch_tokens : int
            Tokens per padded batch of encoder and decoder together; bounds the memory.
        progress : callable(n_texts_done), or None
        note : callable(sentence), or None
            Called when memory runs out and a batch is halved.
        memo : Memo, or None
            Finished batches of the same call, which are not computed again.

        Raises
        ------
        ModelError
            If the log-probabilities are not finite, or a single text does not fit into memory.

        Source
        ------
        Raffel et al. 2020, section 3.1.4 (span corruption).
        """
        given = [[]] * len(texts) if prefixes is None else prefixes
        largest = max(
            (max([*t, *p], default=0) for t, p in zip(texts, given, strict=True)), default=0
        )
        if largest >= self.n_vocab:
            raise ModelError(unknown_token(self.name, largest, self.n_vocab))
        offsets = offsets_of([len(t) for t in texts])
        queries: list[Query] = []
        places: list[np.ndarray] = []
        owners: list[int] = []
        for i, (text, prefix) in enumerate(zip(texts, given, strict=True)):
            for query, own in self._queries(text, prefix):
                queries.append(query)
                places.append(offsets[i] + np.array(own, np.int64))
                owners.append(i)

        def measured(logits: torch.Tensor, targets: torch.Tensor) -> list[torch.Tensor]:
            found = self.head.measure(logits, targets, moments)
            if not found.logprob.isfinite().all():
                raise ModelError(not_finite(self.name, self.dtype))
            return [column for column in found if column is not None]

        rows = self.measure(
            queries,
            measured,
            batch_tokens=batch_tokens,
            progress=None if progress is None else _texts_done(owners, len(texts), progress),
            note=note,
            memo=memo,
        )
        n = int(offsets[-1])
        ids = np.fromiter((i for t in texts for i in t), dtype=np.int32, count=n)
        rank = np.full(n, -1, np.int32)
        columns = [np.full(n, np.nan, np.float32) for _ in range(3 if moments else 1)]
        for at, row in zip(places, rows, strict=True):
            # After the targets of a span come those that close it.
            rank[at] = row[1][: len(at)]
            for column, values in zip(columns, [row[0], *row[2:]], strict=True):
                column[at] = values[: len(at)]
        return TokenStats(offsets, ids, columns[0], rank, *columns[1:])

    @torch.inference_mode()
    def measure(
        self,
        queries: Sequence[Query],
        measured: Measure,
        *,
        batch_tokens: int = 4096,
        progress: Callable[[list[int]], None] | None = None,
        note: Callable[[str], None] | None = None,
        memo: Memo | None = None,
    ) -> list[tuple[np.ndarray, ...]]:
        """Measure the targets of queries in batches; the columns of each query.

        Parameters
        ----------
        queries : sequence of Query
        measured : callable(logits (m, vocab), targets (m,)) -> columns of m values each
        batch_tokens, note, memo : as in `token_stats`
        progress : callable(indices of the queries just done), or None

        Raises TooLargeError if a single query does not fit into memory.
        """
        lengths = np.array([len(q.source) + len(q.decoder) for q in queries], dtype=int)
        out: list[tuple[np.ndarray, ...]] = [()] * len(queries)

        def work(batch: list[int]) -> list[tuple[np.ndarray, ...]]:
            some = [queries[i] for i in batch]
            logits = self._logits([q.source for q in some], [q.decoder for q in some])
            row = np.repeat(np.arange(len(some)), [len(q.at) for q in some])
            place, target = (
                torch.tensor([i for own in lists for i in own], device=self.device)
                for lists in ([q.at for q in some], [q.targets for q in some])
            )
            own = logits[torch.as_tensor(row, device=self.device), place]
            columns = [c.cpu().numpy() for c in measured(own, target)]
            ends = np.cumsum([len(q.at) for q in some])[:-1]
            return list(zip(*(np.split(c, ends) for c in columns), strict=True))

        for batch in buckets(lengths, min(batch_tokens, self.batch_tokens)):
            found = None if memo is None else memo.get(tuple(batch))
            if found is None:
                too_large = (
                    f"{self.name}: one text of {int(lengths[batch[0]])} tokens does not fit into "
                    "memory. Use --dtype bfloat16, or a machine with more memory."
                )
                found = retry_with_smaller_batch(work, batch, too_large=too_large, note=note)
                if memo is not None:
                    memo[tuple(batch)] = found
            for i, own in zip(batch, found, strict=True):
                out[i] = own
            if progress is not None:
                progress(batch)
        return out

    def _logits(self, sources: list[list[int]], decoders: list[list[int]]) -> torch.Tensor:
        """Logits (n, time, vocab) of a batch; padding on the right changes none that is used."""
        ids, mask = self.padded(sources)
        return self.network(
            input_ids=ids,
            attention_mask=mask,
            decoder_input_ids=padded(decoders).to(self.device),
            use_cache=False,
        ).logits

    def padded(self, sources: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Encoder input and its mask, int64 (n, longest)."""
        lengths = torch.tensor([len(s) for s in sources])
        ids = padded(sources)
        mask = (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()
        return ids.to(self.device), mask.to(self.device)

    def answers(self, prompts: Sequence[Sequence[int]]) -> Answers:
        """A session that writes one answer to each prompt; their openings must be equally long."""
        return Answers(self, [self.opening(prompt) for prompt in prompts])

    # ------------------------------------------------------------------ checks
    def _decoder_start(self) -> int:
        generation = getattr(self.network, "generation_config", None)
        for settings in (self.config, generation):
            found = getattr(settings, "decoder_start_token_id", None)
            if isinstance(found, int):
                return found
        raise ModelError(
            f"{self.name}: config.json must name the token that a decoder starts with "
            "(decoder_start_token_id); got none. Restore the model's original config.json."
        )

    def _context(self) -> int:
        found = limits_of(self.config.get_text_config(), self.network).context
        own = [n for key in _CONTEXT if isinstance(n := getattr(self.config, key, None), int)]
        context = min([*own, found or _TRAINED_ON])
        added = len(self._lead) + len(self._tail) + 1
        if context <= added:
            raise ModelError(
                f"{self.name}: the context in config.json must be more than {added} tokens; got "
                f"{context}. Use another model."
            )
        return context

    @torch.inference_mode()
    def _probe(self) -> int:
        """Run the network on a few tokens; returns the number of logits."""
        n_rows = self.network.get_input_embeddings().weight.shape[0]
        ids = [(n_rows // 2 + i) % n_rows for i in range(3)]
        with failing_with(
            lambda why: (
                f"{self.name} ({self.config.model_type}) cannot run on token ids alone ({why}). "
                "Use a model such as T5 or BART."
            )
        ):
            logits = self._logits([ids], [[self._start, *ids[:1]]])
        if not logits.isfinite().all():
            raise ModelError(not_finite(self.name, self.dtype))
        return logits.shape[-1]

    def _gaps(self) -> tuple[int, ...]:
        known = self.vocabulary.tokenizer.get_vocab()
        sentinels: list[int] = []
        while (token := known.get(f"<extra_id_{len(sentinels)}>", self.n_vocab)) < self.n_vocab:
            sentinels.append(token)
        if len(sentinels) > 1:
            return tuple(sentinels)
        mask = self.vocabulary.tokenizer.mask_token_id
        if self.config.model_type in _WITH_MASK and mask is not None and mask < self.n_vocab:
            return (mask,)
        raise ModelError(
            f"{self.name} ({self.config.model_type}) must have sentinel tokens (<extra_id_0>, "
            "<extra_id_1>, ...), as T5 has, or the mask token of BART; its tokenizer has neither. "
            "Restore its original tokenizer files, or use a model that was trained to fill gaps."
        )


class Answers:
    """Answers to prompts that are written one token per step.

    logits : (n, vocab), of the next token of each answer
    """

    def __init__(self, model: EncoderDecoder, openings: Sequence[tuple[list[int], list[int]]]):
        self._network = model.network
        ids, self._mask = model.padded([source for source, _ in openings])
        encode = self._network.get_encoder()
        self._encoded = encode(input_ids=ids, attention_mask=self._mask).last_hidden_state
        self._cache: Any = None
        written = torch.tensor([opening for _, opening in openings], device=model.device)
        self.logits = self._decode(written)

    def step(self, ids: torch.Tensor) -> None:
        """Append a token (n,) to each answer."""
        self.logits = self._decode(ids[:, None])

    def keep(self, rows: torch.Tensor) -> None:
        """Drop all answers but those of some rows."""
        self._mask, self._encoded = self._mask[rows], self._encoded[rows]
        self.logits = self.logits[rows]
        self._cache.batch_select_indices(rows)

    def _decode(self, written: torch.Tensor) -> torch.Tensor:
        made = self._network(
            encoder_outputs=BaseModelOutput(last_hidden_state=self._encoded),
            attention_mask=self._mask,
            decoder_input_ids=written,
            past_key_values=self._cache,
            use_cache=True,
        )
        self._cache = made.past_key_values
        return made.logits[:, -1]


def _added_tokens(tokenizer) -> tuple[list[int], list[int]]:
    """Tokens that the tokenizer adds before and after a text."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    for at in range(len(whole) - len(bare) + 1):
        if whole[at : at + len(bare)] == bare:
            return whole[:at], whole[at + len(bare) :]
    return [], []


def _listed(given: int | list[int] | None) -> list[int]:
    """The ids in a config entry that may be one id, several or none."""
    return [given] if isinstance(given, int) else list(given or [])


def _pieces(n_tokens: int, most: int) -> list[tuple[int, int]]:
    """Consecutive pieces of at most `most` tokens, as equal as possible.

    >>> _pieces(10, 4), _pieces(0, 4)
    ([(0, 3), (3, 6), (6, 10)], [])
    """
    n = -(-n_tokens // most)
    ends = [n_tokens * i // n for i in range(n + 1)] if n else []
    return list(itertools.pairwise(ends))


def _texts_done(
    owners: Sequence[int], n_texts: int, progress: Callable[[int], None]
) -> Callable[[list[int]], None]:
    """A callable(indices of queries just done) that calls progress(number of texts finished)."""
    left = np.bincount(np.asarray(owners, np.int64), minlength=n_texts)
    if empty := int((left == 0).sum()):
        progress(empty)

    def done(batch: list[int]) -> None:
        touched = {owners[i] for i in batch}
        np.subtract.at(left, [owners[i] for i in batch], 1)
        if finished := sum(left[i] == 0 for i in touched):
            progress(int(finished))

    return done
