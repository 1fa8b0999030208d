"""What an extraction is asked to do, checked before anything is loaded and against each model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from auditor.config.audit import Decoding
from auditor.errors import ConfigError, ModelError


@dataclass(frozen=True)
class ExtractionConfig:
    """How suffixes are asked for.

    prefix_tokens : tuple of int
        Lengths of the prefix.
    suffix_tokens : int
    p : tuple of float
        Probabilities for which the fewest samples are wanted.
    decoding : Decoding
        Of which temperature, top_k, top_p, min_p and typical_p count.
    from_start : bool
        Windows are the documents' first tokens, as the model met them, not from a random place.
    with_bos : bool or None
        Put the model's BOS before each prefix. None: with `from_start`, where the model has one,
        and with `bos`.
    bos : str or None
        The token that is BOS, in place of what the models' tokenizers name.
    seed : int

    Raises
    ------
    ConfigError
        If a number lies outside what is allowed.
    """

    prefix_tokens: tuple[int, ...] = (50,)
    suffix_tokens: int = 50
    p: tuple[float, ...] = (0.5,)
    decoding: Decoding = field(default_factory=Decoding)
    from_start: bool = True
    with_bos: bool | None = None
    bos: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.prefix_tokens:
            raise ConfigError("--prefix-tokens must be given at least once; got none. Usual is 50.")
        for name, value in (
            *(("--prefix-tokens", n) for n in self.prefix_tokens),
            ("--suffix-tokens", self.suffix_tokens),
        ):
            at_least(name, value, 1, "Usual is 50.")
        if self.bos is not None and self.with_bos is False:
            raise ConfigError(
                f"--bos names the token before each prefix, and --no-bos rules it out; got --bos "
                f"{self.bos} with it. Leave one out."
            )
        for p in self.p:
            if not 0 < p < 1:
                raise ConfigError(
                    f"--p must lie between 0 and 1, both excluded; got {p}. Usual are 0.5 and 0.9."
                )
        if not 0 <= self.seed < 2**63:
            raise ConfigError(
                f"--seed must be between 0 and 2^63 - 1; got {self.seed}. Usual is 0."
            )
        if self.decoding.repetition_penalty != 1 or self.decoding.temperature_start is not None:
            raise ConfigError(
                "p_z is of a decoding that is the same at each token; got a repetition penalty or "
                "a falling temperature. Leave them out."
            )

    def told(self) -> dict:
        """The same as plain data, for a manifest; older ones say nothing of `bos`."""
        told = {k: v for k, v in asdict(self).items() if k != "bos" or v is not None}
        return {**told, "decoding": self.decoding.model_dump(mode="json")}

    @property
    def longest_prefix(self) -> int:
        """Tokens of the longest prefix."""
        return max(self.prefix_tokens)

    def starts_with_bos(self, model) -> bool:
        """Whether this model's BOS goes before each prefix."""
        if self.with_bos is None:
            return (self.from_start or self.bos is not None) and model.vocabulary.bos_id is not None
        return self.with_bos

    def check(self, model, *, samples: bool = False) -> None:
        """Whether prefix and suffix fit a model. Raises ConfigError or ModelError if not.

        `samples`: also for sampling, where BOS takes a place of its own; in one pass it takes that
        of the last token, which is never fed.
        """
        if self.with_bos and model.vocabulary.bos_id is None:
            raise ModelError(
                f"{model.name}'s tokenizer has no BOS token to put before each prefix. Name one "
                "with --bos, or leave out --with-bos."
            )
        if model.context is None:
            return
        extra = int(samples and self.starts_with_bos(model))
        start = " and BOS" if extra else ""
        most = model.context - self.suffix_tokens - extra
        if most < 1:
            raise ConfigError(
                f"--suffix-tokens must be between 1 and {model.context - 1 - extra} (context "
                f"{model.context} minus a prefix of 1{start}); got {self.suffix_tokens}. Lower "
                "--suffix-tokens."
            )
        if self.longest_prefix > most:
            raise ConfigError(
                f"--prefix-tokens must be between 1 and {most} (context {model.context} minus "
                f"suffix {self.suffix_tokens}{start}); got {self.longest_prefix}. Lower "
                "--prefix-tokens or --suffix-tokens."
            )

    def started(self, model, prefixes: NDArray[np.integer]) -> NDArray[np.integer]:
        """Prefixes with BOS before them, where that is asked for."""
        if not self.starts_with_bos(model):
            return prefixes
        bos = np.full((len(prefixes), 1), model.vocabulary.bos_id, dtype=prefixes.dtype)
        return np.concatenate([bos, prefixes], axis=1)


def at_least(name: str, value: int, least: int, remedy: str) -> None:
    """Raises ConfigError if a whole number is below what is allowed."""
    if value < least:
        raise ConfigError(f"{name} must be {least} or more; got {value}. {remedy}")


def lengths(prefix_tokens: int | Sequence[int]) -> tuple[int, ...]:
    """One length or several, each once, shortest first.

    >>> lengths(50), lengths([50, 10, 50])
    ((50,), (10, 50))
    """
    given = [prefix_tokens] if isinstance(prefix_tokens, int) else prefix_tokens
    return tuple(sorted(set(given)))
