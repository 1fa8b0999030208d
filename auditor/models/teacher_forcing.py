"""Teacher forcing: one forward pass over known tokens, batched by length."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import log_softmax
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from auditor.models.device import out_of_memory, retry_with_smaller_batch
from auditor.models.sessions import padded

Row = tuple[Sequence[int], Sequence[int]]


class Memo(dict[tuple[int, ...], list[tuple[np.ndarray, ...]]]):
    """Results of finished batches, by the indices of their rows; see `teacher_forced`."""


def teacher_forced(
    forward: Callable[[torch.Tensor], torch.Tensor],
    rows: Sequence[Row],
    measure: Callable[[torch.Tensor, torch.Tensor], Sequence[torch.Tensor]],
    *,
    batch_tokens: int,
    device: torch.device,
    rope_switch: int | None = None,
    feeds_last: bool = False,
    too_large: Callable[[int], str] = "One text of {} tokens does not fit into memory.".format,
    progress: Callable[[list[int]], None] | None = None,
    note: Callable[[str], None] | None = None,
    memo: Memo | None = None,
) -> list[tuple[np.ndarray, ...]]:
    """Measure each token of each row, given the row's prefix and the preceding tokens.

    Returns the columns of each row, one value per measured token; () if there is none.

    Parameters
    ----------
    forward : callable(ids (n, time)) -> hidden states or logits (n, time, width)
        Without gradients. Batches are padded on the right, which a causal model ignores.
    rows : (prefix, tokens) of each row, token ids
        With an empty prefix, the first token has no context and is not measured.
    measure : callable(hidden (m, width), targets (m,)) -> columns of m values each
    rope_switch : length beyond which the model uses other rotary factors (`limits_of`)
    feeds_last : also feed a row's last token, although nothing is conditioned on it
    too_large : callable(n_tokens) -> message of the TooLargeError for a row that does not fit
    progress : callable(indices of the rows just done)
    note : callable(sentence), called when memory runs out and a batch is halved
    memo : Memo, optional
        Batches in it are not computed again; those computed are added.
    """
    lengths = np.array([len(prefix) + len(tokens) for prefix, tokens in rows], dtype=int)
    out: list[tuple[np.ndarray, ...]] = [()] * len(rows)

    def work(batch: list[int]) -> list[tuple[np.ndarray, ...]]:
        first = [max(1, len(rows[i][0])) for i in batch]
        sizes = [max(0, lengths[i] - f) for i, f in zip(batch, first, strict=True)]
        if not sum(sizes):
            return [()] * len(batch)
        ids = padded([[*rows[i][0], *rows[i][1]] for i in batch]).to(device)
        # Rotary factors depend on the fed length, which must stay beyond the switch.
        all_fed = feeds_last or ids.shape[1] - 1 == rope_switch
        hidden = forward(ids if all_fed else ids[:, :-1])
        row = np.repeat(np.arange(len(batch)), sizes)
        time = np.concatenate([f + np.arange(n) for f, n in zip(first, sizes, strict=True)])
        r, t = (torch.as_tensor(x, device=device) for x in (row, time))
        # Token t is predicted by the hidden state at t - 1.
        columns = [c.cpu().numpy() for c in measure(hidden[r, t - 1], ids[r, t])]
        ends = np.cumsum(sizes)[:-1]
        split = zip(*(np.split(c, ends) for c in columns), strict=True)
        return [own if n else () for own, n in zip(split, sizes, strict=True)]

    for batch in buckets(lengths, batch_tokens, rope_switch):
        found = None if memo is None else memo.get(tuple(batch))
        if found is None:
            longest = int(lengths[batch[0]])
            found = retry_with_smaller_batch(work, batch, too_large=too_large(longest), note=note)
            if memo is not None:
                memo[tuple(batch)] = found
        for i, own in zip(batch, found, strict=True):
            out[i] = own
        if progress is not None:
            progress(batch)
    return out


def buckets(
    lengths: np.ndarray, batch_tokens: int, rope_switch: int | None = None
) -> list[list[int]]:
    """Indices grouped by length, longest first, into batches of at most `batch_tokens` (padded).

    Texts on the two sides of `rope_switch` are never batched together, because a model's rotary
    factors depend on the padded length.

    >>> buckets(np.array([3, 9, 2]), 100), buckets(np.array([3, 9, 2]), 100, rope_switch=4)
    ([[1, 0, 2]], [[1], [0, 2]])
    """
    batches: list[list[int]] = []
    for i in np.argsort(-lengths, kind="stable").tolist():
        # The first item of a batch is the longest and sets the padded width.
        longest = max(1, lengths[batches[-1][0]]) if batches else 0
        crosses = rope_switch is not None and longest > rope_switch >= lengths[i]
        if not batches or crosses or (len(batches[-1]) + 1) * longest > batch_tokens:
            batches.append([])
        batches[-1].append(i)
    return batches


def from_logits(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each target (n,) under logits (n, vocab), and whether it is the argmax.

    float64, nats, computed in float32.
    """
    logits = logits.float()
    nats = log_softmax(logits, dim=-1).gather(1, targets[:, None])[:, 0]
    return nats.double(), logits.argmax(dim=-1) == targets


def continuation_logprob(
    forward: Callable,
    prompt: Sequence[int],
    rests: Sequence[Sequence[int]],
    *,
    batch_tokens: int,
    device: torch.device,
    rope_switch: int | None = None,
) -> NDArray[np.float64]:
    """Total log-probability of each continuation of one prompt, nats (n_rests,).

    The prompt is computed once if the model has a plain key-value cache. `forward` is a causal
    transformers model in evaluation mode, without gradients; prompt and continuations have 1 token
    or more; the options are those of `teacher_forced`.
    """
    longest = len(prompt) + max(map(len, rests), default=0)
    crosses = rope_switch is not None and longest > rope_switch
    kept = _fed(forward, prompt[:-1], device) if len(prompt) > 1 and not crosses else None

    def logits(ids: torch.Tensor) -> torch.Tensor:
        if kept is None:
            return forward(input_ids=ids, use_cache=False).logits
        cache = copy.deepcopy(kept)
        cache.batch_repeat_interleave(len(ids))
        return forward(input_ids=ids, use_cache=True, past_key_values=cache).logits

    lead = prompt if kept is None else prompt[-1:]
    found = teacher_forced(
        logits,
        [(lead, rest) for rest in rests],
        from_logits,
        batch_tokens=batch_tokens,
        device=device,
        rope_switch=None if kept is not None else rope_switch,
    )
    return np.array([own[0].sum() for own in found])


def _fed(forward: Callable, prompt: Sequence[int], device: torch.device):
    """Cached keys and values of a prompt; None for models with other state (recurrent layers)."""
    ids = torch.tensor([list(prompt)], device=device)
    try:
        kept = getattr(forward(input_ids=ids, use_cache=True), "past_key_values", None)
    except Exception as error:
        if out_of_memory(error):
            raise
        return None
    is_plain = type(kept) is DynamicCache and all(
        type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in kept.layers
    )
    return kept if is_plain else None
