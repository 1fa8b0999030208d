"""`--offline`, an option of every verb."""

from __future__ import annotations

import click

from auditor.system.offline import offline


def add_offline(command: click.Command) -> click.Command:
    """Add `--offline` to a command, or to all verbs of a group."""
    if isinstance(command, click.Group):
        for below in command.commands.values():
            add_offline(below)
    elif all(param.name != "offline" for param in command.params):
        command.params.append(_option())
    return command


def _option() -> click.Option:
    return click.Option(
        ["--offline"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_go_offline,
        help="Block all network access.",
    )


def _go_offline(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        ctx.with_resource(offline())
