"""Options of models behind an HTTP server."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, Field, field_validator, model_validator

from auditor.config.fields import STRICT, Million, Thousands, cut, option
from auditor.errors import ConfigError

_Price = Annotated[float, Field(ge=0, le=10**6)]


class Served(BaseModel):
    """A model behind an HTTP server; needed where --model is a URL."""

    model_config = STRICT

    served_model: str | None = option(
        "Name of the model on the server, where --model is a URL.", None, metavar="NAME"
    )
    tokenizer: str | None = option(
        "Model whose tokenizer the served model uses; needed for tokens and offsets.",
        None,
        metavar="SPEC",
    )
    api_key_env: str | None = option(
        "Environment variable that holds the server's key.", None, metavar="VAR"
    )
    chat: bool = option("Ask the chat endpoint: each prompt is a user's message.", False)
    concurrency: Thousands = option("Requests to the server at once.", 4)
    max_requests: Million | None = option("Stop after this many requests to the server.", None)
    max_cost: Annotated[float, Field(gt=0, le=10**9)] | None = option(
        "Stop at this cost; needs a price.", None
    )
    price_per_million_input: _Price | None = option(
        "Price of a million tokens sent to the server.", None
    )
    price_per_million_output: _Price | None = option(
        "Price of a million tokens that it generates.", None
    )

    @field_validator("api_key_env")
    @classmethod
    def _is_a_name(cls, given: str | None) -> str | None:
        # The value may be the key itself, so it is not shown.
        if given is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", given):
            raise ValueError(
                "--api-key-env must be the name of an environment variable, such as OPENAI_API_KEY "
                "(letters, digits and _). Put the key into a variable, and give its name"
            )
        return given

    @model_validator(mode="after")
    def _check(self):
        prices = (self.price_per_million_input, self.price_per_million_output)
        if self.max_cost is not None and not any(prices):
            raise ValueError(
                f"--max-cost needs a price; got --max-cost {self.max_cost:g} alone. Add "
                "--price-per-million-input and --price-per-million-output"
            )
        return self

    @property
    def is_given(self) -> bool:
        """Whether an option of the server is given."""
        return self != Served()

    def cost(self, n_input: int, n_output: int) -> float:
        """Cost of tokens sent and generated.

        >>> Served(price_per_million_input=2.0, price_per_million_output=8.0).cost(500_000, 250_000)
        3.0
        """
        prices = (self.price_per_million_input or 0.0, self.price_per_million_output or 0.0)
        return (n_input * prices[0] + n_output * prices[1]) / 10**6


SERVED = tuple(Served.model_fields)
# What is asked, and not how: these do not change the content of a run.
HOW_SERVED = (
    *("concurrency", "max_requests", "max_cost"),
    *("price_per_million_input", "price_per_million_output"),
)


def is_url(spec: Any) -> bool:
    """Whether a model's spec is the address of a server.

    >>> is_url("http://localhost:8000/v1"), is_url("gpt2")
    (True, False)
    """
    return isinstance(spec, str) and spec.startswith(("http://", "https://"))


def check_served(spec: Any, served: Served) -> None:
    """Raise ConfigError unless the options of a server fit a model's spec.

    >>> check_served("gpt2", Served())
    """
    if not is_url(spec):
        if served.is_given:
            wrong = next(n for n in SERVED if getattr(served, n) != getattr(Served(), n))
            raise ConfigError(
                f"--{wrong.replace('_', '-')} is for models behind a server; got --model "
                f"{cut(spec)}. Give the server's address, such as http://localhost:8000/v1, or "
                "remove the option."
            )
        return
    if re.match(r"https?://[^/]*@", spec) or "?" in spec or "#" in spec:
        raise ConfigError(
            "--model must be an address without a name, key or query, because it is shown in "
            "reports. Put the key into an environment variable, and name it with --api-key-env."
        )
    if not served.served_model:
        raise ConfigError(
            f"--model {cut(spec)} is a server, which may have several models; got no "
            "--served-model. Add --served-model NAME."
        )
    if not served.tokenizer:
        raise ConfigError(
            f"--model {cut(spec)} needs the tokenizer of the served model, to count and match "
            "tokens; got no --tokenizer. Add --tokenizer SPEC, a hub id or a folder."
        )
