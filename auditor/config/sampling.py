"""Sampling strategies: prompts and decoding."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, field_validator, model_validator

from auditor.config.fields import (
    CHAT_TEMPLATE,
    STRICT,
    Above0,
    Million,
    Positive,
    Share,
    Specs,
    Temperature,
    Thousands,
    cut,
    nearest,
    option,
    setting,
)


class Decoding(BaseModel):
    """How the next token is drawn from a model's logits.

    The temperature changes linearly from `temperature_start` to `temperature` over the first
    `temperature_steps` tokens. As in transformers, the repetition penalty and the temperature
    apply first, then top_k, top_p, min_p and typical_p. With `beams` above 1 nothing is drawn,
    and only the penalty applies.
    """

    model_config = STRICT

    max_new_tokens: Million = option("Tokens per sample.", 256)
    temperature: Temperature = option("Softmax temperature; for greedy decoding: --top-k 1.", 1.0)
    temperature_start: Above0 | None = option("Temperature of the first token.", None)
    temperature_steps: Million = option("Tokens over which it changes to --temperature.", 20)
    top_k: Positive | None = option("Sample from the k most likely tokens.", None)
    top_p: Share | None = option(
        "Sample from the most likely tokens with this total probability.", None
    )
    min_p: Share | None = option(
        "Drop tokens below this fraction of the highest probability.", None
    )
    typical_p: Share | None = option(
        "Sample from the most typical tokens with this total probability.", None
    )
    repetition_penalty: Above0 = option("Values above 1 discourage repetition.", 1.0)
    stop_at_eos: bool = option(
        "End samples at the end-of-sequence token.", False, flag="stop-at-eos/--no-stop-at-eos"
    )
    beams: Thousands = option("Number of beams; above 1, beam search instead of sampling.", 1)
    chain: Literal["gibbs", "metropolis-hastings"] = option(
        "Masked models: how tokens are drawn again, gibbs (fast) or metropolis-hastings.", "gibbs"
    )
    sweeps: Thousands = option(
        "Masked models: times that each token is drawn again, on average.", 5
    )


class Prompts(BaseModel):
    """The prompt that samples continue.

    `bos` is the start-of-text token alone; `corpus` takes `min_tokens` to `max_tokens` tokens from
    a random place in the user's texts (their `text_field` is by default that of the audit);
    `few-shot` fills a template from a table of examples; `repeat` repeats one word.
    """

    model_config = STRICT

    kind: Literal["bos", "corpus", "few-shot", "repeat"] = setting(
        "What to continue: the start-of-text token, a piece of your text, examples or one word.",
        "bos",
    )
    corpus: Specs = setting("Texts to take the prefixes of `corpus` from.", ())
    text_field: str | None = setting(
        "The field that holds the text of these.  [default: that of the audit]", None
    )
    min_tokens: Million = setting("Minimum length of a prefix of `corpus`, in tokens.", 5)
    max_tokens: Million = setting("Maximum length of a prefix of `corpus`, in tokens.", 10)
    template: str | None = option(
        "Template for `few-shot`: text with {column} fields, or a built-in one: contacts, "
        "questions.",
        None,
        metavar="PATH",
    )
    examples: str | None = option(
        "Examples for `few-shot`: a CSV file with a header, or a built-in set.",
        None,
        metavar="PATH",
    )
    shots: Thousands = setting("Examples per prompt of `few-shot`.", 3)
    words: Specs = option("Word for `repeat`; repeatable.", (), flag="word")
    repeats: Million = setting("Times that `repeat` repeats its word.", 50)
    samples_per_prompt: Positive = option("Samples per prompt.", 1)
    chat_template: bool = option(CHAT_TEMPLATE, False)
    fill_gap: bool = option(
        "Let an encoder-decoder fill a gap after the prompt (default) or answer the prompt.",
        True,
        flag="fill-gap/--answer",
    )

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


# The paper's three (sections 4.2 and 5.1), two of later work, and unmodified sampling. TOML cannot
# unset what a preset sets, so `pure` is also the preset for strategies defined from scratch.
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
    name : also used in file names
    preset : a key of PRESETS, by default `name`
    **parts : `prompts` and `decoding`, the settings that differ from the preset

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
