"""Masked language models (such as BERT) under audit: pseudo-log-likelihoods of given texts."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attacks.scores.token_stats import TokenStats
from auditor.errors import ModelError
from auditor.models.limits import limits_of
from auditor.models.lm_head import not_finite, unknown_token
from auditor.models.masked_batches import MaskedNetwork, MaskedRow
from auditor.models.tokenizer import Vocabulary

PLLS = ("word-l2r", "original")
# Mireshghallah et al. 2022, section 4: 20 masks, each of 15 % of the tokens.
N_MASKS, MASKED_SHARE = 20, 0.15


@dataclass(frozen=True)
class _Window:
    """A part of text `owner` that fits the context; it scores tokens `first:last` of the text.

    `ids` are its tokens with those around it; token t of the text is at `t - start` in `ids`.
    """

    owner: int
    ids: list[int]
    first: int
    last: int
    start: int


class MaskedLanguageModel:
    """A masked language model with its vocabulary, for scoring and sampling text.

    The log-probability of a token is that of the token when it is masked, given the text on both
    sides. Their sum over a text is its pseudo-log-likelihood, which is not the logarithm of a
    probability: compare it only between masked models. `pll` is the way of masking:

    * word-l2r: the later pieces of the same word are masked as well;
    * original: only the token itself.

    Created by `auditor.load_model`. CLS, which starts every text, has the part of BOS; SEP, which
    ends it, is added here.

    Source
    ------
    Salazar et al. 2020, "Masked Language Model Scoring", section 2 (original); Kauf & Ivanova 2023,
    "A Better Way to Do Masked Language Model Scoring", section 3 (PLL-word-l2r).

    Raises
    ------
    ModelError
        If the tokenizer has no mask or no tokenizer.json, or the context is too short.
    """

    kind = "masked"
    without: Mapping[str, str] = MappingProxyType({})

    def __init__(
        self, network, vocabulary: Vocabulary, *, name: str, fingerprint: str, dtype, pll=PLLS[0]
    ):
        tokenizer = vocabulary.tokenizer
        if tokenizer.mask_token_id is None:
            raise ModelError(
                f"{name}: its tokenizer has no mask token, which a masked model must have. Restore "
                "the tokenizer used in training."
            )
        if not tokenizer.is_fast:
            raise ModelError(
                f"{name} has a slow tokenizer, which does not say where words begin. Use a model "
                "with a tokenizer.json."
            )
        self.vocabulary, self.name, self.fingerprint = vocabulary, name, fingerprint
        self.dtype, self.pll = dtype, pll
        self.mask_id = tokenizer.mask_token_id
        self.end = [] if tokenizer.sep_token_id is None else [tokenizer.sep_token_id]
        pad = tokenizer.pad_token_id
        self.passes = MaskedNetwork(network, mask_id=self.mask_id, pad_id=0 if pad is None else pad)
        self.network, self.device = self.passes.network, self.passes.device
        self.config = network.config
        self.n_vocab = self.passes.n_vocab
        self.n_parameters = sum(p.numel() for p in network.parameters())
        self.notes: list[str] = []
        self.slow_because: dict[str, str] = {}
        limit = limits_of(network.config, network).context
        lengths = [n for n in (limit, tokenizer.model_max_length) if n is not None and n < 10**9]
        # The context of a prompt and its text, with CLS but without SEP.
        self.context = min(lengths) - len(self.end) if lengths else None
        if self.context is not None and self.context < 2:
            raise ModelError(
                f"{name}: the context must be at least 3 tokens; got {min(lengths)}. Use another "
                "model."
            )

    def identity(self) -> dict[str, Any]:
        """Plain data that identifies the model."""
        return {
            "spec": self.name,
            "sha256": self.fingerprint,
            "dtype": str(self.dtype).removeprefix("torch."),
            "bos_id": self.vocabulary.bos_id,
            "pll": self.pll,
        }

    def token_stats(
        self,
        texts: Sequence[Sequence[int]],
        prefixes: Sequence[Sequence[int]] | None = None,
        *,
        moments: bool = False,
        batch_tokens: int = 4096,
        progress=None,
        note=None,
        memo=None,
    ) -> TokenStats:
        """Log-probability and rank of every token when masked; `memo` is not used.

        Parameters and errors as for `LanguageModel.token_stats`; a text takes one pass per token.
        Prefixes are context, and nothing in them is masked. Texts longer than the context are
        scored in overlapping windows, each token in the window where it is closest to the middle.
        """
        windows = self._windows(texts, prefixes)
        words = [self._words(text) for text in texts]
        rows, owners = [], []
        for window in windows:
            word = words[window.owner]
            for t in range(window.first, window.last):
                masked = [t - window.start]
                if self.pll == "word-l2r":
                    until = min(int(word[t]), window.start + len(window.ids) - len(self.end))
                    masked = list(range(t - window.start, until - window.start))
                rows.append(MaskedRow(window.ids, masked, [t - window.start]))
                owners.append(window.owner)
        left = np.bincount(owners, minlength=len(texts)) if rows else np.zeros(len(texts), int)
        if progress is not None and (empty := int((left == 0).sum())):
            progress(empty)

        def done(batch: list[int]) -> None:
            owned = np.bincount([owners[i] for i in batch], minlength=len(texts))
            left[:] = left - owned
            if progress is not None:
                progress(int(((left == 0) & (owned > 0)).sum()))

        found = self._measured(rows, moments, batch_tokens, done, note)
        return _assembled(texts, found, moments)

    def masked_losses(
        self,
        texts: Sequence[Sequence[int]],
        prefixes: Sequence[Sequence[int]] | None = None,
        *,
        batch_tokens: int = 4096,
        note=None,
    ) -> NDArray[np.float64]:
        """Mean cross-entropy of each text over 20 random masks of 15 %: nats per token (n,).

        The masks depend on the text's tokens alone, so two models with the same tokenizer hide the
        same tokens. At least one token is hidden. NaN for a text without tokens.

        Source
        ------
        Mireshghallah et al. 2022, "Quantifying Privacy Risks of Masked Language Models Using
        Membership Inference Attacks", section 3.2. Their code hides int(0.15 n) tokens, which is
        none in a text of less than 7, and draws the masks of the two models apart.
        """
        rows, places = [], []
        hidden = [random_masks(text) for text in texts]  # (masks, n_tokens)
        for window in self._windows(texts, prefixes):
            for n, mask in enumerate(hidden[window.owner]):
                inside = np.flatnonzero(mask[window.first : window.last]) + window.first
                if len(inside):
                    at = (inside - window.start).tolist()
                    rows.append(MaskedRow(window.ids, at, at))
                    places.append((window.owner, n))
        total = np.zeros((len(texts), N_MASKS))
        for (owner, n), own in zip(
            places, self._measured(rows, False, batch_tokens, None, note), strict=True
        ):
            total[owner, n] -= own[0].astype(np.float64).sum()
        counts = np.array([mask.sum(axis=1) for mask in hidden]).reshape(len(texts), N_MASKS)
        # 0 tokens hidden only in a text without tokens.
        return (total / np.where(counts, counts, np.nan)).mean(axis=1)

    def _measured(self, rows, moments, batch_tokens, progress, note):
        found = self.passes.measure(
            rows,
            moments=moments,
            batch_tokens=batch_tokens,
            too_large=lambda n: (
                f"{self.name}: one text of {n} tokens does not fit into memory. Use a machine with "
                "more memory."
            ),
            progress=progress,
            note=note,
        )
        if any(not np.isfinite(own[0]).all() for own in found if own):
            raise ModelError(not_finite(self.name, self.dtype))
        return found

    @cached_property
    def never_drawn(self) -> list[int]:
        """Special tokens, and rows of the weights without a token."""
        tokenizer = self.vocabulary.tokenizer
        named = set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids)
        return [i for i in range(self.n_vocab) if i not in named]

    def framed(self, ids: Sequence[int]) -> list[int]:
        """A text with its start and end tokens, unless it has them."""
        start = self.vocabulary.start
        before = [] if list(ids[: len(start)]) == start else start
        return [*before, *ids, *self.end]

    def _windows(self, texts, prefixes) -> list[_Window]:
        """The windows of all texts, in order; every token is scored in one of them."""
        given = [[]] * len(texts) if prefixes is None else prefixes
        start, out = self.vocabulary.start, []
        for owner, (text, prefix) in enumerate(zip(texts, given, strict=True)):
            whole = [int(i) for i in (*prefix, *text)]
            if max(whole, default=0) >= self.n_vocab:
                raise ModelError(unknown_token(self.name, max(whole), self.n_vocab))
            lead = start if whole[: len(start)] == start else []
            rest = whole[len(lead) :]
            # Places of the text's tokens in `rest`.
            skip = len(prefix) - len(lead)
            room = None if self.context is None else self.context - len(start)
            if room is not None and len(rest) > room and skip > room // 2:
                rest, skip = rest[skip - room // 2 :], room // 2
            for at, until, first, last in windows_of(len(rest), room):
                first, last = max(first, skip), max(last, skip)
                if first < last:
                    ids = [*start, *rest[at:until], *self.end]
                    begin = at - skip - len(start)
                    out.append(_Window(owner, ids, first - skip, last - skip, begin))
        return out

    def _words(self, ids: Sequence[int]) -> NDArray[np.int64]:
        """For each token of a text, the index after the last token of its word: (n_tokens,)."""
        if not len(ids):
            return np.zeros(0, np.int64)
        begins = np.array([not c for c in self._continues(ids)], dtype=bool)
        ends = np.append(np.flatnonzero(begins)[1:], len(ids))
        return np.repeat(ends, np.diff(np.append(np.flatnonzero(begins), len(ids))))

    def _continues(self, ids: Sequence[int]) -> list[bool]:
        """Whether each token continues the word of the token before it; False for the first."""
        backend = self.vocabulary.tokenizer.backend_tokenizer
        if (prefix := self._continuing_prefix) is not None:
            pieces = [self.vocabulary.name_of(int(i)) for i in ids]
            return [n > 0 and piece.startswith(prefix) for n, piece in enumerate(pieces)]
        text, ends = self.vocabulary.decode(ids), self.vocabulary.token_ends(ids)
        cuts = [end for _, (_, end) in backend.pre_tokenizer.pre_tokenize_str(text)]
        # A token belongs to the word of its last character, or of the character that it begins.
        last = np.maximum(np.append(0, ends[:-1]), ends - 1)
        word = np.searchsorted(cuts, last, side="right")
        writes = self.vocabulary.writes(ids)
        same = (word[1:] == word[:-1]) & writes[1:] & writes[:-1]
        return [False, *same.tolist()]

    @cached_property
    def _continuing_prefix(self) -> str | None:
        """The mark of pieces within a word: "##" in WordPiece; None if the text tells."""
        backend = self.vocabulary.tokenizer.backend_tokenizer
        prefix = getattr(backend.model, "continuing_subword_prefix", None)
        return prefix or (None if backend.pre_tokenizer is not None else "##")


def windows_of(n: int, room: int | None) -> list[tuple[int, int, int, int]]:
    """Overlapping windows over n tokens: (start, end, first scored, after the last scored).

    Windows overlap by half; each token is scored where it is farther from the window's edges.

    >>> windows_of(5, None), windows_of(7, 4)
    ([(0, 5, 0, 5)], [(0, 4, 0, 3), (2, 6, 3, 4), (3, 7, 4, 7)])
    """
    if room is None or n <= room:
        return [(0, n, 0, n)]
    starts = [*range(0, n - room, max(1, room // 2)), n - room]
    cuts = [0, *((a + room + b) // 2 for a, b in itertools.pairwise(starts)), n]
    return [(a, a + room, cuts[i], cuts[i + 1]) for i, a in enumerate(starts)]


def random_masks(text: Sequence[int]) -> NDArray[np.bool_]:
    """20 random masks of 15 % of a text, at least one token each: bool (20, n_tokens).

    They depend on the tokens alone.

    >>> random_masks([5, 6, 7]).sum(axis=1).tolist() == [1] * 20
    True
    """
    n = len(text)
    masks = np.zeros((N_MASKS, n), dtype=bool)
    if n:
        raw = np.asarray(text, dtype=np.int64).tobytes()
        digest = hashlib.blake2b(raw, digest_size=16).digest()
        rng = np.random.default_rng(int.from_bytes(digest, "little"))
        n_hidden = max(1, round(MASKED_SHARE * n))
        for mask in masks:
            mask[rng.choice(n, n_hidden, replace=False)] = True
    return masks


def _assembled(texts, found: list[tuple[np.ndarray, ...]], moments: bool) -> TokenStats:
    """TokenStats of rows of one token each, in order."""
    lengths = [len(text) for text in texts]
    n = sum(lengths)
    columns = [np.concatenate(column) for column in zip(*found, strict=True)] if found else []
    if not columns:
        columns = [np.zeros(0, np.float32), np.zeros(0, np.int32), *[np.zeros(0, np.float32)] * 2]
    ids = np.fromiter((i for text in texts for i in text), dtype=np.int32, count=n)
    extra = dict(zip(("vocab_mean", "vocab_std"), columns[2:4], strict=False)) if moments else {}
    offsets = np.append(0, np.cumsum(lengths)).astype(np.int64)
    return TokenStats(offsets, ids, columns[0], columns[1], **extra)
