"""Options of scoring texts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from auditor.config.audit import Dtype, References
from auditor.config.fields import (
    BOS,
    DEVICE,
    DTYPE,
    PLL,
    TEXT_FIELD,
    Options,
    PathText,
    Pll,
    Seed,
    Specs,
    Whole,
    option,
)
from auditor.config.served import Served, check_served
from auditor.errors import ConfigError


class ScoringConfig(Options):
    """How texts are scored; each field is an option of `auditor score`.

    The target and the references are loaded in `dtype`: float32 by default, because these scores
    are reported and not only ranked. A reference with another tokenizer is compared in bits per
    byte.

    Raises
    ------
    ConfigError
        For an invalid option.
    """

    model: str = option("Model to score the texts with.", metavar="SPEC")
    references: References = option(
        "Reference model; repeatable.", {}, flag="reference", metavar="[NAME=]SPEC"
    )
    text_field: str | None = option(TEXT_FIELD, None)
    nonmember_prefix: PathText | None = option(
        "Texts that the model was not trained on, for ReCaLL; none of those scored.",
        None,
        metavar="FILE",
    )
    member_prefix: PathText | None = option(
        "Other texts that the model was trained on, for Con-ReCall; needs --nonmember-prefix.",
        None,
        metavar="FILE",
    )
    frequencies: Specs = option(
        "Text for token frequencies, for DC-PDD; repeatable.", (), metavar="SPEC"
    )
    neighbours: Annotated[Whole, Field(ge=0, le=10**4)] = option(
        "Neighbours per text; each needs a pass of the model.", 0
    )
    masked_model: str | None = option(
        "Masked model that makes the neighbours; without one, words are dropped and swapped.",
        None,
        metavar="SPEC",
    )
    seed: Seed = option("Random seed of the neighbours.", 0)
    bos: str | None = option(BOS, None, metavar="TOKEN")
    pll: Pll = option(PLL, "word-l2r")
    dtype: Dtype = option(DTYPE, "float32")
    device: str = option(DEVICE, "auto")

    served: Served = Served()

    @model_validator(mode="after")
    def _check(self):
        check_served(self.model, self.served)
        if self.masked_model is not None and not self.neighbours:
            raise ConfigError(
                f"--masked-model needs --neighbours; got --masked-model {self.masked_model} alone. "
                "Add --neighbours 25, or remove --masked-model."
            )
        if self.member_prefix is not None and self.nonmember_prefix is None:
            raise ConfigError(
                f"--member-prefix needs --nonmember-prefix; got --member-prefix "
                f"{self.member_prefix} alone. Add --nonmember-prefix FILE, or remove it."
            )
        return self
