"""What an audit is asked to do: frozen, checked on entry, from TOML or keywords."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from auditor.errors import ConfigError

_STRICT = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]


class Decoding(BaseModel):
    """How the next token is drawn from a model's logits.

    `temperature` holds after `temperature_steps` tokens; before, it falls in a straight line from
    `temperature_start` (first token) to it. Truncations apply in the order top_k, top_p, min_p,
    typical_p, after the repetition penalty and the temperature, as in transformers.
    """

    model_config = _STRICT

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
    from a random place of the user's texts; `few-shot` fills a template from a table of examples;
    `repeat` says one word `repeats` times.
    """

    model_config = _STRICT

    kind: Literal["bos", "corpus", "few-shot", "repeat"] = "bos"
    corpus: tuple[str, ...] = ()
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

    model_config = _STRICT

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


# The paper's three (section 4.2 and 5.1) and two of later work.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "top-n": {"prompts": {"kind": "bos"}, "decoding": {"top_k": 40}},
    "temperature": {
        "prompts": {"kind": "bos"},
        "decoding": {"temperature": 1.0, "temperature_start": 10.0, "temperature_steps": 20},
    },
    "internet": {"prompts": {"kind": "corpus"}, "decoding": {"top_k": 40}},
    "few-shot": {"prompts": {"kind": "few-shot"}, "decoding": {"top_k": 40}},
    "repeat": {"prompts": {"kind": "repeat"}, "decoding": {"top_k": 40}},
}


def strategy(name: str, *, preset: str | None = None, **parts: dict[str, Any]) -> Strategy:
    """A preset strategy, with parts of its prompts or decoding overridden.

    >>> strategy("top-n", decoding={"top_k": 10}).decoding.top_k
    10
    """
    base = PRESETS.get(preset or name)
    if base is None:
        raise ValueError(
            f"a strategy must be one of {', '.join(PRESETS)} or name one of them as its preset; "
            f"got {preset or name!r}"
            + _nearest(preset or name, PRESETS)
        )
    merged = {key: {**base.get(key, {}), **(parts.get(key) or {})} for key in ("prompts", "decoding")}
    return Strategy(name=name, **merged)


class AuditConfig(BaseModel):
    """One audit. Two configs with the same `digest` give the same run."""

    model_config = _STRICT

    model: str
    references: dict[str, str] = Field(default_factory=dict)
    strategies: tuple[Strategy, ...] = ()
    samples: Positive = 1000
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    corpus: tuple[str, ...] = ()
    text_field: str | None = None
    strict: bool = False
    top: Positive = 100
    min_match_tokens: Positive = 32
    min_match_chars: Positive = 100
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    bos: str | None = None
    truth: str | None = None
    shard_size: Positive = 512
    # How a run is made, not what it is: these three leave the digest alone.
    batch_size: Positive | None = None
    device: str = "auto"
    out: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        given = dict(given)
        given["references"] = _named_references(given.get("references", ()))
        everywhere = {k: given.pop(k, None) or {} for k in ("decoding", "prompts")}
        tables = given.pop("strategy", None) or {}
        names = given.get("strategies")
        wanted = list(names) if names else list(tables) or ["top-n"]
        given["strategies"] = tuple(_spelt(item, everywhere, tables) for item in wanted)
        for key in ("corpus",):
            if isinstance(given.get(key), str | Path):
                given[key] = (str(given[key]),)
        return given

    @model_validator(mode="after")
    def _sound(self):
        names = [s.name for s in self.strategies]
        if len(set(names)) < len(names):
            raise ValueError(f"each strategy may stand once; got {', '.join(names)}")
        if self.top > self.samples:
            raise ValueError(
                f"--top must be between 1 and the number of samples ({self.samples}); got "
                f"{self.top}. Lower --top or raise --samples"
            )
        for s in self.strategies:
            if s.prompts.kind == "corpus" and not s.prompts.corpus:
                raise ValueError(
                    f"strategy {s.name!r} takes its prefixes from your texts, and none were given. "
                    "Add --prompts FILE (a text file, JSONL or folder)"
                )
        return self

    @property
    def digest(self) -> str:
        """12 hex digits that stand for everything that decides a run's content."""
        text = json.dumps(self.identity(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def identity(self) -> dict[str, Any]:
        """Everything that decides a run's content, as plain data."""
        return self.model_dump(mode="json", exclude={"batch_size", "device", "out"})


def _spelt(item: Any, everywhere: dict, tables: dict) -> Any:
    """A strategy by name, with the overrides for all and for it."""
    if not isinstance(item, str):
        return item
    own = dict(tables.get(item, {}))
    preset = own.pop("preset", None)
    # A table may say `top_k = 10` straight away, or group it under prompts and decoding.
    parts: dict[str, dict] = {}
    for key, model in (("prompts", Prompts), ("decoding", Decoding)):
        flat = {k: own.pop(k) for k in list(own) if k in model.model_fields and k != key}
        parts[key] = {**everywhere[key], **flat, **own.pop(key, {})}
    if own:
        known = [*Prompts.model_fields, *Decoding.model_fields, "preset"]
        wrong = next(iter(own))
        raise ValueError(
            f"strategy {item!r} has no setting {wrong!r}{_nearest(wrong, known)}. "
            f"Settings there are: {', '.join(known)}"
        )
    return strategy(item, preset=preset, **parts)


def _named_references(given: Any) -> Any:
    """`["gpt2", "mid=gpt2-medium"]` as a mapping of names to specs."""
    if isinstance(given, dict):
        return given
    if isinstance(given, str):
        given = [given]
    named: dict[str, str] = {}
    for item in given or ():
        name, eq, spec = str(item).partition("=")
        if not eq:
            name, spec = Path(str(item)).name, str(item)
        if name in named:
            raise ValueError(f"two references are called {name!r}. Name them apart: NAME=SPEC")
        named[name] = spec
    return named


def _nearest(word: str, known: Any) -> str:
    close = difflib.get_close_matches(str(word), list(known), n=1)
    return f". Did you mean {close[0]!r}?" if close else ""


def make_config(given: dict[str, Any]) -> AuditConfig:
    """An AuditConfig, or a ConfigError of one sentence.

    >>> make_config({"model": "gpt2", "samples": 200}).strategies[0].name
    'top-n'
    """
    try:
        return AuditConfig.model_validate(given)
    except ValidationError as error:
        raise ConfigError(_sentence(error)) from None


def load_toml(path: str | Path) -> dict[str, Any]:
    """The settings of an audit file, unchecked."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such audit file. Give the path of a TOML file.") from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder. Give the path of a TOML file.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 ({error.reason}, byte {error.start}).") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}).") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}. Mend that place.") from None


def _sentence(error: ValidationError) -> str:
    """The first complaint of pydantic in the house's form: what, allowed, got, remedy."""
    first = error.errors()[0]
    where = ".".join(str(p) for p in first["loc"] if not isinstance(p, int)) or "the audit"
    got = first.get("input")
    if first["type"] == "missing":
        return f"{where} is missing. Name it, as in: auditor audit --{where} SPEC."
    if first["type"] == "extra_forbidden":
        known = [*AuditConfig.model_fields, "strategy", "decoding", "prompts"]
        word = str(first["loc"][-1])
        return f"An audit has no setting {word!r}{_nearest(word, known)}. Known: {', '.join(known)}."
    if first["type"] == "value_error":
        text = str(first["ctx"]["error"])
        return text if text.endswith((".", "?", ")")) else text + "."
    what = first["msg"].removeprefix("Input ").rstrip(".")
    return f"{where} {what}; got {got!r}. Change {where}."
