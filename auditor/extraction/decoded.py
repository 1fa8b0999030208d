"""Log-probability of given tokens under the decoding in use: temperature, top-k, top-p and kin."""

from __future__ import annotations

import torch

from auditor.config import Decoding
from auditor.generation.decoding import truncate
from auditor.language_models.head import measure
from auditor.language_models.row_loops import top_ids

# Logits that are sorted at once: float32 and their order, so that memory stays flat.
_ELEMENTS = 64 * 50_257


def is_raw(decoding: Decoding) -> bool:
    """Whether a decoding draws from the model's own distribution.

    >>> is_raw(Decoding()), is_raw(Decoding(top_k=40))
    (True, False)
    """
    cuts = (decoding.top_k, decoding.min_p)
    shares = (decoding.top_p, decoding.typical_p)
    return (
        decoding.temperature == 1
        and all(cut is None for cut in cuts)
        and all(share is None or share == 1 for share in shares)
    )


def decoded_logprob(
    logits: torch.Tensor, targets: torch.Tensor, decoding: Decoding
) -> torch.Tensor:
    """Log-probability that `generation.decoding.draw` draws each target, float32 (n,), nats.

    What is kept is decided by the very calls that `draw` makes, so ties at the edge of top-k and
    top-p fall as they do there. Probabilities are those of the kept tokens, renormalised.

    Parameters
    ----------
    logits : tensor (n, vocab), any float dtype
        Raw, at temperature 1.
    targets : int64 tensor (n,)
    decoding : Decoding
        A temperature that changes from token to token and a repetition penalty play no part.

    Returns
    -------
    -inf for a target that is not kept.

    >>> rows = torch.log(torch.tensor([[0.5, 0.3, 0.2]]))
    >>> decoded_logprob(rows, torch.tensor([1]), Decoding(top_k=2)).exp()
    tensor([0.3750])
    """
    step = max(1, _ELEMENTS // logits.shape[1])
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
    heat = torch.full((len(values), 1), decoding.temperature, device=values.device)
    values = truncate(values.float() / heat, decoding)
    exact = values.gather(1, place[:, None])[:, 0]
    logprob = measure(values, place, exact).logprob
    return logprob.masked_fill(~is_among, float("-inf"))
