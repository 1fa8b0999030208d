"""Output of the command; text of models and files is printed without control characters."""

from __future__ import annotations

import codecs
import io
import json
import sys
from typing import Any

import click

from reports.safe_text import visible

# What the command's own sentences use beyond ASCII.
_ASCII = str.maketrans(
    {
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
        **dict.fromkeys("\u2018\u2019", "'"),
        **dict.fromkeys("\u201c\u201d", '"'),
        **dict.fromkeys("\u00a0\u2009\u202f", " "),
        "\u2026": "...",
        "\u00d7": "x",
        "\u2192": "->",
        "\u2264": "<=",
        "\u2265": ">=",
    }
)


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """An error handler of codecs: the nearest ASCII characters, or escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_ASCII)
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end


def make_printable() -> None:
    """Let stdout and stderr replace what their encoding cannot represent, if it is not UTF-8."""
    codecs.register_error("auditor.ascii", _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and codecs.lookup(stream.encoding).name != "utf-8":
            stream.reconfigure(errors="auditor.ascii")


def say(text: object = "", *, err: bool = False) -> None:
    """Print text on stdout (or stderr), with its control characters as escapes."""
    # Without a file, click writes UTF-8 to an ASCII stream.
    click.echo(plain(text), file=sys.stderr if err else sys.stdout)


def is_verbose() -> bool:
    """Whether --verbose was given."""
    context = click.get_current_context(silent=True)
    return context is not None and context.meta.get("auditor.verbosity", 0) > 0


def plain(text: object) -> str:
    """Text with its control characters as escapes, except line feeds."""
    return visible(str(text), keep_newlines=True, double_backslash=False)


def print_json(value: object) -> None:
    """Print a value as JSON, with sorted keys."""
    click.echo(json.dumps(value, indent=2, sort_keys=True))


def records(frame) -> list[dict[str, Any]]:
    """The rows of a frame as plain data; a missing value is null."""
    return json.loads(frame.to_json(orient="records", double_precision=15))
