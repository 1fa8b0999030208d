"""`--quiet` and `--verbose`: how much a verb says on stderr besides errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from auditor.cli.printing import say

if TYPE_CHECKING:
    from auditor.system.progress import NullProgress

_KEY = "auditor.verbosity"


def verbosity(function: Callable) -> Callable:
    """Add `--quiet` and `--verbose` to a verb that reports progress or what to do next."""
    for flags, level, text in (
        (("-v", "--verbose"), 1, "Also print throughput and all tables."),
        (("-q", "--quiet"), -1, "Print results and errors only, without progress and notes."),
    ):
        function = click.option(
            *flags, is_flag=True, expose_value=False, callback=_stored(level), help=text
        )(function)
    return function


def _stored(level: int) -> Callable:
    def store(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if not value:
            return
        if ctx.meta.setdefault(_KEY, level) != level:
            raise click.UsageError("--quiet and --verbose exclude each other. Remove one.")

    return store


def level() -> int:
    """-1 with --quiet, 1 with --verbose, otherwise 0."""
    ctx = click.get_current_context(silent=True)
    return 0 if ctx is None else ctx.meta.get(_KEY, 0)


def shown_progress() -> NullProgress:
    """The progress display of the current command."""
    from auditor.system.progress import for_terminal

    return for_terminal(level())


def remark(sentence: object) -> None:
    """Print a remark on stderr, unless --quiet is given."""
    if level() >= 0:
        say(sentence, err=True)


def say_next(command: str) -> None:
    """Print what to do next as one line on stderr, unless --quiet is given."""
    remark(f"Next: {command}")
