"""Options of reference models that are trained on halves of a pool."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from auditor.config.fields import TEXT_FIELD, Options, Specs, Thousands, Whole, option
from auditor.errors import ConfigError

# Options of fine-tuning that also apply to reference models.
OF_TRAINING = (
    *("lora", "lora_rank", "epochs", "max_steps", "batch", "row_tokens", "learning_rate"),
    *("precision", "bos", "device"),
)


class ReferencesConfig(Options):
    """A pool of texts and the models that are trained on halves of it.

    Models come in pairs: one is trained on a random half of the distinct texts, the other on the
    rest. So each text is IN for exactly half of the models, and OUT for the others.

    Raises
    ------
    ConfigError
        For an invalid option.
    """

    model: str = option("Model to start from.", metavar="SPEC")
    pool: Specs = option("Texts whose membership is to be judged; repeatable.", metavar="SPEC")
    models: Annotated[Whole, Field(ge=2, le=10**4)] = option("Number of models; even.", 16)
    text_field: str | None = option(TEXT_FIELD, None)
    seed: Annotated[Whole, Field(ge=0, lt=2**31)] = option("Random seed of the halves.", 0)
    workers: Thousands = option("Models trained at once, each in a process of its own.", 1)

    @model_validator(mode="after")
    def _even(self):
        if self.models % 2:
            raise ConfigError(
                f"--models must be even, since models come in pairs; got {self.models}. Give "
                f"{self.models + 1}."
            )
        return self
