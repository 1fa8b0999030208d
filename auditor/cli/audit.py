"""`auditor audit` and `auditor sample`."""

from __future__ import annotations

import click

from auditor.cli.options import audit_flags, config_from
from auditor.cli.printing import say

# What a run is resumed with may differ from how it was begun in these alone.
_FREE = ("workers", "ray", "batch_size", "device", "reveal", "price_per_hour")


@click.command()
@audit_flags
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--resume", metavar="RUN", help="Resume a run with its own options.")
def audit(file, as_json, resume, **flags) -> None:
    """Run a whole audit: sample, score, rank, verify and report.

    FILE is an audit file (TOML). Any option can be set in it; flags override it. An interrupted
    audit is resumed by the same command. The table [gates] of the file sets limits; if one is
    exceeded, the exit code is 3.

    \b
    auditor audit --model gpt2-xl --reference gpt2 --reference gpt2-medium --samples 200000
    auditor audit --model smollm2 --samples 256 --corpus /usr/share/common-licenses
    auditor audit audit.toml --samples 50000
    """
    from auditor.cli.show import show_judged
    from auditor.gates.gated_audit import audit_and_judge
    from auditor.scheduling.loop import interruptible
    from auditor.system.progress import for_terminal

    config = _config(file, flags, resume)
    with interruptible():
        judged = audit_and_judge(config, progress=for_terminal())
    show_judged(judged, as_json=as_json)
    judged.check()


@click.command()
@audit_flags
@click.option("--resume", metavar="RUN", help="Resume a run with its own options.")
def sample(file, resume, **flags) -> None:
    """Run the first stage only: sample text from the model into a run folder.

    Continue with `auditor score RUN`, or with `auditor audit --resume RUN` for all other stages.
    """
    from auditor.audit.pipeline import run_audit
    from auditor.system.progress import for_terminal

    config = _config(file, flags, resume)
    say(run_audit(config, until="sample", progress=for_terminal()).path)


def _config(file, flags, resume):
    return _resumed(file, flags, resume) if resume else config_from(file, flags)


def _resumed(file, flags, resume):
    """The config of a run that is there; flags that would make it another run are refused."""
    from auditor.config.audit import make_config
    from auditor.runs.run import load_run

    given = {name: value for name, value in flags.items() if value not in (None, ())}
    named = {p.name: p.opts[0] for p in click.get_current_context().command.params}
    refused = ([file] if file else []) + [named[name] for name in given if name not in _FREE]
    if refused:
        raise click.UsageError(
            f"--resume goes on with {resume} as it was asked for; got {', '.join(refused)} as "
            "well. Leave that out, or start another run without --resume."
        )
    run = load_run(resume)
    limits = {"gates": run.manifest.gates}
    return make_config({**run.config.model_dump(), **limits, **given, "out": resume})
