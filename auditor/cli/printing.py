"""Text on its way to a terminal: what a model, a file's name or its content says stays text."""

from __future__ import annotations

import click

from reports.safe_text import visible


def say(text: object, *, err: bool = False) -> None:
    """A line on stdout (or stderr), control characters shown instead of sent."""
    click.echo(plain(text), err=err)


def plain(text: object) -> str:
    """Text with its control characters as escapes; line feeds stay."""
    return visible(str(text), keep_newlines=True, double_backslash=False)
