"""The vocabulary projection: hidden states to log-probabilities, in pieces that fit the cache.

bfloat16 has 8 bits of mantissa, so a logit of 30 is rounded to 0.125. Two things keep the numbers
sound all the same. The rows of the projection are centred (their mean is taken off in float32
before rounding), which changes no probability and takes off the large common offset of models such
as GPT-2. And the logit of every token that is reported is computed again with float32 accumulation
and put in the place of its rounded self in the normaliser too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from auditor.models.kernels.logit_rows import row_sums
from auditor.models.kernels.packed_linear import PackedLinear, can_pack

# Logits normalised at once on a CPU: 8 rows of 50,257 in float32 stay in the second-level cache.
_ELEMENTS_ON_CPU = 8 * 50_257
# Below this a token's weight beside the top's is no number to divide by: float32 ends at 1e-38.
_FAR = 1e-30
# Nats below the top where a weight is 0 for sure; a logit of minus infinity is no further.
_LEAST = -1e4
# Rows of a projection in fewer bits that are made float32 at once.
_WIDENED_ROWS = 16_384
# Elements of float32 logits that a chunk of teacher-forced tokens may take.
_CHUNK_ELEMENTS = 12 * 1024 * 1024


@dataclass(frozen=True)
class Measured:
    """What a model thought of one token a row; float32 nats, int32 ranks, shapes (n,)."""

    logprob: torch.Tensor
    rank: torch.Tensor
    vocab_mean: torch.Tensor | None = None
    vocab_std: torch.Tensor | None = None


class Head:
    """A projection from hidden states (n, width) to the vocabulary.

    Parameters
    ----------
    weight : tensor (vocab, width)
    bias : tensor (vocab,) or None
    dtype : torch.float32, torch.bfloat16 or torch.float16
        What the matrix product runs in. float32 leaves the weights as they are.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype):
        self.bias = None if bias is None else bias.detach()
        # Weights in fewer bits than the products are to have are widened some rows at a time.
        self._is_widened = dtype == torch.float32 != weight.dtype
        self._mean: torch.Tensor | None = None  # (width,) what was taken off every row
        if dtype != torch.float32:
            wide = weight.detach().float()
            self._mean = wide.mean(dim=0)
            weight = (wide - self._mean).to(dtype)
        self.weight = weight.detach()
        self._packed: PackedLinear | None = None

    def pack(self) -> None:
        """Keep the weights in the kernels' own order too, where there is one."""
        if can_pack(self.weight) and not self._is_widened:
            self._packed = PackedLinear(self.weight, self.bias)

    @property
    def n_vocab(self) -> int:
        return self.weight.shape[0]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(n, width) -> (n, vocab), in the head's own dtype."""
        if self._packed is not None:
            return self._packed(hidden)
        if self._is_widened:
            wide = hidden.float()
            parts = [wide @ rows.float().t() for rows in self.weight.split(_WIDENED_ROWS)]
            logits = torch.cat(parts, dim=1)
            return logits if self.bias is None else logits + self.bias.float()
        return torch.nn.functional.linear(hidden.to(self.weight.dtype), self.weight, self.bias)

    def uncentred(self, hidden: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """The logits as the model itself has them, for what depends on their sign: (n, vocab).

        Centring takes the same number off all logits of a row, which no probability notices, but a
        repetition penalty does.
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
        return Measured(
            torch.cat([p.logprob for p in parts]),
            torch.cat([p.rank for p in parts]),
            _join([p.vocab_mean for p in parts]) if moments else None,
            _join([p.vocab_std for p in parts]) if moments else None,
        )


class NetworkHead(Head):
    """The logits as the network itself makes them: "hidden" states are logits (n, vocab) already.

    For networks whose logits are more than a projection: scaled, capped, or of several layers.
    """

    def __init__(self, n_vocab: int):
        self._n_vocab = n_vocab

    def pack(self) -> None:
        """Nothing to lay out."""

    @property
    def n_vocab(self) -> int:
        return self._n_vocab

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """The same logits."""
        return hidden

    def uncentred(self, hidden: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """The same logits: nothing was taken off them."""
        return logits

    def exact(self, hidden: torch.Tensor, logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Logits of `ids` (n, m) as the network has them: (n, m) float32."""
        return logits.gather(1, ids).float()


def projected(hidden: torch.Tensor, projection, rows: torch.Tensor | None = None) -> torch.Tensor:
    """hidden (n, width) times rows of a projection's weight, and its bias: float32 (n, n_rows)."""
    chosen = slice(None) if rows is None else rows
    bias = getattr(projection, "bias", None)
    weight = projection.weight.detach()[chosen].float()
    return torch.nn.functional.linear(
        hidden.float(), weight, None if bias is None else bias.detach()[chosen].float()
    )


def _join(columns: list[torch.Tensor | None]) -> torch.Tensor:
    return torch.cat([column for column in columns if column is not None])


def measure(
    logits: torch.Tensor, targets: torch.Tensor, exact: torch.Tensor, *, moments: bool = False
) -> Measured:
    """Log-probability and rank of one target a row, under softmax(logits).

    Parameters
    ----------
    logits : tensor (n, vocab), any float dtype
    targets : int64 tensor (n,)
    exact : float32 tensor (n,)
        The targets' logits, more precise than `logits` where these are rounded.
    moments : bool
        Also the mean and standard deviation, over the vocabulary's own distribution, of the
        log-probability (what Min-K%++ needs).
    """
    top = torch.maximum(logits.amax(dim=1).float(), exact)
    given = logits, targets, exact, top
    sums = row_sums(*given, moments=moments) or _reduce(*given, moments)
    rest, rank, mean, square = sums
    own = torch.exp(exact - top)
    # log(own / (own + rest)), written so that a token of probability ~1 keeps its digits.
    logprob = -torch.log1p(rest / own)
    # A token far below the top adds nothing to the sum: the plain difference is exact there.
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
    """What `row_sums` gives, by torch: for a GPU, and for other formats."""
    n = len(logits)
    step = max(1, _ELEMENTS_ON_CPU // logits.shape[1]) if logits.device.type == "cpu" else n
    rest, rank = torch.empty_like(top), torch.empty(n, dtype=torch.int32, device=logits.device)
    mean, square = (torch.empty_like(top) if moments else None for _ in range(2))
    for at in range(0, n, step):
        rows = slice(at, at + step)
        # The exact logit stands in for the rounded one: it is left out here, added by the caller.
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
    """The sentence for a model that gives NaN or infinite numbers."""
    told = str(dtype).removeprefix("torch.")
    remedy = "Its weights may be damaged: download or save the model again."
    if dtype != torch.float32:
        remedy = "Try --dtype float32."
    return f"{name} gave log-probabilities that are not numbers (NaN) in {told}. {remedy}"


def unknown_token(name: str, token: int, n_vocab: int) -> str:
    """The sentence for a token that stands in no row of the projection."""
    return (
        f"{name}: its tokenizer and its weights do not belong together: tokens must be below "
        f"{n_vocab:,}; got {token:,}. Put the model's own tokenizer beside config.json."
    )
