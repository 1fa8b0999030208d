"""What a network has memorized so far: canaries' exposure, greedy extraction, the loss gap."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import log_softmax

from attacks.exposure import exposure_by_interpolation
from attacks.extraction import greedy
from auditor.errors import ConfigError, ModelError
from auditor.finetuning.canaries import Canary
from auditor.finetuning.leaving import left_as_found
from auditor.language_models.causal import buckets, context_of

# No figures of a step: which step it is, one value a canary, and what does not change.
_NOT_LOGGED = ("step", "epoch", "exposure", "exposure_most", "repeats")
# Elements of logits made at once.
_ELEMENTS = 16 * 1024 * 1024


@dataclass(frozen=True)
class ProbeRow:
    """What one measurement found; NaN where there was nothing to measure.

    step : int
    epoch : float
    exposure_mean, exposure_max : float, bits, over the inserted canaries
    exposure : tuple of float, bits, one an inserted canary
    exposure_most : float, bits
        What so many controls can show: log2(n + 1).
    repeats : tuple of int, how often each of these canaries was inserted
    extraction_rate : float, share of probe texts whose whole suffix greedy decoding gives
    n_extracted, n_probed : int, texts
    member_nll, heldout_nll : float, mean nats per token over all tokens
    loss_gap : float, nats per token
        heldout_nll - member_nll: higher, the more of the members is memorized.
    seconds : float, what the measurement took
    """

    step: int
    epoch: float
    exposure_mean: float
    exposure_max: float
    exposure: tuple[float, ...]
    exposure_most: float
    repeats: tuple[int, ...]
    extraction_rate: float
    n_extracted: int
    n_probed: int
    member_nll: float
    heldout_nll: float
    loss_gap: float
    seconds: float

    def logged(self) -> dict[str, float]:
        """What goes into a trainer's log: the figures that are numbers, as memorization/NAME."""
        named = asdict(self)
        kept = [f.name for f in fields(self) if f.name not in _NOT_LOGGED]
        return {f"memorization/{k}": float(named[k]) for k in kept if named[k] == named[k]}


class MemorizationProbe:
    """Texts and canaries made ready once, to be measured as often as one likes.

    Works for a `Trainer` (through `MemorizationCallback`) and for a hand-written loop:
    `probe.measure(model, step)` leaves the model's mode, gradients and all randomness as they were.

    Parameters
    ----------
    tokenizer : the model's own
    members : texts that are trained on
        The first `prefix_tokens` of each are shown, and the next `suffix_tokens` must all be first
        choices to count as extracted; texts shorter than both are not probed for that.
    heldout : texts that are not, for the loss gap
    canaries : inserted ones, and as controls those with 0 repeats
        A canary's exposure is by its rank among the n controls and itself: log2(n + 1) bits at
        the most.
    prefix_tokens, suffix_tokens : int
    max_tokens : int
        Tokens of one text that count for the loss gap: its beginning, at least prefix and suffix.
        More texts say more than longer ones, at the same cost.

    Raises
    ------
    ConfigError
        If there is nothing to measure, or canaries come without controls.

    Source
    ------
    Exposure: Carlini et al. 2019, "The Secret Sharer", section 4.3. Greedy
    extraction: Carlini et al. 2022, "Quantifying Memorization", definition 3.1.
    """

    def __init__(
        self,
        tokenizer,
        *,
        members: Sequence[str] = (),
        heldout: Sequence[str] = (),
        canaries: Sequence[Canary] = (),
        prefix_tokens: int = 50,
        suffix_tokens: int = 50,
        max_tokens: int = 128,
    ):
        if not members and not canaries:
            raise ConfigError("A probe must have members or canaries; got neither. Give some.")
        if min(prefix_tokens, suffix_tokens, max_tokens) < 1:
            raise ConfigError(
                "prefix_tokens, suffix_tokens and max_tokens must be 1 or more; got "
                f"{prefix_tokens}, {suffix_tokens} and {max_tokens}. Usual are 50, 50 and 128."
            )
        self.canaries = [c for c in canaries if c.repeats]
        controls = [c for c in canaries if not c.repeats]
        if bool(self.canaries) != bool(controls):
            raise ConfigError(
                "Canaries must come with controls that were never inserted; got "
                f"{len(self.canaries)} inserted and {len(controls)} controls. Give both."
            )
        self.n_controls = len(controls)
        self.start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        member_ids, heldout_ids = _encode(tokenizer, members), _encode(tokenizer, heldout)
        self.prefix_tokens, self.width = prefix_tokens, prefix_tokens + suffix_tokens
        most = max(max_tokens, self.width)
        self._members = [_loss_row(self.start, t[:most]) for t in member_ids]
        self._heldout = [_loss_row(self.start, t[:most]) for t in heldout_ids]
        self._secrets = [self._secret(tokenizer, c) for c in (*self.canaries, *controls)]

    @property
    def max_exposure(self) -> float:
        """The most bits that so many controls can show; NaN without canaries."""
        return float(np.log2(self.n_controls + 1)) if self.canaries else float("nan")

    def check_fits(self, context: int | None) -> None:
        """Raises ModelError if a canary is longer than a model of this context can be fed."""
        _check_lengths(self._secrets, context)

    def _secret(self, tokenizer, canary: Canary) -> _Row:
        whole, before = _encode(tokenizer, [canary.prefix + canary.secret, canary.prefix])
        # Where the two meet, tokens may have merged: what both begin with is the prefix.
        same = 0
        while same < min(len(whole), len(before)) and whole[same] == before[same]:
            same += 1
        if not whole[same:]:
            raise ConfigError(f"Canary {canary.canary_id} has no secret. Give it one.")
        return _loss_row(self.start + whole[:same], whole[same:])

    def measure(self, model, step: int, *, epoch: float = float("nan")) -> ProbeRow:
        """Measure a causal model of transformers, with adapters or without, and leave it as it was.

        Parameters
        ----------
        model : module whose call gives logits; in whatever mode it is
        step : int
        epoch : float

        Returns
        -------
        ProbeRow

        Raises
        ------
        ModelError
            If the model gives NaN, or a canary is longer than its context.
        """
        begun = time.perf_counter()
        context = context_of(model.config.get_text_config())
        self.check_fits(context)
        members, heldout = (_cut(rows, context) for rows in (self._members, self._heldout))
        rows = [*members, *heldout, *self._secrets]
        with left_as_found(model):
            judged = _judge(model, rows, step)
        n, m = len(members), len(members) + len(heldout)
        seen, unseen, secrets = judged[:n], judged[n:m], judged[m:]
        extracted = self._extracted(seen)
        exposure = np.zeros(0)
        if secrets:
            total = np.array([j.logprob.sum() for j in secrets])
            n_own = len(self.canaries)
            exposure = exposure_by_interpolation(total[:n_own], total[n_own:])
        nll, other = _mean_nll(seen), _mean_nll(unseen)
        return ProbeRow(
            step=step,
            epoch=epoch,
            exposure_mean=float(exposure.mean()) if len(exposure) else float("nan"),
            exposure_max=float(exposure.max()) if len(exposure) else float("nan"),
            exposure=tuple(exposure.tolist()),
            exposure_most=self.max_exposure,
            repeats=tuple(c.repeats for c in self.canaries),
            extraction_rate=float(extracted.mean()) if len(extracted) else float("nan"),
            n_extracted=int(extracted.sum()),
            n_probed=len(extracted),
            member_nll=nll,
            heldout_nll=other,
            loss_gap=other - nll,
            seconds=time.perf_counter() - begun,
        )

    def _extracted(self, members: list[_Judged]) -> NDArray[np.bool_]:
        """Of each member that is long enough, whether greedy decoding gives its suffix."""
        # With no BOS the first token is shown, not judged.
        begin = self.prefix_tokens - (not self.start)
        end = self.width - (not self.start)
        suffixes = [j.first[begin:end] for j in members if len(j.first) >= end]
        return greedy(suffixes) if suffixes else np.zeros(0, bool)


@dataclass(frozen=True)
class _Row:
    """Tokens shown and tokens judged."""

    prefix: list[int]
    judged: list[int]

    @property
    def length(self) -> int:
        return len(self.prefix) + len(self.judged)


@dataclass(frozen=True, eq=False)
class _Judged:
    first: NDArray[np.bool_]
    logprob: NDArray[np.float64]


def _encode(tokenizer, texts: Sequence[str]) -> list[list[int]]:
    clean = [t.encode("utf-8", "replace").decode("utf-8") for t in texts]
    return tokenizer(clean, add_special_tokens=False)["input_ids"] if clean else []


def _loss_row(start: list[int], tokens: list[int]) -> _Row:
    """All tokens judged; where nothing comes before the first, that one is shown instead."""
    return _Row(start, tokens) if start else _Row(tokens[:1], tokens[1:])


def _mean_nll(rows: list[_Judged]) -> float:
    every = np.concatenate([r.logprob for r in rows]) if rows else np.zeros(0)
    return float(-every.mean()) if len(every) else float("nan")


def _judge(model, rows: list[_Row], step: int) -> list[_Judged]:
    """First choices and log-probabilities of each row's judged tokens, from float32 logits."""
    # Accelerate wraps a model's forward in its mixed precision; figures are in the weights' own.
    forward = getattr(model, "_original_forward", model)
    device = next(model.parameters()).device
    n_vocab = model.config.get_text_config().vocab_size
    out = [_Judged(np.zeros(0, bool), np.zeros(0))] * len(rows)
    asked = [i for i, row in enumerate(rows) if row.judged]
    lengths = np.array([rows[i].length for i in asked], dtype=int)
    for batch in buckets(lengths, max(1, _ELEMENTS // n_vocab)):
        chosen = [asked[i] for i in batch]
        for i, judged in zip(
            chosen, _pass(forward, [rows[i] for i in chosen], device), strict=True
        ):
            if not np.isfinite(judged.logprob).all():
                raise ModelError(
                    f"The model's log-probabilities are not numbers at step {step}. Lower the "
                    "learning rate, or go back to an earlier checkpoint."
                )
            out[i] = judged
    return out


def _pass(forward, rows: list[_Row], device) -> list[_Judged]:
    whole = [r.prefix + r.judged for r in rows]
    # Padded on the right: under a causal mask no token sees what comes after it.
    ids = torch.zeros((len(whole), max(map(len, whole))), dtype=torch.long)
    for i, tokens in enumerate(whole):
        ids[i, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
    ids = ids.to(device)
    logits = forward(input_ids=ids[:, :-1], use_cache=False).logits  # (rows, time - 1, vocab)
    out = []
    for i, row in enumerate(rows):
        begin = len(row.prefix)
        target = ids[i, begin : begin + len(row.judged)]
        own = logits[i, begin - 1 : begin - 1 + len(row.judged)].float()
        nats = log_softmax(own, dim=-1).gather(1, target[:, None])[:, 0]
        first = own.argmax(dim=-1) == target
        out.append(_Judged(first.cpu().numpy(), nats.double().cpu().numpy()))
    return out


def _cut(rows: list[_Row], context: int | None) -> list[_Row]:
    """Rows of which the beginning will do, cut to what the model can be fed."""
    if context is None:
        return rows
    return [_Row(r.prefix, r.judged[: context + 1 - len(r.prefix)]) for r in rows]


def _check_lengths(rows: list[_Row], context: int | None) -> None:
    longest = max((r.length for r in rows), default=0)
    if context is not None and longest > context + 1:
        raise ModelError(
            f"A canary's prefix and secret must have at most {context + 1} tokens (the model's "
            f"context, and the last, which is not fed); got {longest}. Shorten their template."
        )
