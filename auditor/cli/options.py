"""The options of an audit, and how they override an audit file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from auditor.cli.generated import given_options, options_of
from auditor.config.audit import SETTINGS, AuditConfig, Decoding, Prompts, make_config
from auditor.config.audit_file import load_toml
from auditor.config.flag_names import by_table
from auditor.errors import ConfigError

_PROMPTS = ("template", "examples", "words", "samples_per_prompt", "fill_gap")
# Flag -> the kind of prompts that uses it, and the preset of that kind.
_NEEDS = {
    "prompts": ("corpus", "internet"),
    "template": ("few-shot", "few-shot"),
    "examples": ("few-shot", "few-shot"),
    "words": ("repeat", "repeat"),
}
_FIRST = ("model", "references", "strategies", "samples", "corpus", "index", "text_field", "strict")

_GROUPS: list[Callable] = [
    click.argument("file", required=False, type=click.Path()),
    options_of(AuditConfig, only=_FIRST, is_required=False),
    click.option(
        "--prompts",
        multiple=True,
        metavar="PATH",
        help="Texts to take `internet` prefixes from, or a built-in set: openings.",
    ),
    options_of(Prompts, only=_PROMPTS),
    options_of(Decoding),
    options_of(AuditConfig, exclude=_FIRST),
]


def audit_options(function: Callable) -> Callable:
    """Add all options of an audit to a verb."""
    for group in reversed(_GROUPS):
        function = group(function)
    return function


def config_from(file: str | None, flags: dict[str, Any]) -> AuditConfig:
    """The config of an audit file and flags; flags override the file.

    A flag for prompts or decoding applies to every strategy; an audit file can set them for one.
    """
    from_file = by_table(load_toml(file)) if file else {}
    _refuse_flags_alone(from_file)
    given = by_table(given_options(flags))
    for name in ("decoding", "prompts"):
        table = given.pop(name, {})
        if table and isinstance(from_file.get(name, {}), dict):
            from_file[name] = {**from_file.get(name, {}), **table}
            _remove_overridden(from_file.get("strategy"), name, table)
    config = make_config({**from_file, **given})
    _check_used(config, flags)
    return config


def _refuse_flags_alone(from_file: dict[str, Any]) -> None:
    """Refuse an option of the command line that no audit file can set, such as --json."""
    context = click.get_current_context(silent=True)
    flags = {flag for param in context.command.params for flag in param.opts} if context else ()
    for name in from_file:
        flag = f"--{name.replace('_', '-')}"
        if name not in SETTINGS[""] and flag in flags:
            raise ConfigError(
                f"An audit file cannot set {name}. Remove it, and give {flag} on the command line."
            )


def _remove_overridden(strategies: Any, name: str, table: dict[str, Any]) -> None:
    """Remove what flags override from the file's own tables of strategies, flat or grouped."""
    if not isinstance(strategies, dict):
        return
    for own in strategies.values():
        grouped = own.get(name) if isinstance(own, dict) else None
        for settings in (own, grouped):
            if isinstance(settings, dict):
                for key in set(settings) & set(table):
                    del settings[key]


def _check_used(config: AuditConfig, flags: dict[str, Any]) -> None:
    """Refuse a flag that no strategy uses."""
    kinds = {s.prompts.kind for s in config.strategies}
    for flag, (kind, preset) in _NEEDS.items():
        if flags.get(flag) and kind not in kinds:
            shown = "--word" if flag == "words" else f"--{flag}"
            raise ConfigError(
                f"{shown} needs a strategy of the kind {preset!r}; got "
                f"{', '.join(s.name for s in config.strategies)}. Add --strategy {preset}, or "
                f"remove {shown}."
            )
