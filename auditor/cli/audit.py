"""`auditor audit` and `auditor sample`."""

from __future__ import annotations

import click

from auditor.cli.generated import flags_of, given_options, json_option
from auditor.cli.options import audit_options, config_from
from auditor.cli.printing import say
from auditor.cli.verbosity import say_next, shown_progress, verbosity

# The options that may change when a run is resumed.
_FREE = ("workers", "ray", "batch_size", "device", "reveal", "price_per_hour", "yes")
_resume_option = click.option("--resume", metavar="RUN", help="Resume a run with its own options.")


@click.command()
@audit_options
@json_option
@_resume_option
@verbosity
def audit(file, as_json, resume, **flags) -> None:
    """Run a whole audit: sample, score, rank, verify and report.

    FILE is an audit file (TOML). Any option can be set in it; flags override it. An interrupted
    audit is resumed by the same command. The table [gates] of the file sets limits; if a gate
    fails, the exit code is 3. A gate that only warns does not change the exit code.

    Before sampling starts, the audit measures the speed of this machine and states how many samples
    and tokens it will draw, and about how much time and disk they take. If that is more than 24
    hours, or more disk than is free, it asks; where there is no terminal, it needs --yes, or
    yes = true in the audit file.

    \b
    auditor audit --model gpt2-xl --reference gpt2 --reference gpt2-medium --samples 200000
    auditor audit --model smollm2 --samples 256 --corpus /usr/share/common-licenses
    auditor audit audit.toml --samples 50000
    """
    from auditor.cli.show import after_audit, show_gated_audit
    from auditor.gates.gated_audit import run_gated_audit

    config = _config(file, flags, resume)
    gated = run_gated_audit(config, progress=shown_progress())
    show_gated_audit(gated, as_json=as_json)
    say_next(after_audit(gated.run))
    gated.check()


@click.command()
@audit_options
@_resume_option
@verbosity
def sample(file, resume, **flags) -> None:
    """Run the first stage only: sample text from the model into a run folder.

    Continue with `auditor score RUN`, or with `auditor audit --resume RUN` for all other stages.
    """
    from auditor.audit.pipeline import run_audit

    config = _config(file, flags, resume)
    run = run_audit(config, until="sample", progress=shown_progress())
    say(run.path)
    say_next(f"auditor audit --resume {run.path}")


def _config(file, flags, resume):
    return _resumed(file, flags, resume) if resume else config_from(file, flags)


def _resumed(file, flags, resume):
    """The config of an existing run; flags that would make it another run are refused."""
    from auditor.config.audit import make_config
    from auditor.runs.run import load_run

    given = given_options(flags)
    refused = [file] if file else []
    refused += [flags_of([name]) for name in given if name not in _FREE]
    if refused:
        raise click.UsageError(
            f"--resume continues {resume} with its own options; got {', '.join(refused)} as well. "
            "Remove that, or start another run without --resume."
        )
    run = load_run(resume)
    limits = {"gates": run.manifest.gates}
    return make_config({**run.config.model_dump(), **limits, **given, "out": resume})
