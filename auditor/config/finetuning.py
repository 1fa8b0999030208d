"""Options of fine-tuning, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from auditor.config.fields import (
    DEVICE,
    TEXT_FIELD,
    Above0,
    AnyDtypeName,
    Count,
    Million,
    Options,
    Positive,
    Thousands,
    Whole,
    option,
)
from auditor.errors import ConfigError

# Peak learning rates that are usual for all weights, and for adapters alone.
_RATE, _LORA_RATE = 5e-5, 2e-4
# Options that may change when a fine-tuning is resumed: they change no weight.
_FREE = ("device", "merge", "report_to")


class FinetuneConfig(Options):
    """How a model is fine-tuned; each field is an option of `auditor finetune`.

    One corpus is domain adaptation; several are mixed. With a weight of 0.5, an epoch contains half
    of the documents, chosen by the seed. With `heldout`, no documents of the corpora are held out.
    `precision` applies to matrix products; weights and sums stay float32. `bos` is used in training
    and in measurements, and is saved as the tokenizer's BOS.

    Raises
    ------
    ConfigError
        For an invalid option.
    """

    model: str = option("Model to start from.", metavar="SPEC")
    corpora: tuple[str, ...] = option(
        "Text to train on: files, folders, globs, hf:PATH or presets; repeatable.",
        flag="corpus",
        metavar="SPEC",
    )
    weights: tuple[Above0, ...] = option(
        "Copies of the documents of each --corpus per epoch, in order.  [default: 1]",
        (),
        flag="weight",
    )
    repeats: Million = option("Copies of every document.", 1)
    text_field: str | None = option(TEXT_FIELD, None)
    heldout: tuple[str, ...] = option("Held-out text.", (), metavar="SPEC")
    heldout_documents: Count | None = option(
        "Documents of --corpus to hold out.  [default: a tenth, 1,000 at the most]", None
    )
    lora: bool = option("Train LoRA adapters instead of all weights.", False)
    lora_rank: Thousands = option("Rank of the adapters.", 16)
    merge: bool = option("Also save the merged model as OUT/merged; needs --lora.", False)
    epochs: Above0 = option("Passes over the text.", 3.0)
    max_steps: Positive | None = option("Training steps, in place of --epochs.", None)
    batch: Million = option("Rows per step.", 8, flag="batch-size", alias="batch")
    row_tokens: Million | None = option("Tokens per row.  [default: context, up to 1,024]", None)
    learning_rate: Above0 | None = option(
        "Peak learning rate.  [default: 5e-5, 2e-4 with --lora]", None
    )
    precision: Annotated[Literal["auto", "float32", "bfloat16"], AnyDtypeName] = option(
        "Number format of matrix products: auto, float32 or bfloat16.",
        "auto",
        flag="dtype",
        alias="precision",
    )
    canaries: str | None = option(
        "Manifest of canaries to measure during training (see `auditor canaries create`).",
        None,
        metavar="FILE",
    )
    probe_every: Positive = option("Steps between measurements.", 200)
    stop_at_exposure: Annotated[float, Field(ge=-(10**4), le=10**4)] | None = option(
        "Stop above this mean exposure, in bits.", None
    )
    save_every: Positive | None = option("Steps between checkpoints.  [default: a tenth]", None)
    bos: str | None = option(
        "BOS token to use in place of that of the model.", None, metavar="TOKEN"
    )
    seed: Annotated[Whole, Field(ge=0, lt=2**32)] = option(
        "Random seed of the order and the split.", 0
    )
    device: str = option(DEVICE, "auto")
    report_to: tuple[str, ...] = option("Experiment tracker: tensorboard, trackio or wandb.", ())

    @model_validator(mode="after")
    def _sound(self):
        if not self.corpora:
            raise ConfigError("--corpus must be given at least once; got none. Name training text.")
        if self.weights and len(self.weights) != len(self.corpora):
            raise ConfigError(
                f"--weight must be given once for each --corpus ({len(self.corpora)}), or not at "
                f"all; got {len(self.weights)}. Give them in the same order."
            )
        if self.heldout and self.heldout_documents is not None:
            raise ConfigError(
                "--heldout names held-out text, --heldout-documents takes it from the corpus; got "
                "both. Remove one."
            )
        if self.merge and not self.lora:
            raise ConfigError("--merge needs --lora; got none. Add --lora, or remove --merge.")
        if self.stop_at_exposure is not None and self.canaries is None:
            raise ConfigError("--stop-at-exposure needs --canaries; got none. Give a manifest.")
        return self

    @property
    def rate(self) -> float:
        """Peak learning rate."""
        if self.learning_rate is not None:
            return self.learning_rate
        return _LORA_RATE if self.lora else _RATE

    @property
    def shares(self) -> tuple[float, ...]:
        """Copies of the documents of each corpus per epoch, repeats included."""
        return tuple(self.repeats * w for w in self.weights or (1.0,) * len(self.corpora))

    def identity(self) -> dict[str, Any]:
        """The settings that determine the result, as plain data."""
        return self.model_dump(mode="json", exclude=set(_FREE))


def as_specs(given: str | Sequence[str]) -> tuple[str, ...]:
    """One spec or several, as a tuple.

    >>> as_specs("a"), as_specs(["a", "b"])
    (('a',), ('a', 'b'))
    """
    return (given,) if isinstance(given, str) else tuple(str(spec) for spec in given)
