"""The options of a command as pydantic fields, each with its help text and flag."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError, PydanticUndefined

from auditor.errors import ConfigError

STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def no_bool(value: Any) -> Any:
    """Refuse a boolean as a number: `samples = true` is a mistake, but Python counts it as 1."""
    if isinstance(value, bool):
        raise PydanticCustomError("int_type", "must be a whole number")
    return value


Whole = Annotated[int, BeforeValidator(no_bool)]
# Every number has an upper bound, far above sensible values, so that a slip is refused at once
# instead of using up the memory.
Positive = Annotated[Whole, Field(ge=1, le=10**9)]
Count = Annotated[Whole, Field(ge=0, le=10**9)]
Million = Annotated[Whole, Field(ge=1, le=10**6)]
Thousands = Annotated[Whole, Field(ge=1, le=10**4)]
Seed = Annotated[int, BeforeValidator(no_bool), Field(ge=0, lt=2**63)]


def no_greedy(value: Any) -> Any:
    """Refuse a temperature of 0, which usually means greedy decoding."""
    if value in (0, "0", "0.0"):
        raise PydanticCustomError("greedy", "must be above 0")
    return value


def _dtype_name(value: Any) -> Any:
    """The name of a number format, given one of its other usual names or a torch.dtype."""
    name = str(value).removeprefix("torch.")
    return _DTYPE_ALIASES.get(name, name)


_DTYPE_ALIASES = {
    **dict.fromkeys(("fp16", "half", "f16"), "float16"),
    **dict.fromkeys(("bf16",), "bfloat16"),
    **dict.fromkeys(("fp32", "float", "f32", "full"), "float32"),
}
AnyDtypeName = BeforeValidator(_dtype_name)


def _path_text(value: Any) -> Any:
    return str(value) if isinstance(value, PurePath) else value


def _specs(value: Any) -> Any:
    return (value,) if isinstance(value, str | PurePath) else value


PathText = Annotated[str, BeforeValidator(_path_text)]
# One path or spec, or several.
Specs = Annotated[tuple[PathText, ...], BeforeValidator(_specs)]
Above0 = Annotated[float, Field(gt=0, le=10**6)]
Temperature = Annotated[Above0, BeforeValidator(no_greedy)]
Share = Annotated[float, Field(gt=0, le=1)]

TEXT_FIELD = (
    "The field that holds the text: NAME, NAME+NAME, or the path of a nested one, such as "
    "translation.en or messages[].content (the text of each element of the list, joined by "
    "newlines)."
)
MASKED = (
    "Manifest of canaries whose secrets are masked, besides those whose manifest is known; "
    "repeatable."
)
BOS = "BOS token to use in place of that of the model, and for references that have none."
DTYPE = "Number format of the weights: auto, float32, bfloat16 or float16."
DEVICE = "Device: auto, cpu, cuda, or balanced (the layers spread over all GPUs)."
CHAT_TEMPLATE = (
    "Put each prompt into the model's chat template, as a user's message that the model answers."
)
PLL = "Masked models: what is masked with a token: the rest of its word (word-l2r) or original."
REVEAL = "Show personal data in the report and CSV."


# Options added later, with defaults that change nothing: left out of a config's identity, so that
# the digests of earlier runs stay.
_ADDED: dict[str, Any] = {
    "chat_template": False,
    "fill_gap": True,
    "pll": "word-l2r",
    "chain": "gibbs",
    "sweeps": 5,
    **dict.fromkeys(("served_model", "tokenizer", "api_key_env")),
    "chat": False,
    "served": {},
}


def as_before(settings: Any) -> Any:
    """Settings as plain data without the later options that have their defaults, at any depth.

    >>> as_before({"kind": "bos", "chat_template": False})
    {'kind': 'bos'}
    """
    if isinstance(settings, dict):
        plain = {k: as_before(v) for k, v in settings.items()}
        return {k: v for k, v in plain.items() if k not in _ADDED or v != _ADDED[k]}
    return [as_before(v) for v in settings] if isinstance(settings, list) else settings


Pll = Literal["word-l2r", "original"]


def option(text: str, default: Any = PydanticUndefined, **shown: str) -> Any:
    """A field with its help text; `flag` and `metavar` if the command line has others.

    `alias` is an earlier name of the flag, which still works.

    The flag of a boolean may name both states: "from-start/--anywhere".
    """
    return Field(default, description=text, json_schema_extra=dict(shown))


def setting(text: str, default: Any) -> Any:
    """A field of an audit file that is not an option of the command line, with its help text."""
    return option(text, default, flag="")


class Options(BaseModel):
    """Options of a command; an invalid one is a ConfigError that names the flag."""

    model_config = STRICT

    def __init__(self, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise ConfigError(
                first_error(error, self._label, {"": type(self).model_fields})
            ) from None

    @classmethod
    def _label(cls, path: list[str]) -> str:
        name = path[-1]  # of a nested model: its options are flags as well
        return flag_of(name, cls.model_fields.get(name)).partition("/")[0]


def flag_of(name: str, field: Any) -> str:
    """The flag of a field: "--top-k", or "--strict/--no-strict"."""
    shown = getattr(field, "json_schema_extra", None) or {}
    return "--" + shown.get("flag", name).replace("_", "-")


_BOUNDS = {
    "greater_than_equal": ("at least", "ge", "Raise"),
    "greater_than": ("above", "gt", "Raise"),
    "less_than_equal": ("at most", "le", "Lower"),
    "less_than": ("below", "lt", "Lower"),
}
# By the beginnings of pydantic's error types.
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "string_unicode": "valid Unicode (not, for example, a file name that is not UTF-8)",
    "string_too": "not empty",
    "string": "text",
    "tuple": "a list",
    "dict": "a table",
    "model": "a table, or the name of a strategy",
}


def first_error(
    error: ValidationError,
    label: Callable[[list[str]], str],
    known: Mapping[str, Iterable[str]],
) -> str:
    """The first complaint of pydantic as a sentence: what, allowed, got, remedy.

    Parameters
    ----------
    error : ValidationError
    label : names a field, given the names on the path to it
    known : the fields of each table; "" is the whole
    """
    # An unknown setting may be the misspelt name of a missing one, so it is named before that.
    errors = error.errors()
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    kind, path = first["type"], [str(p) for p in first["loc"] if not isinstance(p, int)]
    if kind == "value_error":
        text = str(first["ctx"]["error"])
        return text if text.endswith((".", "?")) else text + "."
    if kind == "extra_forbidden":
        *parents, word = path
        table = parents[-1] if parents else ""
        full = f"{table}.{word}" if table else word
        return f"Unknown setting {full}.{place_of(word, table, known)}"
    name = label(path)
    if kind == "missing":
        example = (
            "Name it with --model SPEC, as in: --model gpt2." if path == ["model"] else "Add it."
        )
        return f"{name} is missing. {example}"
    if kind == "too_short":
        return f"{name} must be given at least once; got none. Add {name}."
    got = cut(first.get("input"))
    if kind in _BOUNDS:
        word, key, remedy = _BOUNDS[kind]
        limit = first["ctx"][key]
        limit = f"{limit:g}" if isinstance(limit, float) and limit < 10**4 else f"{limit:,.0f}"
        return f"{name} must be {word} {limit}; got {got}. {remedy} {name}."
    if kind == "greedy":
        return (
            f"{name} must be above 0; got {got}. For greedy decoding, set top_k to 1 (--top-k 1) "
            f"and leave out {name}."
        )
    if kind == "literal_error":
        return f"{name} must be {first['ctx']['expected']}; got {got}. Choose one of these."
    if path == ["model"] and kind == "string_too_short":
        return "model must be not empty; got ''. Name a model, such as gpt2."
    allowed = next((text for start, text in _KINDS.items() if kind.startswith(start)), None)
    return f"{name} must be {allowed or first['msg']}; got {got}. Change {name}."


def place_of(word: str, table: str, known: Mapping[str, Iterable[str]]) -> str:
    """Sentences on where an unknown setting of a table belongs, or on what it may have meant.

    >>> place_of("cron", "", {"": ["model"], "schedule": ["cron"]})
    ' It belongs in the table [schedule].'
    """
    names = [*known.get(table, known[""])]
    if table and word in known[""]:
        return " It belongs at the top of the file, before the first table."
    if homes := [f"[{name}]" for name in known if name != table and word in known[name]]:
        return f" It belongs in the table {' or '.join(homes)}."
    everywhere = [*names, *(name for table in known.values() for name in table)]
    return nearest(word, everywhere) or f" Known: {', '.join(names)}."


def nearest(word: str, known: Iterable[str]) -> str:
    """A question that suggests the known word nearest to an unknown one, or nothing."""
    close = difflib.get_close_matches(str(word), list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def cut(value: object) -> str:
    """A value as an error shows it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
