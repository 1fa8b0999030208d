"""What a fine-tuning is asked to do, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from auditor.errors import ConfigError

PRECISIONS = ("auto", "float32", "bfloat16")
# Peak learning rates that are usual for all weights, and for adapters alone.
_RATE, _LORA_RATE = 5e-5, 2e-4
# What may differ when a fine-tuning goes on: it changes no weight.
_FREE = ("device", "merge", "report_to")


@dataclass(frozen=True)
class FinetuneConfig:
    """How a model is fine-tuned.

    model : str, a model spec
    corpora : tuple of str
        Corpus specs; one is domain adaptation, several are mixed.
    weights : tuple of float
        How often each corpus's documents stand in an epoch; 0.5 is half of them, chosen by the
        seed. Empty: once each.
    repeats : int
        Every document so many times as often.
    heldout : tuple of str
        Corpus specs of text to be held out. Empty: documents of the corpora are.
    heldout_documents : int or None
        So many different documents of the corpora; None: a tenth, 1 to 1,000.
    text_field : str or None
    lora, lora_rank, merge : bool, int, bool
        Adapters instead of all weights; `merge` also saves them added into the base.
    epochs : float; max_steps : int or None, in its place
    batch : int, rows a step; row_tokens : int or None, the model's context, 1,024 at the most
    learning_rate : float or None
        Peak, of what `Recipe` says of it. None: 5e-5, and 2e-4 for adapters.
    precision : "auto", "float32" or "bfloat16"
        Of products; weights and sums stay float32.
    canaries : str or None, a manifest whose canaries are watched
    probe_every : int, steps; save_every : int or None, steps: a tenth of training, 500 at the most
    stop_at_exposure : float or None, bits
    bos : str or None
        A special token that starts a text, in training and in what is measured, in place of what
        the tokenizer names; it is saved as the tokenizer's BOS.
    seed : int; device : str; report_to : tuple of str, trackers as `Trainer` names them

    Raises
    ------
    ConfigError
        If a value lies outside what is allowed.
    """

    model: str
    corpora: tuple[str, ...]
    weights: tuple[float, ...] = ()
    repeats: int = 1
    heldout: tuple[str, ...] = ()
    heldout_documents: int | None = None
    text_field: str | None = None
    lora: bool = False
    lora_rank: int = 16
    merge: bool = False
    epochs: float = 3.0
    max_steps: int | None = None
    batch: int = 8
    row_tokens: int | None = None
    learning_rate: float | None = None
    precision: str = "auto"
    canaries: str | None = None
    probe_every: int = 200
    save_every: int | None = None
    stop_at_exposure: float | None = None
    bos: str | None = None
    seed: int = 0
    device: str = "auto"
    report_to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.corpora:
            raise ConfigError("--corpus must be given at least once; got none. Name training text.")
        if self.weights and len(self.weights) != len(self.corpora):
            raise ConfigError(
                f"--weight must be given once for each --corpus ({len(self.corpora)}), or not at "
                f"all; got {len(self.weights)}. Give them in the same order."
            )
        for name in ("repeats", "lora_rank", "batch", "probe_every"):
            _at_least_one(name, getattr(self, name))
        for name in ("max_steps", "row_tokens", "save_every"):
            if getattr(self, name) is not None:
                _at_least_one(name, getattr(self, name))
        for name, values in (
            ("weight", self.weights),
            ("epochs", (self.epochs,)),
            ("learning-rate", () if self.learning_rate is None else (self.learning_rate,)),
        ):
            if wrong := [v for v in values if not 0 < v < float("inf")]:
                raise ConfigError(f"--{name} must be above 0; got {wrong[0]}. Raise it.")
        if self.precision not in PRECISIONS:
            raise ConfigError(
                f"--precision must be one of {', '.join(PRECISIONS)}; got {self.precision!r}."
            )
        if self.heldout and self.heldout_documents is not None:
            raise ConfigError(
                "--heldout names text to be held out, --heldout-documents takes it from the "
                "corpus; got both. Leave one out."
            )
        if self.heldout_documents is not None and self.heldout_documents < 0:
            raise ConfigError(
                f"--heldout-documents must be 0 or more; got {self.heldout_documents}."
            )
        if self.merge and not self.lora:
            raise ConfigError("--merge is for adapters, and got no --lora. Add --lora or leave it.")
        if self.stop_at_exposure is not None and self.canaries is None:
            raise ConfigError("--stop-at-exposure needs --canaries; got none. Give a manifest.")
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"--seed must be between 0 and 2^32 - 1; got {self.seed}.")

    @property
    def rate(self) -> float:
        """Peak learning rate."""
        if self.learning_rate is not None:
            return self.learning_rate
        return _LORA_RATE if self.lora else _RATE

    @property
    def shares(self) -> tuple[float, ...]:
        """How often each corpus's documents stand in an epoch, repeats included."""
        return tuple(self.repeats * w for w in self.weights or (1.0,) * len(self.corpora))

    def identity(self) -> dict[str, Any]:
        """What makes two fine-tunings the same, as JSON holds it."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if name not in _FREE
        }


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        flag = "--" + name.replace("_", "-")
        raise ConfigError(f"{flag} must be 1 or more; got {value}. Raise it.")


def as_specs(given: str | Sequence[str]) -> tuple[str, ...]:
    """One spec or several, as a tuple.

    >>> as_specs("a"), as_specs(["a", "b"])
    (('a',), ('a', 'b'))
    """
    return (given,) if isinstance(given, str) else tuple(str(spec) for spec in given)
