"""Probes of memorization: canary exposure, greedy extraction, and the loss gap."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from attacks.statistics.exposure import exposure_by_interpolation
from attacks.statistics.extraction import greedy
from auditor.canaries.canaries import Canary, by_prefix
from auditor.canaries.secrets import Encoded, encode_secrets
from auditor.errors import ConfigError, ModelError
from auditor.finetuning.rows import token_ids
from auditor.models.limits import limits_of
from auditor.models.preserve_state import evaluation_mode
from auditor.models.teacher_forcing import (
    Row,
    continuation_logprob,
    from_logits,
    teacher_forced,
)
from auditor.models.tokenizer import Vocabulary

# Not logged: the step, per-canary values, and constants.
_NOT_LOGGED = ("step", "epoch", "exposure", "exposure_most", "repeats")
# Maximum number of logits per batch.
_ELEMENTS = 16 * 1024 * 1024
# Per token: log-probability in nats, and whether it is the most likely token.
_Measured = tuple[NDArray[np.float64], NDArray[np.bool_]]


@dataclass(frozen=True)
class ProbeRow:
    """One measurement; NaN where there was nothing to measure.

    step : int
    epoch : float
    exposure_mean, exposure_max : float, bits, over the inserted canaries
    exposure : tuple of float, bits, one per inserted canary
    exposure_most : float, bits
        Upper bound with n controls: log2(n + 1).
    repeats : tuple of int, how often each of these canaries was inserted
    extraction_rate : float, share of probe texts whose suffix is extracted by greedy decoding
    n_extracted, n_probed : int, texts
    member_nll, heldout_nll : float, mean nats per token over all tokens
    loss_gap : float, nats per token
        heldout_nll - member_nll; higher = more memorized.
    seconds : float, duration of the measurement
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
        """Metrics for a trainer's log, as memorization/NAME, without NaN."""
        kept = {k: v for k, v in asdict(self).items() if k not in _NOT_LOGGED and v == v}
        return {f"memorization/{k}": float(v) for k, v in kept.items()}


class Probe(Protocol):
    """What a training measures at its steps: `MemorizationProbe`, or `TaskProbe` for tasks.

    n_controls : int, controls of the canaries
    max_exposure : float, bits; NaN without canaries
    """

    n_controls: int

    @property
    def max_exposure(self) -> float: ...

    def measure(self, model, step: int, *, epoch: float = float("nan")) -> ProbeRow: ...


class MemorizationProbe:
    """Texts and canaries, tokenized once and measured at any number of training steps.

    Use it with a `Trainer` (through `MemorizationCallback`) or in a custom loop:
    `probe.measure(model, step)` preserves the model's mode, gradients and random state.

    Parameters
    ----------
    tokenizer : the model's tokenizer
    members : texts in the training set
        A text is extracted if greedy decoding from its first `prefix_tokens` reproduces the next
        `suffix_tokens`. Shorter texts count only for the loss.
    heldout : texts outside the training set, for the loss gap
    canaries : inserted canaries, and controls (0 repeats)
        A canary's exposure follows from its rank among the n controls' secrets, all scored after
        the canary's prefix; at most log2(n + 1) bits.
    prefix_tokens, suffix_tokens : int
    max_tokens : int
        Texts are truncated to this many tokens, but at least to prefix and suffix. At equal cost,
        more texts are more informative than longer ones.
    max_controls : int
        Use only this many controls; each is scored after every canary's prefix.
    bos : str, optional
        BOS token used in training, instead of the tokenizer's.

    Raises
    ------
    ConfigError
        If there is nothing to measure, or canaries come without controls.

    Source
    ------
    Exposure: Carlini et al. 2019, "The Secret Sharer", section 4.3. Greedy extraction: Carlini
    et al. 2022, "Quantifying Memorization", definition 3.1.
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
        max_tokens: int = 100,
        max_controls: int = 128,
        bos: str | None = None,
    ):
        if not members and not canaries:
            raise ConfigError("A probe must have members or canaries; got neither. Give some.")
        sizes = prefix_tokens, suffix_tokens, max_tokens, max_controls
        if min(sizes) < 1:
            raise ConfigError(
                "prefix_tokens, suffix_tokens, max_tokens and max_controls must be 1 or more; got "
                f"{', '.join(map(str, sizes))}. Usual are 50, 50, 100 and 128."
            )
        self.canaries = [c for c in canaries if c.repeats]
        controls = [c for c in canaries if not c.repeats][:max_controls]
        if bool(self.canaries) != bool(controls):
            raise ConfigError(
                "Canaries must come with controls that were never inserted; got "
                f"{len(self.canaries)} inserted and {len(controls)} controls. Give both."
            )
        self.n_controls = len(controls)
        vocabulary = Vocabulary(tokenizer, bos)
        self.start = [] if vocabulary.bos_id is None else [vocabulary.bos_id]
        self.prefix_tokens, self.width = prefix_tokens, prefix_tokens + suffix_tokens
        most = max(max_tokens, self.width)
        self._members, self._heldout = (
            [(self.start, ids[:most]) for ids in token_ids(tokenizer, texts)]
            for texts in (members, heldout)
        )
        self._secrets = _secrets(vocabulary, self.canaries, controls)

    @property
    def max_exposure(self) -> float:
        """Upper bound of the exposure in bits, log2(n_controls + 1); NaN without canaries."""
        return float(np.log2(self.n_controls + 1)) if self.canaries else float("nan")

    def check_fits(self, context: int | None) -> None:
        """Raise ModelError if a canary does not fit into this context."""
        lengths = [len(e.prompt) + max(map(len, e.rests)) for _, e in self._secrets]
        longest = max(lengths, default=0)
        if context is not None and longest > context + 1:
            raise ModelError(
                f"A canary's prefix and secret must have at most {context + 1} tokens (the model's "
                f"context plus 1); got {longest}. Shorten the template."
            )

    def measure(self, model, step: int, *, epoch: float = float("nan")) -> ProbeRow:
        """Measure a causal model of transformers, with or without adapters.

        The model's mode, gradients and the random state are preserved.

        Raises
        ------
        ModelError
            If the model returns NaN, or a canary is longer than its context.
        """
        begun = time.perf_counter()
        context = limits_of(model.config.get_text_config(), model).context
        self.check_fits(context)
        members, heldout = (_cut(rows, context) for rows in (self._members, self._heldout))
        with evaluation_mode(model):
            measured = _measure(model, [*members, *heldout], step)
            exposure = self._exposure(model, step)
        seen, unseen = measured[: len(members)], measured[len(members) :]
        extracted = self._extracted(seen)
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

    def _exposure(self, model, step: int) -> NDArray[np.float64]:
        """Exposure of each inserted canary, bits."""
        bits = np.zeros(len(self.canaries))
        for own, encoded in self._secrets:
            total = continuation_logprob(
                _forward(model), encoded.prompt, encoded.rests, **_batching(model)
            )
            _check_numbers(total, step)
            bits[own] = exposure_by_interpolation(total[: len(own)], total[len(own) :])
        return bits

    def _extracted(self, members: list[_Measured]) -> NDArray[np.bool_]:
        """Whether each member's suffix is extracted, for members that are long enough."""
        # Without BOS the first token is not measured.
        begin = self.prefix_tokens - (not self.start)
        end = self.width - (not self.start)
        suffixes = [first[begin:end] for _, first in members if len(first) >= end]
        return greedy(suffixes) if suffixes else np.zeros(0, bool)


def _secrets(
    vocabulary, canaries: list[Canary], controls: list[Canary]
) -> list[tuple[list[int], Encoded]]:
    """For each prefix: indices of its canaries; their secrets, then those of the controls."""
    groups = []
    for prefix, own in by_prefix(canaries).items():
        every = [*(canaries[i] for i in own), *controls]
        if lacking := [c.canary_id for c in every if not c.secret]:
            raise ConfigError(f"Canary {lacking[0]} has no secret. Add one.")
        encoded = encode_secrets(vocabulary, prefix, [c.secret for c in every])
        if not encoded.prompt:
            raise ConfigError(
                f"Canary {canaries[own[0]].canary_id} must have text before its secret, as the "
                "tokenizer has no BOS token; got none. Add words to the template, or name a BOS "
                "token with --bos (bos= of a probe)."
            )
        groups.append((own, encoded))
    return groups


def _mean_nll(rows: list[_Measured]) -> float:
    every = np.concatenate([nats for nats, _ in rows]) if rows else np.zeros(0)
    return float(-every.mean()) if len(every) else float("nan")


def _measure(model, rows: list[Row], step: int) -> list[_Measured]:
    """Measure each row's tokens from float32 logits."""
    forward = _forward(model)
    found = teacher_forced(
        lambda ids: forward(input_ids=ids, use_cache=False).logits,
        rows,
        from_logits,
        **_batching(model),
    )
    out = [(own[0], own[1]) if own else (np.zeros(0), np.zeros(0, bool)) for own in found]
    for nats, _ in out:
        _check_numbers(nats, step)
    return out


def _forward(model):
    # Accelerate wraps forward in mixed precision; measure in the precision of the weights.
    return getattr(model, "_original_forward", model)


def _batching(model) -> dict[str, Any]:
    config = model.config.get_text_config()
    return {
        "batch_tokens": max(1, _ELEMENTS // config.vocab_size),
        "device": next(model.parameters()).device,
        "rope_switch": limits_of(config).rope_switch,
    }


def _check_numbers(logprob: NDArray[np.float64], step: int) -> None:
    if not np.isfinite(logprob).all():
        raise ModelError(
            f"The model's log-probabilities are not numbers at step {step}. Lower the learning "
            "rate, or use an earlier checkpoint."
        )


def _cut(rows: Sequence[Row], context: int | None) -> list[Row]:
    """Truncate rows to context + 1 tokens, as the last token is not an input."""
    if context is None:
        return list(rows)
    return [(prefix, tokens[: context + 1 - len(prefix)]) for prefix, tokens in rows]
