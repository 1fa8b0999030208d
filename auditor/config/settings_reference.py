"""Every setting of an audit file: a commented file for `auditor init`, and a page of the docs.

`python -m auditor.config.settings_reference > docs/audit_file.md` writes the page.
"""

from __future__ import annotations

import re
import textwrap
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import tomli_w
from pydantic import BaseModel

from auditor.config.audit import AuditConfig, Decoding, Prompts
from auditor.config.fields import flag_of
from auditor.config.gates import Gates, Notify, Schedule
from auditor.config.served import Served

# Table -> its options model, and a sentence on it.
TABLES: dict[str, tuple[type[BaseModel], str]] = {
    "": (AuditConfig, "These stand at the top of the file, before the first table."),
    "decoding": (
        Decoding,
        (
            "How tokens are drawn, for all strategies. Some strategies have defaults of their own: "
            "top-n, internet, few-shot and repeat set top_k = 40; temperature sets "
            "temperature_start = 10."
        ),
    ),
    "prompts": (Prompts, "What the samples continue, for all strategies."),
    "served": (Served, "The server, where the model is a URL."),
    "gates": (Gates, "Limits on the results. If one is exceeded, the exit code is 3."),
    "notify": (Notify, "Notifications at the end of a run."),
    "schedule": (Schedule, "When the file runs with `auditor schedule FILE`."),
}
# The settings that a new file sets; the others are comments.
ESSENTIAL = {"model": "", "samples": 1000, "strategies": ["top-n"], "corpus": []}
_WIDTH = 96

_PAGE = """\
# The audit file

An audit file (TOML) holds the settings of an audit. `auditor init` writes one with all settings as
comments; `auditor audit audit.toml` runs it, and flags override it. Every run keeps the settings
that determine its results, and its gates, as `audit.toml` in its folder: `auditor audit
RUN/audit.toml --out DIR` repeats it, from the same working directory.

A setting of `[decoding]` or `[prompts]` that has a flag can also stand at the top of the file,
under the name of the flag: `top_k = 40`. A table `[strategy.NAME]` holds the settings of one
strategy: those of `[decoding]` and `[prompts]`, and `preset`, the strategy that it is based on (by
default the one called NAME). They take precedence over those of all strategies.

```toml
model = "gpt2"
strategies = ["top-n", "cold"]
max_new_tokens = 128

[strategy.cold]
preset = "top-n"
temperature = 0.7
```

This page is generated from the options by `make docs`.
"""
_FILE = """\
# Settings of a memorization audit. Run it with: auditor audit {file}
#
# Fill in the model, and the training text if you have it. A line that begins with # and the name of
# a setting shows its default: remove the # to change it. Flags of the command override this file.
"""
_STRATEGY = """\
# Settings of one strategy, which take precedence over [decoding] and [prompts]. Name the strategy
# in strategies.
#[strategy.cold]
#preset = "top-n"
#temperature = 0.7
"""


@dataclass(frozen=True)
class Setting:
    """A setting: its name, type in words, default as TOML or in words, flag ("" if none), help."""

    name: str
    kind: str
    default: str
    flag: str
    help: str


def settings_of(model: type[BaseModel]) -> list[Setting]:
    """The settings of an options model, in its order, without its tables.

    >>> settings_of(Schedule)[2].kind
    '`same` or `new`'
    """
    return [_setting(name, f) for name, f in model.model_fields.items() if f.description]


def _setting(name: str, field: Any) -> Setting:
    text, _, stated = field.description.partition("  [default: ")
    default = stated.removesuffix("]") or _toml(field.get_default())
    flag = flag_of(name, field).partition("/")[0].removesuffix("--")
    text = text.replace("; repeatable", "")
    return Setting(name, _kind(field.annotation), _unflagged(default), flag, _unflagged(text))


def _unflagged(text: str) -> str:
    """Names of settings in place of flags."""
    return re.sub(r"--([a-z][a-z-]+)", lambda flag: flag[1].replace("-", "_"), text)


def _toml(value: Any) -> str:
    """A value as TOML; "" if it is not set."""
    if value is None or type(value).__name__ == "PydanticUndefinedType":
        return ""
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return tomli_w.dumps({"x": value}).strip().partition(" = ")[2] if value != {} else "{}"


def _kind(annotation: Any) -> str:
    """A type in words."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(inside[0])
    if origin in (Union, types.UnionType):
        return _kind(next(part for part in inside if part is not types.NoneType))
    if origin is Literal:
        *others, last = (f"`{value}`" for value in inside)
        return f"{', '.join(others)} or {last}" if others else last
    if origin is tuple:
        each = _kind(inside[0])
        return f"list of {each if each.startswith('`') else each + 's'}"
    names = {bool: "true or false", int: "whole number", float: "number", dict: "list or table"}
    return names.get(origin or annotation, "text")


def audit_file(values: Mapping[str, Any] | None = None, *, file: str = "audit.toml") -> str:
    """A commented audit file: every setting with a line of help.

    Parameters
    ----------
    values : the settings that are given, as plain data; the others are comments, except the model,
        the samples, the strategies and the corpus
    file : its name, as the first line gives it

    >>> 'model = "gpt2"' in audit_file({"model": "gpt2"}).splitlines()
    True
    """
    given = {**ESSENTIAL, **(values or {})}
    parts = [_FILE.format(file=file)]
    for table, (model, about) in TABLES.items():
        if table:
            parts.append(f"{_comment(about)}\n[{table}]\n")
        own = {} if table else given
        parts += [f"{_comment(s.help)}\n{_line(s, own)}\n" for s in settings_of(model)]
        if table == "prompts":
            parts.append(_STRATEGY)
    return "\n".join(parts)


def _comment(text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent="# ", subsequent_indent="# ")


def _is_toml(default: str) -> bool:
    """Whether a default is a value and not words."""
    return re.fullmatch(r'[-\d.]+|true|false|".*"|\[.*\]|\{\}', default) is not None


def _line(setting: Setting, given: Mapping[str, Any]) -> str:
    if setting.name in given:
        return f"{setting.name} = {_toml(given[setting.name])}"
    if _is_toml(setting.default):
        return f"#{setting.name} = {setting.default}"
    # Without a value this is not TOML: removing the # alone is an error that names the line.
    return f"#{setting.name} =    # {setting.default or 'not set'}"


def page() -> str:
    """The reference of all settings as Markdown.

    >>> page().startswith("# The audit file")
    True
    """
    return "\n".join([_PAGE, *(_section(table, *rest) for table, rest in TABLES.items())])


def _section(table: str, model: type[BaseModel], about: str) -> str:
    lines = [f"## {f'[{table}]' if table else 'Top of the file'}", "", about, ""]
    lines += ["| setting | type | default | flag | meaning |", "| --- | --- | --- | --- | --- |"]
    for s in settings_of(model):
        default = f"`{s.default}`" if _is_toml(s.default) else s.default
        meaning = re.sub(r"`(auditor [a-z ]+)`", r"\1", s.help)  # a verb, not a whole command
        cells = (f"`{s.name}`", s.kind, default, f"`{s.flag}`" if s.flag else "", meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    print(page(), end="")
