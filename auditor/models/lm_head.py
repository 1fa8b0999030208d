"""The vocabulary projection: hidden states to log-probabilities, in chunks that fit the cache.

bfloat16 has an 8-bit mantissa, so a logit of 30 is rounded to a multiple of 0.125. Two measures
limit the error. The projection's rows are centred in float32 before rounding, which changes no
probability and removes the large common offset of models such as GPT-2. The logit of every reported
token is recomputed with float32 accumulation, also in the normaliser.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from auditor.models.kernels.logit_rows import row_sums
from auditor.models.kernels.packed_linear import PackedLinear, can_pack

# Logits normalised at once on a CPU: 8 rows of 50,257 in float32 fit the L2 cache.
_ELEMENTS_ON_CPU = 8 * 50_257
# Smallest relative weight to divide by: float32 ends at 1e-38.
_FAR = 1e-30
# Clamp of logit - top in nats: the weight is 0, and a logit of minus infinity stays finite.
_LEAST = -1e4
# Rows of a 16-bit projection that are widened to float32 at once.
_WIDENED_ROWS = 16_384
# Maximum float32 logits of a chunk of teacher-forced tokens.
_CHUNK_ELEMENTS = 12 * 1024 * 1024


class Measured(NamedTuple):
    """Statistics of one target token per row; float32 nats, int32 ranks, shapes (n,)."""

    logprob: torch.Tensor
    rank: torch.Tensor
    vocab_mean: torch.Tensor | None = None
    vocab_std: torch.Tensor | None = None


class Head:
    """A projection from hidden states (n, width) to the vocabulary.

    `weight` (vocab, width), `bias` (vocab,) or None. `dtype` is that of the matrix product; float32
    leaves the weights unchanged.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype):
        self.bias = None if bias is None else bias.detach()
        # 16-bit weights are widened some rows at a time for float32 products.
        self._is_widened = dtype == torch.float32 != weight.dtype
        self._mean: torch.Tensor | None = None  # (width,) subtracted from every row
        if dtype != torch.float32:
            wide = weight.detach().float()
            self._mean = wide.mean(dim=0)
            weight = (wide - self._mean).to(dtype)
        self.weight = weight.detach()
        self._packed: PackedLinear | None = None

    def pack(self) -> None:
        """Also keep a packed copy of the weights, where supported."""
        if can_pack(self.weight) and not self._is_widened:
            self._packed = PackedLinear(self.weight, self.bias)

    @property
    def n_vocab(self) -> int:
        return self.weight.shape[0]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(n, width) -> (n, vocab), in the head's dtype."""
        if self._packed is not None:
            return self._packed(hidden)
        if self._is_widened:
            wide = hidden.float()
            parts = [wide @ rows.float().t() for rows in self.weight.split(_WIDENED_ROWS)]
            logits = torch.cat(parts, dim=1)
            return logits if self.bias is None else logits + self.bias.float()
        return torch.nn.functional.linear(hidden.to(self.weight.dtype), self.weight, self.bias)

    def uncentred(self, hidden: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """The logits without centring, (n, vocab).

        Centring shifts each row by a constant: no probability changes, but a repetition penalty
        depends on the sign of a logit.
        """
        if self._mean is None:
            return logits
        return logits.float() + (hidden.float() @ self._mean)[:, None]

    def exact(self, hidden: torch.Tensor, logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Logits of `ids` (n, m) with float32 accumulation: (n, m) float32."""
        if logits.dtype == torch.float32:
            return logits.gather(1, ids)
        rows = self.weight[ids]  # (n, m, width)
        found = torch.einsum("nw,nmw->nm", hidden.float(), rows.float())
        return found if self.bias is None else found + self.bias.float()[ids]

    def measure(self, hidden: torch.Tensor, targets: torch.Tensor, moments=False) -> Measured:
        """Log-probability and rank of `targets` (n,) given `hidden` (n, width), chunk by chunk."""
        step = max(1, _CHUNK_ELEMENTS // self.n_vocab)
        parts = []
        for at in range(0, len(targets), step):
            h, t = hidden[at : at + step], targets[at : at + step]
            logits = self.logits(h)
            exact = self.exact(h, logits, t[:, None])[:, 0]
            parts.append(measure(logits, t, exact, moments=moments))
        columns = zip(*(part[: 4 if moments else 2] for part in parts), strict=True)
        return Measured(*map(torch.cat, columns))


class NetworkHead(Head):
    """A head for networks that compute logits themselves: "hidden" states are logits (n, vocab).

    For logits that are more than a projection: scaled, capped, or of several layers.
    """

    def __init__(self, n_vocab: int):
        self._n_vocab = n_vocab

    def pack(self) -> None:
        """Do nothing."""

    @property
    def n_vocab(self) -> int:
        return self._n_vocab

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """The same logits."""
        return hidden

    def uncentred(self, hidden: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """The same logits: they are not centred."""
        return logits

    def exact(self, hidden: torch.Tensor, logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """The network's logits of `ids` (n, m): (n, m) float32."""
        return logits.gather(1, ids).float()


def projected(hidden: torch.Tensor, projection, rows: torch.Tensor | None = None) -> torch.Tensor:
    """Logits of some rows of a projection for hidden (n, width), in float32: (n, n_rows)."""
    chosen = slice(None) if rows is None else rows
    bias = getattr(projection, "bias", None)
    weight = projection.weight.detach()[chosen].float()
    return torch.nn.functional.linear(
        hidden.float(), weight, None if bias is None else bias.detach()[chosen].float()
    )


def measure(
    logits: torch.Tensor, targets: torch.Tensor, exact: torch.Tensor, *, moments: bool = False
) -> Measured:
    """Log-probability and rank of one target per row under softmax(logits).

    `logits` (n, vocab) in any float dtype, `targets` int64 (n,), `exact` float32 (n,) the targets'
    logits at full precision. `moments` adds the mean and standard deviation of the log-probability
    under the distribution itself (for Min-K%++).
    """
    top = torch.maximum(logits.amax(dim=1).float(), exact)
    sums = row_sums(logits, targets, exact, top, moments=moments)
    rest, rank, mean, square = sums or _reduce(logits, targets, exact, top, moments)
    own = torch.exp(exact - top)
    # log(own / (own + rest)), accurate for probabilities near 1.
    logprob = -torch.log1p(rest / own)
    # A token far below the top does not affect the sum.
    far = own < _FAR
    logprob = torch.where(far, exact - top - torch.log(rest.clamp_min(1e-38)), logprob)
    if mean is None or square is None:
        return Measured(logprob, rank)
    total = rest + own
    log_total = torch.log(total)
    m = mean / total  # E[l - top]
    variance = (square / total - m * m).clamp_min(0)
    return Measured(logprob, rank, m - log_total, variance.sqrt())


def _reduce(logits, targets, exact, top, moments):
    """`row_sums` in torch, for GPUs and other dtypes."""
    n = len(logits)
    step = max(1, _ELEMENTS_ON_CPU // logits.shape[1]) if logits.device.type == "cpu" else n
    rest, rank = torch.empty_like(top), torch.empty(n, dtype=torch.int32, device=logits.device)
    mean, square = (torch.empty_like(top) if moments else None for _ in range(2))
    for at in range(0, n, step):
        rows = slice(at, at + step)
        # The target's rounded logit is excluded; the caller adds the exact one.
        others = logits[rows].float().scatter(1, targets[rows, None], float("-inf"))
        rank[rows] = (others > exact[rows, None]).sum(dim=1)
        shifted = others.sub_(top[rows, None])  # (rows, vocab)
        if mean is None or square is None:
            rest[rows] = shifted.exp_().sum(dim=1)
            continue
        weights = shifted.clamp_(min=_LEAST).exp()
        rest[rows] = weights.sum(dim=1)
        shifted.scatter_(1, targets[rows, None], (exact[rows] - top[rows])[:, None])
        weights.scatter_(1, targets[rows, None], torch.exp(exact[rows] - top[rows])[:, None])
        weighted = weights.mul_(shifted)
        mean[rows] = weighted.sum(dim=1)
        square[rows] = weighted.mul_(shifted).sum(dim=1)
    return rest, rank, mean, square


def not_finite(name: str, dtype) -> str:
    """Error message for a model with non-finite log-probabilities."""
    kind = str(dtype).removeprefix("torch.")
    remedy = "Its weights may be damaged: download or save the model again."
    if dtype != torch.float32:
        remedy = "Try --dtype float32."
    return f"{name} returned log-probabilities that are not numbers (NaN) in {kind}. {remedy}"


def unknown_token(name: str, token: int, n_vocab: int) -> str:
    """Error message for a token id beyond the rows of the projection."""
    return (
        f"{name}: its tokenizer does not match its weights: token ids must be below {n_vocab:,}; "
        f"got {token:,}. Put the model's original tokenizer files beside config.json."
    )
