"""Training of causal models through transformers' `Trainer`, `auditor finetune`'s and testbeds'."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging as transformers_logging

from auditor.errors import ModelError
from auditor.finetuning.rows import IGNORED, Rows, pad
from auditor.models.device import native_bfloat16
from auditor.models.preserve_state import left_as_found, own_randomness

_FAST_FROM = 1_000_000  # parameters from which bfloat16 gains more than its conversions cost
_SHORT_ROWS = 320  # tokens up to which plain attention trains faster than fused
_SHARE = 0.05  # of the steps to warm up, and of the peak rate that is left at the end


@dataclass(frozen=True)
class Recipe:
    """How weights are moved.

    rate : float
        Peak learning rate of AdamW: after a warm-up of 5 % of the steps it falls along a half
        cosine to 5 % of itself. Gradients are clipped to a norm of 1.
    batch : int, rows of a step
    epochs : float; max_steps : int or None, in its place
    seed : int, decides the order of the rows, and dropout
    beta2 : float
        How slowly AdamW forgets squared gradients; where steps are few, it should forget sooner.
    precision : "auto", "float32" or "bfloat16"
        Of products; weights and sums stay float32. auto: bfloat16 where the machine multiplies it
        natively and the model has over a million parameters.
    """

    rate: float
    batch: int
    epochs: float = 1.0
    max_steps: int | None = None
    seed: int = 0
    beta2: float = 0.999
    precision: str = "auto"

    def n_steps(self, n_rows: int) -> int:
        """Steps of a training on so many rows an epoch.

        >>> Recipe(rate=1e-3, batch=4, epochs=2).n_steps(18)
        10
        """
        return self.max_steps or math.ceil(math.ceil(n_rows / self.batch) * self.epochs)


class Diverged(Exception):  # noqa: N818
    """Training gave what is no number: at which step, and what ("loss" or "gradient")."""

    def __init__(self, step: int, what: str):
        super().__init__(f"The {what} is not a number at step {step:,}")
        self.step, self.what = step, what


class _Causal(Trainer):
    """A Trainer that projects no padding, and stops at a loss that is not a number."""

    is_plain = False  # whether the model's logits are the projection of its hidden states

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The model's own loss; of plain models the same without projecting what is padding."""
        # Spread over several devices the model is wrapped, and its parts are not to be called.
        if return_outputs or not self.is_plain or model is not self.model:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        return batch_loss(inner(model), **inputs, fast=self.args.bf16)

    def training_step(self, model, inputs, num_items_in_batch=None):
        """As the Trainer's own; a loss that is not finite ends the training."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            raise Diverged(self.state.global_step + 1, "loss")
        return loss


class Steps(TrainerCallback):
    """Tells how many steps more are done, and refuses gradients that are not numbers."""

    def __init__(self, advance: Callable[[int], None]):
        self._advance, self._seen = advance, 0

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        """Raises `Diverged` before a gradient that is no number moves a weight."""
        sums = [p.grad.sum() for p in model.parameters() if p.grad is not None]
        if not torch.isfinite(torch.stack(sums)).all():
            raise Diverged(state.global_step + 1, "gradient")

    def on_step_end(self, args, state, control, **kwargs):
        """Also after a restart, where the first step is far from the beginning."""
        self._advance(state.global_step - self._seen)
        self._seen = state.global_step


def make_trainer(
    network,
    rows: Rows,
    recipe: Recipe,
    *,
    folder: str | Path,
    device: str = "cpu",
    save_every: int | None = None,
    report_to: Sequence[str] = (),
    tokenizer=None,
) -> Trainer:
    """A Trainer that is ready to go; call it within `own_randomness`, since it seeds globally.

    Parameters
    ----------
    network : a causal model of transformers, with adapters or without, changed in place
    rows : Rows, an epoch of them
    recipe : Recipe
    folder : path, where its checkpoints go
    device : str
    save_every : int, steps between checkpoints; None: none
    report_to : trackers as `Trainer` names them
    tokenizer : saved with each checkpoint

    Raises
    ------
    ModelError
        If the Trainer refuses the precision, the device or a tracker.
    """
    transformers_logging.set_verbosity_error()
    place = torch.device(device)
    n_parameters = sum(p.numel() for p in network.parameters())
    fast = native_bfloat16(place) and n_parameters > _FAST_FROM
    try:
        trainer = _Causal(
            model=network,
            args=TrainingArguments(
                output_dir=str(folder),
                bf16=recipe.precision == "bfloat16" or (recipe.precision == "auto" and fast),
                save_strategy="no" if save_every is None else "steps",
                save_steps=save_every or 1,
                report_to=list(report_to) or "none",
                use_cpu=place.type == "cpu",
                dataloader_pin_memory=place.type == "cuda",
                **_settings(recipe, recipe.n_steps(len(rows))),
            ),
            train_dataset=rows,
            data_collator=pad,
            processing_class=tokenizer,
        )
    except (ImportError, RuntimeError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ModelError(
            f"Training cannot begin: {first[:200]}. Check --precision, --device and --report-to."
        ) from None
    trainer.remove_callback(PrinterCallback)
    trainer.is_plain = _is_plain(network, rows)
    return trainer


def _settings(recipe: Recipe, n_steps: int) -> dict[str, Any]:
    """What a Trainer is told that comes of the recipe alone."""
    return {
        "per_device_train_batch_size": recipe.batch,
        "num_train_epochs": recipe.epochs,
        "max_steps": recipe.max_steps or -1,
        "learning_rate": recipe.rate,
        "lr_scheduler_type": "cosine_warmup_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr_rate": _SHARE},
        "warmup_steps": max(1, round(_SHARE * n_steps)),
        "weight_decay": 0.01,
        "adam_beta2": recipe.beta2,
        "max_grad_norm": 1.0,
        "seed": recipe.seed % 2**32,
        "logging_steps": max(1, n_steps // 100),
        "logging_nan_inf_filter": False,
        "save_total_limit": 2,
        "disable_tqdm": True,
        "log_level": "error",
        "remove_unused_columns": False,
    }


def inner(network):
    """The causal model itself, without what adapters wrap around it."""
    return network.get_base_model() if hasattr(network, "get_base_model") else network


def batch_loss(
    network, input_ids: torch.Tensor, labels: torch.Tensor, *, fast: bool = False
) -> torch.Tensor:
    """Mean cross entropy over the labels of a batch that are no padding, nats per token.

    Parameters
    ----------
    network : a causal model whose logits are the projection of its hidden states
    input_ids, labels : int64 (rows, longest), as `pad` makes them
    fast : bool, products in bfloat16
    """
    targets = labels[:, 1:].flatten()
    with torch.autocast(input_ids.device.type, torch.bfloat16, enabled=fast):
        hidden = network.base_model(input_ids=input_ids[:, :-1], use_cache=False)[0].flatten(0, 1)
        # A fifth of a batch is padding: it is dropped before the vocabulary is projected.
        real = (targets != IGNORED).nonzero()[:, 0]
        logits = network.get_output_embeddings()(hidden.index_select(0, real))
    return cross_entropy(logits.float(), targets[real])


def _is_plain(network, rows: Rows) -> bool:
    """Whether `batch_loss` is the model's own loss: not so where logits are capped or scaled."""
    batch = {k: v.to(network.device) for k, v in pad([rows[0][:8], rows[0][:5]]).items()}
    try:
        with left_as_found(network):
            own = network(**batch, use_cache=False).loss
            plain = batch_loss(inner(network), batch["input_ids"], batch["labels"])
            return bool(torch.isclose(own, plain, atol=1e-3))
    except (AttributeError, TypeError):  # no such parts: another architecture
        return False


@contextmanager
def _fit_for_rows(network, rows: Rows, device: torch.device) -> Iterator[None]:
    """For a while the attention that trains short rows fastest.

    The CPU's fused attention is slow backwards; short rows fare better with plain products.
    """
    model = inner(network)
    before = model.config._attn_implementation
    if device.type == "cpu" and int(np.diff(rows.offsets).max()) <= _SHORT_ROWS:
        model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def train(
    network, rows: Rows, recipe: Recipe, *, progress: Callable[[int, int], None] | None = None
) -> None:
    """Train on the CPU and keep nothing but the network, which is changed in place.

    Parameters
    ----------
    network, rows, recipe : as `make_trainer` takes them
    progress : callable(step, n_steps)

    Raises
    ------
    ModelError
        If a loss or a gradient is not a number.
    """
    n_steps, done = recipe.n_steps(len(rows)), 0

    def advance(n: int) -> None:
        nonlocal done
        done += n
        if progress is not None:
            progress(done, n_steps)

    with (
        tempfile.TemporaryDirectory(prefix="auditor-training-") as folder,
        own_randomness(recipe.seed),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        trainer = make_trainer(network, rows, recipe, folder=folder)
        try:
            run(trainer, advance)
        except Diverged as error:
            raise ModelError(f"{error}. Lower the rate (got {recipe.rate:g}).") from None
    network.eval()


def run(trainer: Trainer, advance: Callable[[int], None], *, resume: Path | None = None) -> None:
    """Train with a trainer of `make_trainer`, telling steps; from a checkpoint where one is given.

    Raises `Diverged` before what is no number reaches a weight.
    """
    trainer.add_callback(Steps(advance))
    network, device = trainer.model, trainer.args.device
    rows = cast(Rows, trainer.train_dataset)
    with _fit_for_rows(network, rows, device):
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
