"""How to sample: what the model is given first, and how the next token is drawn."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError


def no_bool(value: Any) -> Any:
    """Refuse true and false where a whole number is asked for."""
    if isinstance(value, bool):  # Python counts True as 1; `samples = true` is a mistake
        raise PydanticCustomError("int_type", "must be a whole number")
    return value


STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
Positive = Annotated[int, BeforeValidator(no_bool), Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]


class Decoding(BaseModel):
    """How the next token is drawn from a model's logits.

    `temperature` holds after `temperature_steps` tokens; before, it falls in a straight line from
    `temperature_start` (first token) to it. Truncations apply in the order top_k, top_p, min_p,
    typical_p, after the repetition penalty and the temperature, as in transformers. More than one
    of `beams` draw nothing: of these only the penalty then counts.
    """

    model_config = STRICT

    max_new_tokens: Positive = 256
    temperature: Annotated[float, Field(gt=0)] = 1.0
    temperature_start: Annotated[float, Field(gt=0)] | None = None
    temperature_steps: Positive = 20
    top_k: Positive | None = None
    top_p: Share | None = None
    min_p: Share | None = None
    typical_p: Share | None = None
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
    stop_at_eos: bool = False
    beams: Positive = 1


class Prompts(BaseModel):
    """What the model is given before it samples.

    kind `bos` is the start-of-text token alone; `corpus` takes `min_tokens` to `max_tokens` tokens
    from a random place of the user's texts (`text_field` is their column, by default the audit's);
    `few-shot` fills a template from a table of examples;
    `repeat` says one word `repeats` times.
    """

    model_config = STRICT

    kind: Literal["bos", "corpus", "few-shot", "repeat"] = "bos"
    corpus: tuple[str, ...] = ()
    text_field: str | None = None
    min_tokens: Positive = 5
    max_tokens: Positive = 10
    template: str | None = None
    examples: str | None = None
    shots: Positive = 3
    words: tuple[str, ...] = ()
    repeats: Positive = 50
    samples_per_prompt: Positive = 1

    @model_validator(mode="after")
    def _ordered(self):
        if self.min_tokens > self.max_tokens:
            raise ValueError(
                f"min_tokens must not be above max_tokens ({self.max_tokens}); got "
                f"{self.min_tokens}. Lower min_tokens or raise max_tokens"
            )
        return self


class Strategy(BaseModel):
    """A named way to sample: prompts and decoding."""

    model_config = STRICT

    name: str
    prompts: Prompts = Prompts()
    decoding: Decoding = Decoding()

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,40}", name):
            raise ValueError(
                "a strategy's name holds only a-z, 0-9 and '-' (it names files), at most 41 "
                f"characters; got {name!r}. Choose another name"
            )
        return name


# The paper's three (sections 4.2 and 5.1), two of later work, and the model as it is. What a preset
# sets cannot be unset in TOML, so `pure` is also what a strategy of one's own starts from.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "top-n": {"prompts": {"kind": "bos"}, "decoding": {"top_k": 40}},
    "temperature": {
        "prompts": {"kind": "bos"},
        "decoding": {"temperature": 1.0, "temperature_start": 10.0, "temperature_steps": 20},
    },
    "internet": {"prompts": {"kind": "corpus"}, "decoding": {"top_k": 40}},
    "few-shot": {"prompts": {"kind": "few-shot"}, "decoding": {"top_k": 40}},
    "repeat": {"prompts": {"kind": "repeat"}, "decoding": {"top_k": 40}},
    "pure": {"prompts": {"kind": "bos"}, "decoding": {}},
}


def strategy(name: str, *, preset: str | None = None, **parts: dict[str, Any]) -> Strategy:
    """A preset strategy, with parts of its prompts or decoding overridden.

    Parameters
    ----------
    name : what it is called; it names files
    preset : a key of PRESETS; by default the one called `name`
    **parts : `prompts` and `decoding`, the settings that differ from the preset's

    Returns
    -------
    Strategy

    Raises
    ------
    ValueError
        If there is no such preset, or a setting is not allowed (pydantic's ValidationError).

    >>> strategy("top-n", decoding={"top_k": 10}).decoding.top_k
    10
    """
    wanted = preset or name
    base = PRESETS.get(wanted) if isinstance(wanted, str) else None
    if base is None:
        raise ValueError(
            f"a strategy must be one of {', '.join(PRESETS)} or name one of them as its preset; "
            f"got {cut(wanted)}.{nearest(wanted, PRESETS)}"
        )
    merged = {
        key: {**base.get(key, {}), **(parts.get(key) or {})} for key in ("prompts", "decoding")
    }
    return Strategy.model_validate({"name": name, **merged})


def nearest(word: str, known: Iterable[str]) -> str:
    """A question that names the known word nearest to one that is not known, or nothing."""
    close = difflib.get_close_matches(str(word), list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def cut(value: object) -> str:
    """A value as an error shows it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
