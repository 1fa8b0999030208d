"""Output of the command; text of models and files is printed without control characters."""

from __future__ import annotations

import json
from typing import Any

import click

from reports.safe_text import visible


def say(text: object, *, err: bool = False) -> None:
    """Print text on stdout (or stderr), with its control characters as escapes."""
    click.echo(plain(text), err=err)


def plain(text: object) -> str:
    """Text with its control characters as escapes, except line feeds."""
    return visible(str(text), keep_newlines=True, double_backslash=False)


def print_json(value: object) -> None:
    """Print a value as JSON, with sorted keys."""
    click.echo(json.dumps(value, indent=2, sort_keys=True))


def records(frame) -> list[dict[str, Any]]:
    """The rows of a frame as plain data; a missing value is null."""
    return json.loads(frame.to_json(orient="records", double_precision=15))
