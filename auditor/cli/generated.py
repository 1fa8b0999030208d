"""Click options made from the fields of an options model."""

from __future__ import annotations

import types
from collections.abc import Callable, Collection
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click

from auditor.config.fields import Options


def options_of(
    model: type[Options], *, only: Collection[str] = (), but: Collection[str] = ()
) -> Callable:
    """A decorator: an option for each field of a model, in their order.

    An option that is not given is None or (), so that the model's default holds.

    Parameters
    ----------
    model : with fields made by `auditor.config.fields.option`
    only, but : names of fields; all, by default
    """
    fields = [n for n in model.model_fields if (not only or n in only) and n not in but]

    def decorate(function: Callable) -> Callable:
        for name in reversed(fields):
            function = _option(name, model.model_fields[name])(function)
        return function

    return decorate


def given_options(values: dict[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in values.items() if value not in (None, ())}


def _option(name: str, field: Any) -> Callable:
    extra = field.json_schema_extra or {}
    kind, multiple = _kind(field.annotation)
    words = field.description
    if not field.is_required() and field.default not in (None, ()) and kind is not bool:
        words += f"  [default: {field.default}]"
    settings: dict[str, Any] = {"is_flag": True, "default": None} if kind is bool else {}
    if kind is not bool:
        settings = {"type": kind, "multiple": multiple, "metavar": extra.get("metavar")}
    flag = "--" + extra.get("flag", name).replace("_", "-")
    return click.option(flag, name, required=field.is_required(), help=words, **settings)


def _kind(annotation: Any) -> tuple[type, bool]:
    """The type of one value, and whether there are several."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(inside[0])
    if origin is tuple:
        return _kind(inside[0])[0], True
    if origin in (Union, types.UnionType):
        return _kind(next(part for part in inside if part is not types.NoneType))
    return (str if origin is Literal else annotation), False
