"""`auditor audit` and `auditor sample`."""

from __future__ import annotations

import click

from auditor.cli.options import audit_flags, config_from


@click.command()
@audit_flags
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--resume", metavar="RUN", help="Go on with a run as it was asked for.")
def audit(file, as_json, resume, **flags) -> None:
    """Sample, score, rank, verify and report: the whole audit.

    FILE is an audit file (TOML) that says what the flags say; flags win. Stopped anywhere, the
    same command goes on where it was.

    \b
    auditor audit --model gpt2-xl --reference gpt2 --reference gpt2-medium --samples 200000
    auditor audit --model smollm2 --samples 256 --corpus /usr/share/common-licenses
    auditor audit audit.toml --samples 50000
    """
    from auditor.cli.show import show_run
    from auditor.progress import for_terminal

    run = _run(file, flags, resume, "report", for_terminal())
    show_run(run, as_json=as_json)


@click.command()
@audit_flags
@click.option("--resume", metavar="RUN", help="Go on with a run as it was asked for.")
def sample(file, resume, **flags) -> None:
    """The first stage alone: sample text from the model into a run's folder.

    Go on with `auditor score RUN`, or with `auditor audit --resume RUN` for all the rest.
    """
    from auditor.progress import for_terminal

    run = _run(file, flags, resume, "sample", for_terminal())
    click.echo(run.path)


def _run(file, flags, resume, until, progress):
    from auditor.audit import run_audit
    from auditor.store import load_run

    if resume:
        config = load_run(resume).config.model_copy(update={"out": resume})
    else:
        config = config_from(file, flags)
    return run_audit(config, until=until, progress=progress)
