"""Log-probabilities of the true suffix of each prefix, in one teacher-forced pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from auditor.config.audit import Decoding
from auditor.errors import ModelError
from auditor.models.encoder_decoder import EncoderDecoder
from auditor.models.interfaces import WhiteBox
from auditor.models.kernels.logit_rows import top_ids
from auditor.models.lm_head import measure, not_finite
from auditor.models.teacher_forcing import teacher_forced
from auditor.models.tokenizer import check_rows
from auditor.sampling.decoding import truncate

# Float32 logits per chunk.
_ELEMENTS = 6 * 1024 * 1024


@dataclass(frozen=True, eq=False)
class Measured:
    """n suffixes of m tokens under one model and decoding.

    first : bool array (n, m)
        Whether each token is the model's first choice; ties as in decoding with top_k = 1.
    logprob : float32 array (n, m), nats
        Under the decoding, renormalised; -inf if it never draws the token.
    """

    first: NDArray[np.bool_]
    logprob: NDArray[np.float32]


@torch.inference_mode()
def measure_suffixes(
    model: WhiteBox,
    prefixes: NDArray[np.integer],
    suffixes: NDArray[np.integer],
    *,
    decoding: Decoding,
    batch_tokens: int = 4096,
    progress: Callable[[int], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> Measured:
    """First choices and log-probabilities of true suffixes, without generation.

    Only suffix tokens are projected to the vocabulary, and the last token is not fed. `prefixes`
    (n, p) with p of 1 or more, `suffixes` (n, m); reported numbers need a model in float32.

    Raises ModelError if log-probabilities are not finite, a token has no row in the weights, or a
    single window does not fit into memory.
    """
    n, m = suffixes.shape
    n_prefix = prefixes.shape[1]
    rows = np.concatenate([prefixes, suffixes], axis=1).astype(np.int64)
    check_rows(model.name, model.vocabulary, model.n_vocab, rows.ravel().tolist(), "a window")
    found = teacher_forced(
        model.hidden_states,
        [(row[:n_prefix], row[n_prefix:]) for row in rows.tolist()],
        first_choices(model, decoding),
        batch_tokens=min(batch_tokens, model.batch_tokens),
        device=model.device,
        rope_switch=model.limits.rope_switch,
        too_large=lambda width: (
            f"{model.name}: one window of {width} tokens does not fit into "
            "memory. Lower --prefix-tokens or --suffix-tokens, or use a machine with more memory."
        ),
        progress=None if progress is None else lambda batch: progress(len(batch)),
        note=note,
    )
    first, logprob = np.zeros((n, m), bool), np.zeros((n, m), np.float32)
    for i, (is_first, nats) in enumerate(found):
        first[i], logprob[i] = is_first, nats
    return Measured(first, logprob)


def first_choices(
    model: WhiteBox | EncoderDecoder, decoding: Decoding
) -> Callable[[torch.Tensor, torch.Tensor], list[torch.Tensor]]:
    """A function that measures target tokens as `Measured` does: bool (n,), float32 (n,) nats.

    It takes inputs of the model's head (n, width) and targets (n,).
    """
    step = max(1, _ELEMENTS // model.n_vocab)

    def measured(hidden: torch.Tensor, targets: torch.Tensor) -> list[torch.Tensor]:
        chunks = zip(hidden.split(step), targets.split(step), strict=True)
        parts = [_chunk(model, h, t, decoding) for h, t in chunks]
        return [torch.cat(column) for column in zip(*parts, strict=True)]

    return measured


def _chunk(
    model: WhiteBox | EncoderDecoder, hidden, targets, decoding: Decoding
) -> tuple[torch.Tensor, torch.Tensor]:
    logits = model.head.logits(hidden)
    raw = measure(logits, targets, model.head.exact(hidden, logits, targets[:, None])[:, 0])
    if not raw.logprob.isfinite().all():
        raise ModelError(not_finite(model.name, model.dtype))
    # Break ties as greedy decoding does; only rows of rank 0 need it.
    first = raw.rank == 0
    at = first.nonzero()[:, 0]
    first[at] = top_ids(logits[at], 1)[:, 0] == targets[at]
    if is_raw(decoding):
        return first, raw.logprob
    return first, decoded_logprob(logits, targets, decoding)


# Logits sorted at once; bounds the memory.
_LOGITS_AT_ONCE = 64 * 50_257


def is_raw(decoding: Decoding) -> bool:
    """Whether a decoding samples from the unmodified distribution.

    >>> is_raw(Decoding()), is_raw(Decoding(top_k=40))
    (True, False)
    """
    return (
        decoding.temperature == 1
        and decoding.top_k is None
        and decoding.min_p is None
        and decoding.top_p in (None, 1)
        and decoding.typical_p in (None, 1)
    )


def decoded_logprob(
    logits: torch.Tensor, targets: torch.Tensor, decoding: Decoding
) -> torch.Tensor:
    """Log-probability that `sampling.decoding.draw` draws each target, float32 (n,), nats.

    It truncates with the same functions as `draw`, so ties at the edge of top-k and top-p agree.
    Probabilities are renormalised over the kept tokens; a truncated target has -inf. `logits`
    (n, vocab) are raw. A temperature schedule and a repetition penalty are ignored.

    >>> rows = torch.log(torch.tensor([[0.5, 0.3, 0.2]]))
    >>> decoded_logprob(rows, torch.tensor([1]), Decoding(top_k=2)).exp()
    tensor([0.3750])
    """
    step = max(1, _LOGITS_AT_ONCE // logits.shape[1])
    parts = [
        _logprob(logits[at : at + step], targets[at : at + step], decoding)
        for at in range(0, len(logits), step)
    ]
    return torch.cat(parts) if parts else torch.empty(0)


def _logprob(logits: torch.Tensor, targets: torch.Tensor, decoding: Decoding) -> torch.Tensor:
    place, is_among = targets, torch.ones_like(targets, dtype=torch.bool)
    values = logits
    if decoding.top_k is not None and decoding.top_k < logits.shape[1]:
        ids = top_ids(logits, decoding.top_k)
        values = logits.gather(1, ids)
        found = ids == targets[:, None]
        is_among, place = found.any(dim=1), found.int().argmax(dim=1)
    temperature = torch.full((len(values), 1), decoding.temperature, device=values.device)
    values = truncate(values.float() / temperature, decoding)
    exact = values.gather(1, place[:, None])[:, 0]
    logprob = measure(values, place, exact).logprob
    return logprob.masked_fill(~is_among, float("-inf"))
