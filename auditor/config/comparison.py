"""Options of a comparison of two models."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from auditor.config.fields import DEVICE, TEXT_FIELD, Options, Positive, Seed, Specs, option


class ComparisonConfig(Options):
    """How two models are compared; each field is an option of `auditor compare`.

    Of `texts` and of `heldout`, at most `examples` distinct texts each are chosen by the seed;
    copies count once.

    Raises
    ------
    ConfigError
        For an invalid option.
    """

    base: str | None = option(
        "Model before training.  [default: the base of --tuned]", None, metavar="SPEC"
    )
    tuned: str = option("Model after training, or a folder with an adapter.", metavar="SPEC")
    texts: Annotated[Specs, Field(min_length=1)] = option(
        "Text that the tuned model was trained on.", metavar="SPEC"
    )
    heldout: Specs = option("Text of the same kind that it was not trained on.", (), metavar="SPEC")
    text_field: str | None = option(TEXT_FIELD, None)
    examples: Positive = option("Maximum number of texts.", 1000)
    prefix_tokens: Positive = option("Tokens of the prefix.", 50)
    suffix_tokens: Positive = option("Tokens of the suffix.", 50)
    seed: Seed = option("Random seed of the texts and the samples.", 0)
    bos: str | None = option(
        "BOS token to use in place of that of the models.", None, metavar="TOKEN"
    )
    device: str = option(DEVICE, "auto")
