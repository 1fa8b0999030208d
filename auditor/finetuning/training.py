"""Training with transformers' `Trainer`, for `auditor finetune` and for testbeds."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from auditor.errors import ModelError, in_short
from auditor.finetuning.rows import IGNORED, Rows, pad
from auditor.models.device import native_bfloat16
from auditor.models.library_calls import quiet, silence_logs
from auditor.models.preserve_state import evaluation_mode, isolated_rng

_FAST_FROM = 1_000_000  # parameters above which bfloat16 outweighs its conversion cost
_SHORT_ROWS = 320  # tokens per row up to which eager attention trains faster than fused
_SHARE = 0.05  # warm-up as a share of the steps; final as a share of the peak rate


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of training.

    rate : float
        Peak learning rate of AdamW, with a warm-up of 5 % of the steps and cosine decay to 5 % of
        the peak. Gradients are clipped to a norm of 1.
    batch : int, rows per step
    epochs : float
    max_steps : int, optional, overrides `epochs`
    seed : int, for the order of the rows and for dropout
    beta2 : float
        AdamW's decay of squared gradients; lower it for short trainings.
    precision : "auto", "float32" or "bfloat16"
        Precision of matrix products; weights and sums stay float32. auto: bfloat16 if the device
        supports it natively and the model has over a million parameters.
    """

    rate: float
    batch: int
    epochs: float = 1.0
    max_steps: int | None = None
    seed: int = 0
    beta2: float = 0.999
    precision: str = "auto"

    def n_steps(self, n_rows: int) -> int:
        """Number of training steps, with n_rows rows per epoch.

        >>> Recipe(rate=1e-3, batch=4, epochs=2).n_steps(18)
        10
        """
        return self.max_steps or math.ceil(math.ceil(n_rows / self.batch) * self.epochs)


class Diverged(Exception):  # noqa: N818
    """The "loss" or "gradient" (`what`) is not finite at a step."""

    def __init__(self, step: int, what: str):
        super().__init__(f"The {what} is not a number at step {step:,}")
        self.step, self.what = step, what


class _Causal(Trainer):
    """A Trainer that skips the projection of padding and stops if the loss is not finite."""

    is_plain = False  # whether the model's logits are the projection of its hidden states

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The model's loss; for plain models computed without projecting padding."""
        # Over several devices the model is wrapped, and its parts must not be called directly.
        if return_outputs or not self.is_plain or model is not self.model:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        return batch_loss(inner(model), **inputs, fast=self.args.bf16)

    def training_step(self, model, inputs, num_items_in_batch=None):
        """Raise `Diverged` if the loss is not finite."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            raise Diverged(self.state.global_step + 1, "loss")
        return loss


class Steps(TrainerCallback):
    """Report progress, and stop at gradients that are not finite."""

    def __init__(self, advance: Callable[[int], None]):
        self._advance, self._seen = advance, 0

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        """Raise `Diverged` before a gradient that is not finite changes a weight."""
        sums = [p.grad.sum() for p in model.parameters() if p.grad is not None]
        if not torch.isfinite(torch.stack(sums)).all():
            raise Diverged(state.global_step + 1, "gradient")

    def on_step_end(self, args, state, control, **kwargs):
        """Report the steps since the last call; after a resume, also those done before."""
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
    collate: Callable[[Sequence[np.ndarray]], dict[str, torch.Tensor]] = pad,
) -> Trainer:
    """Set up a Trainer; call within `isolated_rng`, as Trainer seeds the global generators.

    Parameters
    ----------
    network : model of transformers, with or without adapters; trained in place
    rows : Rows
    recipe : Recipe
    folder : path, for checkpoints
    device : str
    save_every : int, optional, steps between checkpoints; None: no checkpoints
    report_to : trackers, by their names in `Trainer`
    tokenizer : optional, saved with each checkpoint
    collate : callable(rows) -> batch, with labels for models that are not causal

    Raises
    ------
    ModelError
        If Trainer rejects the precision, the device or a tracker.
    """
    silence_logs()
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
            data_collator=collate,
            processing_class=tokenizer,
        )
    except (ImportError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"Training cannot begin: {in_short(error)}. Check --dtype, --device and --report-to."
        ) from None
    trainer.remove_callback(PrinterCallback)
    trainer.is_plain = collate is pad and _is_plain(network, rows)
    return trainer


def _settings(recipe: Recipe, n_steps: int) -> dict[str, Any]:
    """TrainingArguments that depend on the recipe alone."""
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
    """The causal model without its adapter wrapper."""
    return network.get_base_model() if hasattr(network, "get_base_model") else network


def batch_loss(
    network, input_ids: torch.Tensor, labels: torch.Tensor, *, fast: bool = False
) -> torch.Tensor:
    """Mean cross entropy of a batch without its padding, nats per token.

    Parameters
    ----------
    network : causal model whose logits are a projection of its hidden states
    input_ids, labels : int64 (rows, longest), from `pad`
    fast : bool, matrix products in bfloat16
    """
    targets = labels[:, 1:].flatten()
    with torch.autocast(input_ids.device.type, torch.bfloat16, enabled=fast):
        hidden = network.base_model(input_ids=input_ids[:, :-1], use_cache=False)[0].flatten(0, 1)
        # About a fifth of a batch is padding: drop it before the projection to the vocabulary.
        real = (targets != IGNORED).nonzero()[:, 0]
        logits = network.get_output_embeddings()(hidden.index_select(0, real))
    return cross_entropy(logits.float(), targets[real])


def _is_plain(network, rows: Rows) -> bool:
    """Whether `batch_loss` equals the model's loss; not if logits are capped or scaled."""
    batch = {k: v.to(network.device) for k, v in pad([rows[0][:8], rows[0][:5]]).items()}
    try:
        with evaluation_mode(network):
            own = network(**batch, use_cache=False).loss
            plain = batch_loss(inner(network), batch["input_ids"], batch["labels"])
            return bool(torch.isclose(own, plain, atol=1e-3))
    except (AttributeError, TypeError):  # an architecture without these parts
        return False


@contextmanager
def _fit_for_rows(network, rows: Rows, device: torch.device) -> Iterator[None]:
    """Use eager attention for short rows on the CPU, where the fused backward pass is slow."""
    model = inner(network)
    before = model.config._attn_implementation
    if device.type == "cpu" and int(np.diff(rows.offsets).max()) <= _SHORT_ROWS:
        model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def train(
    network,
    rows: Rows,
    recipe: Recipe,
    *,
    collate: Callable[[Sequence[np.ndarray]], dict[str, torch.Tensor]] = pad,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Train a network in place on the CPU, without checkpoints.

    `collate` is as in `make_trainer`; `progress` is called with the step and the number of steps.
    Raises ModelError if a loss or a gradient is not finite.
    """
    n_steps, done = recipe.n_steps(len(rows)), 0

    def advance(n: int) -> None:
        nonlocal done
        done += n
        if progress is not None:
            progress(done, n_steps)

    with (
        tempfile.TemporaryDirectory(prefix="auditor-training-") as folder,
        isolated_rng(recipe.seed),
        quiet(),
    ):
        trainer = make_trainer(network, rows, recipe, folder=folder, collate=collate)
        try:
            run(trainer, advance)
        except Diverged as error:
            raise ModelError(f"{error}. Lower the rate (got {recipe.rate:g}).") from None
    network.eval()


def run(trainer: Trainer, advance: Callable[[int], None], *, resume: Path | None = None) -> None:
    """Train with a trainer from `make_trainer`; optionally resume from a checkpoint.

    `advance` is called with the number of steps just done. Raises `Diverged` before a loss or
    gradient that is not finite changes a weight.
    """
    trainer.add_callback(Steps(advance))
    network, device = trainer.model, trainer.args.device
    rows = cast(Rows, trainer.train_dataset)
    with _fit_for_rows(network, rows, device):
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
