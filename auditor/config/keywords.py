"""Keywords of the public functions, generated from options models, and errors that name them."""

from __future__ import annotations

import functools
import inspect
import re
import textwrap
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel

from auditor.config.fields import flag_of, nearest
from auditor.config.sampling import Strategy
from auditor.errors import AuditError, ConfigError

F = TypeVar("F", bound=Callable)
_INDENT = "    "
# Flags that stand for a keyword of another name, where a function has that keyword.
_OTHER_NAMES = {"corpus": "specs", "preprefix": "use_preprefix"}
# A shell command within a message, which keeps its flags.
_COMMAND = r"\bauditor [a-z]+ (?:[^`.]|\.(?!\s|$))*"
# What may follow a flag in a message: a placeholder, a number, or a value that a message suggests.
_VALUE = r"[A-Z]{2,}\b|\d+(?:\.\d+)?\b|(?:gpt2|verified|internet|few-shot|repeat|local)\b"
# A setting of a table, which is a keyword of its own.
_IN_TABLE = re.compile(r"\b(?:decoding|prompts)\.([a-z_]+)")
_FLAG = re.compile(rf"({_COMMAND})|(`?)(?<![\w-])--([a-z][a-z0-9-]*)(?:[ =]({_VALUE}))?(`?)")


def with_keywords(*models: type[BaseModel], only: Collection[str] = ()) -> Callable[[F], F]:
    """A decorator: the fields of options models become the keywords of a function with `**options`.

    `inspect.signature`, `help` and the completion of a notebook show each with its type, default
    and help text. An unknown keyword is a ConfigError that suggests the nearest known one.

    Parameters
    ----------
    models : pydantic models; a field that is a parameter of the function keeps the function's own
    only : the fields to take from the models after the first; all, by default
    """

    def decorate(function: F) -> F:
        own = inspect.signature(function)
        first = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        taken = [p.name for p in first]
        fields: dict[str, Any] = {}
        for model in models:
            for name, field in model.model_fields.items():
                if name not in taken and (model is models[0] or not only or name in only):
                    fields.setdefault(name, field)
        known = [*taken, *fields]

        @functools.wraps(function)
        def checked(*args: Any, **given: Any) -> Any:
            if wrong := next((name for name in given if name not in known), None):
                hint = nearest(wrong, known) or f" Known: {', '.join(known)}."
                raise ConfigError(f"{function.__name__} has no keyword {wrong!r}.{hint}")
            return function(*args, **given)

        added = [_parameter(n, field, "config" in taken) for n, field in fields.items()]
        n_positional = sum(p.kind is not p.KEYWORD_ONLY for p in first)
        order = [*first[:n_positional], *added, *first[n_positional:]]
        checked.__signature__ = own.replace(parameters=order)  # type: ignore[attr-defined]
        flags = {
            flag_of(name, field): name
            for model in reversed(models)
            for name, field in model.model_fields.items()
            if name in known
        }
        checked._flags = flags  # type: ignore[attr-defined]
        checked.__doc__ = _documented(function.__doc__ or "", fields, keywords_of(checked))
        return checked  # type: ignore[return-value]

    return decorate


def _parameter(name: str, field: Any, has_config: bool) -> inspect.Parameter:
    """A field as a keyword; a required one may be left out if there is a config instead."""
    default = field.default
    if field.is_required():
        default = None if has_config else inspect.Parameter.empty
    elif isinstance(default, BaseModel):
        default = _Defaults(type(default))
    kind = _shown_type(field.annotation)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


class _Defaults:
    """The defaults of an options model, as a signature shows them."""

    def __init__(self, model: type[BaseModel]):
        self.model = model

    def __repr__(self) -> str:
        return f"{self.model.__name__}()"


def _shown_type(kind: Any) -> Any:
    """The type that a caller may pass, without validators.

    >>> _shown_type(tuple[Annotated[str, "a validator"], ...])
    collections.abc.Sequence[str]
    """
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _shown_type(inside[0])
    if origin is tuple:
        return Sequence[_shown_type(inside[0])]  # type: ignore[misc]
    if origin is dict:
        return Mapping[inside[0], inside[1]] | Sequence[str]  # type: ignore[valid-type]
    if origin in (Union, types.UnionType):
        return functools.reduce(lambda a, b: a | b, map(_shown_type, inside))
    if kind is Strategy:
        return str | Strategy
    if inspect.isclass(kind) and issubclass(kind, BaseModel):
        return kind | Mapping[str, Any]
    return kind


def _documented(docstring: str, fields: Mapping[str, Any], words: Mapping[str, str]) -> str:
    """A docstring with an entry for each field after the parameters."""
    text = inspect.cleandoc(docstring)
    lines = []
    for name, field in fields.items():
        default = "" if field.is_required() else _default_text(field.default)
        lines.append(f"{name} : {_type_text(_shown_type(field.annotation))}{default}")
        told = in_python_words(_help_text(field), words)
        lines += textwrap.wrap(told, 96, initial_indent=_INDENT, subsequent_indent=_INDENT)
    before, mark, after = text.partition("\n\nReturns\n")
    return "\n".join([before, *lines]) + mark + after


def _help_text(field: Any) -> str:
    """The help text of a field without what is said for the command line only."""
    kind = field.annotation
    text = field.description or ""
    if not text and inspect.isclass(kind) and issubclass(kind, BaseModel):
        text = (inspect.getdoc(kind) or "").partition("\n")[0]
    text = text.replace("; repeatable.", ".").replace("; repeatable for a sweep.", ", or several.")
    return re.sub(r"  \[default: (.*)\]$", r" Default: \1.", text)


def _default_text(default: Any) -> str:
    if default is None or default in ((), {}) or isinstance(default, BaseModel):
        return ""
    return f", default {default!r}"


def _type_text(kind: Any) -> str:
    """A type as a docstring names it.

    >>> _type_text(Sequence[Literal["a", "b"]] | None)
    "sequence of 'a' | 'b' | None"
    """
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " | ".join(map(_type_text, inside))
    if origin is Literal:
        return " | ".join(map(repr, inside))
    if origin is Sequence:
        return f"sequence of {_type_text(inside[0])}"
    if origin is Mapping:
        return "mapping"
    return "None" if kind is type(None) else getattr(kind, "__name__", str(kind))


# ------------------------------------------------------------------------------ errors
def keywords_of(function: Callable) -> dict[str, str]:
    """The keyword of a function for each flag, as `name`, or `name=True` of a boolean one."""
    words: dict[str, str] = {}
    flags: dict[str, str] = dict(getattr(function, "_flags", {}))
    parameters = inspect.signature(function).parameters
    for name in parameters:
        flags.setdefault("--" + name.replace("_", "-"), name)
        flags.setdefault("--" + name.removesuffix("s").replace("_", "-"), name)
    for flag, name in _OTHER_NAMES.items():
        if name in parameters:
            flags.setdefault(f"--{flag}", name)
    for flag, name in flags.items():
        yes, _, no = flag.partition("/")
        if isinstance(parameters[name].default, bool) or no:
            words.setdefault(yes, f"{name}=True")
            words.setdefault(no or "--no" + yes[1:], f"{name}=False")
        else:
            words.setdefault(yes, name)
    return words


def in_python_words(sentence: str, words: Mapping[str, str]) -> str:
    """A sentence with the flags of the command line replaced by keywords.

    A flag without a keyword, and the flags within a command, stay.

    >>> words = {"--top-k": "top_k", "--strict": "strict=True"}
    >>> in_python_words("--top-k must be at least 1. Use --top-k 40, or --strict.", words)
    '`top_k` must be at least 1. Use `top_k=40`, or `strict=True`.'
    >>> in_python_words("Run: auditor audit --top-k 40. Or lower --top-k.", words)
    'Run: auditor audit --top-k 40. Or lower `top_k`.'
    """

    def replaced(match: re.Match) -> str:
        command, _, flag, value, closing = match.groups()
        word = words.get(f"--{flag}")
        if command or word is None:
            return match[0]
        if value and "=" in word:
            return f"`{word}` {value}{closing}"
        if value:
            is_name = value[0].islower()
            word = f'{word}="{value}"' if is_name else f"{word}={value}"
        return f"`{word}`"

    return _FLAG.sub(replaced, sentence)


def with_python_errors(function: F) -> F:
    """The function with errors that name its keywords instead of the flags of the command line."""
    words = keywords_of(function)

    @functools.wraps(function)
    def called(*args: Any, **given: Any) -> Any:
        try:
            return function(*args, **given)
        except AuditError as error:
            told = in_python_words(str(error), words)
            told = _IN_TABLE.sub(lambda m: m[1] if m[1] in words.values() else m[0], told)
            error.args = (told, *error.args[1:])
            raise

    return called  # type: ignore[return-value]
