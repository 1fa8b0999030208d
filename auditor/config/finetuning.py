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
    flag_of,
    option,
)
from auditor.errors import ConfigError

# Peak learning rates that are usual for all weights, and for adapters alone.
_RATE, _LORA_RATE = 5e-5, 2e-4
# Options of tasks, left out of the identity at their defaults, so that earlier manifests stay valid.
_OF_TASKS = ("tasks", "task_weights", "pretrain_on", "pretrain_epochs")
# Options that need --corpus.
_OF_TEXT = ("weights", "text_field", "heldout", "lora", "merge", "bos")
# Options that may change when a fine-tuning is resumed: they change no weight.
_FREE = ("device", "merge", "report_to")


class FinetuneConfig(Options):
    """How a model is fine-tuned; each field is an option of `auditor finetune`.

    Training is on text (`corpora`) or on labelled tasks (`tasks`). One corpus is domain adaptation;
    several are mixed, as several tasks are. With a weight of 0.5, an epoch contains half
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
        (),
        flag="corpus",
        metavar="SPEC",
    )
    tasks: tuple[str, ...] = option(
        "Labelled task to train on, instead of text: glue/NAME, code_x_glue_NAME, or NAME@FOLDER "
        "for a local copy; repeatable.",
        (),
        flag="task",
        metavar="SPEC",
    )
    task_weights: tuple[Above0, ...] = option(
        "Copies of the examples of each --task per epoch, in order.  [default: 1]",
        (),
        flag="task-weight",
    )
    pretrain_on: tuple[str, ...] = option(
        "Text on which to continue pretraining before the tasks; repeatable.", (), metavar="SPEC"
    )
    pretrain_epochs: Above0 = option("Passes over the text of --pretrain-on.", 1.0)
    weights: tuple[Above0, ...] = option(
        "Copies of the documents of each --corpus per epoch, in order.  [default: 1]",
        (),
        flag="weight",
    )
    repeats: Million = option("Copies of every document or example.", 1)
    text_field: str | None = option(TEXT_FIELD, None)
    heldout: tuple[str, ...] = option("Held-out text.", (), metavar="SPEC")
    heldout_documents: Count | None = option(
        "Documents of --corpus, or examples of each --task, to hold out.  [default: a tenth, 1,000 "
        "at the most]",
        None,
    )
    lora: bool = option("Train LoRA adapters instead of all weights.", False)
    lora_rank: Thousands = option("Rank of the adapters.", 16)
    merge: bool = option("Also save the merged model as OUT/merged; needs --lora.", False)
    epochs: Above0 = option("Passes over the text or the examples.", 3.0)
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
        if not self.corpora and not self.tasks:
            raise ConfigError(
                "--corpus or --task must be given at least once; got neither. Name training text, "
                "or a task such as glue/sst2."
            )
        self._check_tasks()
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

    def _check_tasks(self) -> None:
        """Raise ConfigError for options that do not go together with tasks, or without them."""
        fields = type(self).model_fields
        if not self.tasks:
            for name in _OF_TASKS[1:]:
                if getattr(self, name) != fields[name].default:
                    raise ConfigError(
                        f"{flag_of(name, fields[name])} needs --task; got none. Add a task, or "
                        "remove it."
                    )
            return
        if self.corpora:
            raise ConfigError(
                "--task and --corpus cannot be combined; got both. Give text with --pretrain-on to "
                "train on it before the tasks."
            )
        for name in _OF_TEXT:
            if getattr(self, name) != fields[name].default:
                flag = flag_of(name, fields[name])
                raise ConfigError(
                    f"{flag} applies to --corpus only; got it with --task. Remove {flag}."
                )
        if self.task_weights and len(self.task_weights) != len(self.tasks):
            raise ConfigError(
                f"--task-weight must be given once for each --task ({len(self.tasks)}), or not at "
                f"all; got {len(self.task_weights)}. Give them in the same order."
            )
        if len({spec.partition("@")[0] for spec in self.tasks}) < len(self.tasks):
            raise ConfigError(
                f"--task must name each task once; got {', '.join(self.tasks)}. Use --task-weight "
                "for more copies."
            )

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

    @property
    def task_shares(self) -> tuple[float, ...]:
        """Copies of the examples of each task per epoch, repeats included."""
        return tuple(self.repeats * w for w in self.task_weights or (1.0,) * len(self.tasks))

    def identity(self) -> dict[str, Any]:
        """The settings that determine the result, as plain data."""
        unused = () if self.tasks else _OF_TASKS
        return self.model_dump(mode="json", exclude={*_FREE, *unused})


def as_specs(given: str | Sequence[str]) -> tuple[str, ...]:
    """One spec or several, as a tuple.

    >>> as_specs("a"), as_specs(["a", "b"])
    (('a',), ('a', 'b'))
    """
    return (given,) if isinstance(given, str) else tuple(str(spec) for spec in given)
