"""`auditor init`: write a commented audit file."""

from __future__ import annotations

import click

from auditor.cli.generated import given_options, options_of
from auditor.cli.printing import say
from auditor.config.audit import AuditConfig

_GIVEN = ("model", "references", "strategies", "samples", "corpus")


@click.command()
@click.argument("file", default="audit.toml", type=click.Path())
@options_of(AuditConfig, only=_GIVEN, is_required=False)
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
def init(file, overwrite, **flags) -> None:
    """Write an audit file with every setting, its default and a line of help.

    The model, the samples, the strategies and the training text are set, the rest are comments.

    \b
    auditor init
    auditor init legal.toml --model gpt2 --corpus training-text/
    auditor audit legal.toml
    """
    from pathlib import Path

    from auditor.config.audit import make_config
    from auditor.config.settings_reference import audit_file
    from auditor.errors import RunError
    from auditor.system.atomic_files import disk_trouble, write_atomically

    given, path = given_options(flags), Path(file)
    make_config({"model": "model", **given, **_placeholders(given)})
    if path.exists() and not overwrite:
        raise RunError(f"{path} exists. Choose another name, or replace it with --overwrite.")
    with disk_trouble(path):
        write_atomically(path, audit_file(given, file=file).encode())
    then = "run it" if "model" in given else "fill in the model, then run it"
    say(f"{path} was written. Next, {then}: auditor audit {path}")


def _placeholders(given):
    """What the strategies need and a file can get later."""
    return {"prompts": {"corpus": ["."]}} if "internet" in given.get("strategies", ()) else {}
