"""Options of extractions, checked before anything is loaded and against each model."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from auditor.config.audit import References
from auditor.config.fields import (
    CHAT_TEMPLATE,
    Million,
    Options,
    Positive,
    Seed,
    Whole,
    as_before,
    option,
)
from auditor.config.sampling import Decoding
from auditor.config.served import HOW_SERVED, Served
from auditor.errors import ConfigError, ModelError


def _lengths(given: Any) -> Any:
    """One length or several: each once, shortest first."""
    if isinstance(given, int | np.integer):
        return (given,)
    return tuple(sorted(set(given))) if isinstance(given, list | tuple | set | range) else given


class ExtractionConfig(Options):
    """How suffixes are requested.

    Of `decoding`, temperature, top_k, top_p, min_p and typical_p apply; by default it is the
    model's own distribution. With `from_start`, prefixes begin at the start of their documents, as
    in training; otherwise prefixes of all lengths share one suffix. If `with_bos` is None, prefixes
    begin with BOS if `bos` is given, or if `from_start` is set and the model has a BOS token.

    Raises
    ------
    ConfigError
        For an invalid option.
    """

    prefix_tokens: Annotated[
        tuple[Million, ...], BeforeValidator(_lengths), Field(min_length=1)
    ] = option("Tokens shown to the model; repeatable for a sweep.", (50,))
    suffix_tokens: Million = option("Tokens that the model should continue with.", 50)
    p: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], BeforeValidator(tuple)] = option(
        "Target probability of extraction; repeatable.", (0.5,)
    )
    decoding: Decoding = Decoding()
    served: Served = Served()
    from_start: bool = option(
        "Take windows from the start of documents (default) or from anywhere.",
        True,
        flag="from-start/--anywhere",
    )
    with_bos: bool | None = option(
        "Start with the BOS token.  [default: with --from-start or --bos]",
        None,
        flag="with-bos/--no-bos",
    )
    bos: str | None = option(
        "BOS token to use in place of that of the models.", None, metavar="TOKEN"
    )
    chat_template: bool = option(CHAT_TEMPLATE, False)
    seed: Seed = option("Random seed of the windows.", 0)

    @model_validator(mode="after")
    def _check(self):
        if self.bos is not None and self.with_bos is False:
            raise ConfigError(
                "--bos names the token before each prefix, and --no-bos rules it out; got both. "
                "Remove one."
            )
        if self.chat_template and (self.bos is not None or self.with_bos):
            raise ConfigError(
                "--chat-template puts its own tokens before each prefix, with or without BOS; got "
                "it with --bos or --with-bos. Remove one."
            )
        if self.decoding.repetition_penalty != 1 or self.decoding.temperature_start is not None:
            raise ConfigError(
                "p_z needs the same decoding for each token; got a repetition penalty or a falling "
                "temperature. Remove them."
            )
        return self

    def identity(self) -> dict[str, Any]:
        """The settings as plain data, for a manifest; without `bos` if it is not set."""
        plain = self.model_dump(mode="json")
        for name in HOW_SERVED:
            del plain["served"][name]
        settings = as_before(plain)
        if self.bos is None:
            del settings["bos"]
        return settings

    @property
    def longest_prefix(self) -> int:
        """Tokens of the longest prefix."""
        return max(self.prefix_tokens)

    def starts_with_bos(self, model) -> bool:
        """Whether this model's BOS goes before each prefix."""
        if self.chat_template:
            return self._around(model)[0][:1] == model.vocabulary.start != []
        if self.with_bos is None:
            return (self.from_start or self.bos is not None) and model.vocabulary.bos_id is not None
        return self.with_bos

    def check(self, model, *, samples: bool = False) -> None:
        """Check that prefix and suffix fit a model; raises ConfigError or ModelError.

        `samples`: also for sampling, where BOS takes a position of its own; a single pass does not
        feed the last token, which leaves a position for BOS.
        """
        if self.with_bos and model.vocabulary.bos_id is None:
            raise ModelError(
                f"{model.name}'s tokenizer has no BOS token to put before each prefix. Name one "
                "with --bos, or remove --with-bos."
            )
        if model.context is None:
            return
        if self.chat_template:
            extra, start = sum(map(len, self._around(model))), " and the chat template"
        else:
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
        """Prefixes, with BOS before them or in the chat template if requested."""
        sides = [
            np.tile(np.array(ids, dtype=prefixes.dtype), (len(prefixes), 1))
            for ids in self._around(model)
        ]
        return np.concatenate([sides[0], prefixes, sides[1]], axis=1)

    def _around(self, model) -> tuple[list[int], list[int]]:
        """The tokens before and after each prefix."""
        if self.chat_template:
            turn = model.vocabulary.chat_turn(model.name)
            return turn.before, turn.after
        return (model.vocabulary.start if self.starts_with_bos(model) else []), []


class CorpusExtractionConfig(ExtractionConfig):
    """An extraction from a corpus: at most `examples` windows, one per distinct document."""

    examples: Positive = option("Maximum number of documents.", 1000)
    samples_per_prefix: Annotated[Whole, Field(ge=0, le=10**6)] = option(
        "Also draw samples and count near-verbatim ones.", 0
    )


class DocumentScanConfig(ExtractionConfig):
    """A scan of one document: windows `stride` tokens apart, by default without BOS."""

    from_start: bool = False
    stride: Million = option("Tokens between windows; needs --document.", 10)

    @model_validator(mode="before")
    @classmethod
    def _without_bos(cls, given: dict[str, Any]) -> dict[str, Any]:
        if given.get("bos") is None:
            given = {**given, "with_bos": bool(given.get("with_bos"))}
        return given


class SpanConfig(Options):
    """Masked-span recovery, for masked models: the middle of windows of training text is masked.

    With `from_start`, windows begin at the start of their documents.

    Raises
    ------
    ConfigError
        For an invalid option.
    """

    span_tokens: Annotated[tuple[Million, ...], BeforeValidator(_lengths), Field(min_length=1)] = (
        option("Masked models: length of the span to recover; repeatable.", (1, 5, 10, 20))
    )
    window_tokens: Million = option("Masked models: tokens of the window around the span.", 100)
    references: References = option(
        "Reference model; repeatable.",
        {},
        flag="reference",
        metavar="[NAME=]SPEC",
    )
    examples: Positive = option("Maximum number of documents.", 1000)
    from_start: bool = option(
        "Take windows from the start of documents (default) or from anywhere.",
        True,
        flag="from-start/--anywhere",
    )
    seed: Seed = option("Random seed of the windows.", 0)

    @model_validator(mode="after")
    def _check(self):
        if max(self.span_tokens) >= self.window_tokens:
            raise ConfigError(
                f"--span-tokens must be below --window-tokens ({self.window_tokens}); got "
                f"{max(self.span_tokens)}. Raise --window-tokens or lower --span-tokens."
            )
        return self
