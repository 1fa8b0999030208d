"""Sample from encoder-decoders: what fills the gap in a prompt, or the answer to a prompt.

The prompt decides: if it has a gap (a sentinel, or the mask token of BART), the decoder fills it;
otherwise it answers. With `stop_at_eos` a sample ends where the model closes the gap, by EOS or a
sentinel. Without it these tokens are never drawn, and each sample has `max_new_tokens` tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from auditor.config.audit import Decoding
from auditor.errors import ModelError
from auditor.models.device import retry_with_smaller_batch
from auditor.models.encoder_decoder import EncoderDecoder
from auditor.models.interfaces import Samples
from auditor.models.lm_head import not_finite, unknown_token
from auditor.sampling.decoding import draw, temperatures
from auditor.sampling.random_streams import uniforms

# Answers written together.
_AT_ONCE = {"cpu": 64, "cuda": 512}

# Of one sample: its tokens, their log-probabilities and ranks, and whether the model ended it.
_Answer = tuple[list[int], list[float], list[int], bool]


def write_answers(
    model: EncoderDecoder,
    prompts: Sequence[Sequence[int]],
    ids: Sequence[int],
    *,
    seed: int,
    stream: str,
    decoding: Decoding,
    progress: Callable[[int], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> Samples:
    """One sample for each prompt, determined by seed, stream and the sample's id.

    Parameters and result are those of `DrawsSamples.draw`; `note` is called when memory runs out
    and a batch is halved.

    Raises
    ------
    ModelError
        If a prompt is empty or has unknown tokens, log-probabilities are not finite, or a single
        sample does not fit into memory.
    """
    _check(model, prompts)
    n, steps = len(prompts), decoding.max_new_tokens
    # Openings of one length are decoded together without padding.
    groups: dict[int, list[int]] = {}
    for i, prompt in enumerate(prompts):
        groups.setdefault(len(model.opening(prompt)[1]), []).append(i)
    step = _AT_ONCE.get(model.device.type, 64)
    batches = [own[at : at + step] for own in groups.values() for at in range(0, len(own), step)]
    out = Samples(
        np.zeros((n, steps), np.int32),
        np.zeros((n, steps), np.float32),
        np.zeros((n, steps), np.int32),
        np.zeros(n, np.int32),
        np.zeros(n, bool),
    )

    def work(batch: list[int]) -> list[_Answer]:
        u = uniforms(seed, stream, np.asarray(ids)[batch], np.arange(steps))
        return _write(model, [prompts[i] for i in batch], u, decoding)

    for batch in batches:
        too_large = (
            f"{model.name}: one sequence of {steps} new tokens does not fit into memory. Lower "
            "--max-new-tokens, or use a machine with more memory."
        )
        for i, (tokens, logprob, rank, ended) in zip(
            batch,
            retry_with_smaller_batch(work, batch, too_large=too_large, note=note),
            strict=True,
        ):
            k = len(tokens)
            out.token_ids[i, :k], out.logprob[i, :k], out.rank[i, :k] = tokens, logprob, rank
            out.length[i], out.ended[i] = k, ended
            if progress is not None:
                progress(k)
    return out


@torch.inference_mode()
def _write(
    model: EncoderDecoder, prompts: Sequence[Sequence[int]], u: np.ndarray, decoding: Decoding
) -> list[_Answer]:
    """Write one answer to each prompt; `u` (n, steps) are uniform numbers."""
    session, n = model.answers(prompts), len(prompts)
    warmth = temperatures(decoding, np.arange(decoding.max_new_tokens))
    closing = torch.tensor(model.closing, device=model.device, dtype=torch.long)
    seen = _seen(model, prompts) if decoding.repetition_penalty != 1 else None
    written: list[_Answer] = [([], [], [], False) for _ in range(n)]
    rows = np.arange(n)
    for at in range(decoding.max_new_tokens):
        raw = session.logits
        allowed = raw
        if not decoding.stop_at_eos:
            allowed = raw.index_fill(1, closing, float("-inf"))
        uniform = torch.as_tensor(u[rows, at], device=model.device)
        temperature = torch.full((len(rows),), float(warmth[at]), device=model.device)
        drawn = draw(allowed, uniform, temperature, decoding, seen)
        found = model.head.measure(raw, drawn)
        if not found.logprob.isfinite().all():
            raise ModelError(not_finite(model.name, model.dtype))
        columns = zip(drawn.tolist(), found.logprob.tolist(), found.rank.tolist(), strict=True)
        going = []
        for k, (row, (token, logprob, rank)) in enumerate(zip(rows, columns, strict=True)):
            tokens, nats, ranks, _ = written[row]
            tokens.append(token)
            nats.append(logprob)
            ranks.append(rank)
            if decoding.stop_at_eos and token in model.closing:
                written[row] = tokens, nats, ranks, True
            else:
                going.append(k)
        if not going or at + 1 == decoding.max_new_tokens:
            break
        kept = torch.tensor(going, device=model.device)
        if seen is not None:
            seen = seen.scatter(1, drawn[:, None], True)[kept]
        if len(going) < len(rows):
            session.keep(kept)
            rows = rows[going]
        session.step(drawn[kept])
    return written


def _seen(model: EncoderDecoder, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
    """Which tokens encoder or decoder read at the start, bool (n, vocab)."""
    seen = torch.zeros((len(prompts), model.n_vocab), dtype=torch.bool, device=model.device)
    for row, prompt in zip(seen, prompts, strict=True):
        source, opening = model.opening(prompt)
        row[[*source, *opening]] = True
    return seen


def _check(model: EncoderDecoder, prompts: Sequence[Sequence[int]]) -> None:
    if not all(len(model.vocabulary.without_bos(prompt)) for prompt in prompts):
        raise ModelError(
            f"{model.name}: a prompt must have a gap to fill or text to answer; got an empty "
            "prompt. Use prompts with text, or let the model fill a gap."
        )
    token = max((max(prompt) for prompt in prompts), default=0)
    if token >= model.n_vocab:
        raise ModelError(unknown_token(model.name, token, model.n_vocab))
