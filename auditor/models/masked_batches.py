"""Forward passes of a masked language model that predict only the masked tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from auditor.models.device import retry_with_smaller_batch
from auditor.models.lm_head import NetworkHead
from auditor.models.teacher_forcing import buckets

# Maximum logits per pass.
_LOGITS_AT_ONCE = 1 << 25


@dataclass(frozen=True)
class MaskedRow:
    """One pass over `ids` with `masked` places hidden; the tokens at `measured` are predicted.

    ids : list of int, with the tokens that the model expects around a text
    masked, measured : lists of int, places in `ids`
    """

    ids: Sequence[int]
    masked: Sequence[int]
    measured: Sequence[int]


class MaskedNetwork:
    """A transformers masked language model with the ids of its mask and padding."""

    def __init__(self, network, *, mask_id: int, pad_id: int):
        self.network, self.mask_id, self.pad_id = network.eval(), mask_id, pad_id
        self.device = next(network.parameters()).device
        self.n_vocab = int(network.config.vocab_size)
        self._gathers = False
        self._gathers = self._can_gather()

    @torch.inference_mode()
    def logits(self, ids: torch.Tensor, masks: torch.Tensor, row, time) -> torch.Tensor:
        """Logits at some places of a batch, (m, vocab).

        `ids` (n, time) with masks in place, `masks` (n, time) the attention mask; `row` and `time`
        (m,) are the places.
        """
        row, time = (torch.as_tensor(x, device=self.device) for x in (row, time))
        given = {"input_ids": ids, "attention_mask": masks}
        if not self._gathers:
            return self.network(**given).logits[row, time]
        with self._only(row, time):
            return self.network(**given).logits[0]

    @torch.inference_mode()
    def measure(
        self,
        rows: Sequence[MaskedRow],
        *,
        moments: bool = False,
        batch_tokens: int = 4096,
        too_large: Callable[[int], str] = "One text of {} tokens does not fit into memory.".format,
        progress: Callable[[list[int]], None] | None = None,
        note: Callable[[str], None] | None = None,
    ) -> list[tuple[np.ndarray, ...]]:
        """Log-probability, rank and, if wanted, moments of the measured tokens of each row.

        Columns as in `lm_head.Measured`; () for a row without measured tokens. `progress` gets the
        indices of the rows just done.
        """
        head = NetworkHead(self.n_vocab)
        out: list[tuple[np.ndarray, ...]] = [()] * len(rows)

        def work(batch: list[int]) -> list[tuple[np.ndarray, ...]]:
            ids, masks = self.padded([rows[i].ids for i in batch])
            true = ids.clone()
            for n, i in enumerate(batch):
                ids[n, list(rows[i].masked)] = self.mask_id
            sizes = [len(rows[i].measured) for i in batch]
            row = np.repeat(np.arange(len(batch)), sizes)
            time = np.array([t for i in batch for t in rows[i].measured], dtype=np.int64)
            if not len(time):
                return [()] * len(batch)
            logits = self.logits(ids.to(self.device), masks.to(self.device), row, time)
            found = head.measure(logits, true[row, time].to(self.device), moments)
            ends = np.cumsum(sizes)[:-1]
            columns = [np.split(c.cpu().numpy(), ends) for c in found if c is not None]
            split = zip(*columns, strict=True)
            return [own if n else () for own, n in zip(split, sizes, strict=True)]

        most = max((len(row.measured) for row in rows), default=1)
        for batch in buckets(np.array([len(row.ids) for row in rows], dtype=int), batch_tokens):
            step = max(1, _LOGITS_AT_ONCE // max(1, most * self.n_vocab))
            for at in range(0, len(batch), step):
                some = batch[at : at + step]
                message = too_large(len(rows[some[0]].ids))
                found = retry_with_smaller_batch(work, some, too_large=message, note=note)
                for i, own in zip(some, found, strict=True):
                    out[i] = own
                if progress is not None:
                    progress(some)
        return out

    def padded(self, texts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids padded on the right, and the attention mask: int64 (n, longest)."""
        ids = torch.full((len(texts), max(map(len, texts))), self.pad_id, dtype=torch.int64)
        masks = torch.zeros_like(ids)
        for n, text in enumerate(texts):
            ids[n, : len(text)] = torch.as_tensor(text, dtype=torch.int64)
            masks[n, : len(text)] = 1
        return ids, masks

    @contextmanager
    def _only(self, row: torch.Tensor, time: torch.Tensor) -> Iterator[None]:
        """Within the block, the layers above the encoder see only these places, as one row."""

        def cut(module, args, output):
            hidden = output[0][row, time][None]  # (1, m, width)
            if isinstance(output, tuple):
                return (hidden, *output[1:])
            output.last_hidden_state = hidden
            return output

        hook = self.network.base_model.register_forward_hook(cut)
        try:
            yield
        finally:
            hook.remove()

    def _can_gather(self) -> bool:
        """Whether the projection of single places equals that of whole texts."""
        if self.network.base_model is self.network:
            return False
        ids = torch.arange(2, 8, device=self.device)[None] % self.n_vocab
        masks, row, time = torch.ones_like(ids), np.array([0, 0]), np.array([1, 4])
        whole = self.logits(ids, masks, row, time).float()
        self._gathers = True
        try:
            some = self.logits(ids, masks, row, time).float()
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
            return False
        return some.shape == whole.shape and bool(torch.allclose(some, whole, atol=1e-3, rtol=1e-3))
