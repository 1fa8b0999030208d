"""Click options generated from the fields of an options model."""

from __future__ import annotations

import types
from collections.abc import Callable, Collection
from typing import Annotated, Any, Union, get_args, get_origin

import click
from pydantic import BaseModel

from auditor.config.fields import flag_of


def options_of(
    model: type[BaseModel],
    *,
    only: Collection[str] = (),
    exclude: Collection[str] = (),
    is_required: bool = True,
    shows_defaults: bool = True,
) -> Callable:
    """A decorator that adds an option for each field with a help text, in their order.

    An option that is not given is None or (), so that the default of the model applies.

    Parameters
    ----------
    model : pydantic model, fields made by `auditor.config.fields.option`
    only, exclude : names of fields to use, or to leave out
    is_required : a field without a default is a required option
    shows_defaults : whether the help names the defaults
    """
    fields = [
        name
        for name, field in model.model_fields.items()
        if field.description and flag_of(name, field) != "--"
        if (not only or name in only) and name not in exclude
    ]

    def decorate(function: Callable) -> Callable:
        for name in reversed(fields):
            function = _option(name, model.model_fields[name], is_required, shows_defaults)(
                function
            )
        return function

    return decorate


def given_options(values: dict[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in values.items() if value not in (None, ())}


def flags_of(names: Collection[str]) -> str:
    """The flags of the current command's parameters, as an error lists them."""
    known = {p.name: p.opts[0] for p in click.get_current_context().command.params}
    return ", ".join(known[name] for name in names)


json_option = click.option(
    "--json", "as_json", is_flag=True, default=None, help="Print the results as JSON."
)


def _option(name: str, field: Any, is_required: bool, shows_defaults: bool) -> Callable:
    kind, multiple = _kind(field.annotation)
    flag, help_text = flag_of(name, field), field.description
    required = is_required and field.is_required()
    alias = _shown_of(field).get("alias")
    names = [flag, f"--{alias}"] if alias else [flag]
    if kind is bool:
        settings: dict[str, Any] = {"is_flag": True, "default": None}
    else:
        metavar = _shown_of(field).get("metavar")
        settings = {"type": kind, "multiple": multiple, "metavar": metavar}
        if shows_defaults and not field.is_required() and field.default not in (None, (), {}):
            help_text += f"  [default: {_shown(field.default)}]"
    settings |= {"cls": _Option, "required": required, "help": help_text}
    return click.option(*names, name, **settings)


def _shown_of(field: Any) -> dict[str, str]:
    return field.json_schema_extra or {}


class _Option(click.Option):
    """An option whose help shows its first name only; an alias is an earlier name."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        names, self.opts = self.opts, self.opts[:1]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = names


def _shown(default: Any) -> str:
    if isinstance(default, tuple):
        return ", ".join(map(_shown, default))
    return f"{default:g}" if isinstance(default, float) else str(default)


def _kind(annotation: Any) -> tuple[type, bool]:
    """The type of a value, and whether the option is repeatable."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(inside[0])
    if origin is tuple:
        return _kind(inside[0])[0], True
    if origin is dict:
        return str, True
    if origin in (Union, types.UnionType):
        return _kind(next(part for part in inside if part is not types.NoneType))
    is_plain = annotation in (bool, int, float)
    return (annotation if is_plain else str), False
