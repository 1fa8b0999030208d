"""`auditor schedule`: run an audit on a schedule, here or by another scheduler."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from auditor.cli.generated import given_options, options_of
from auditor.cli.printing import say
from auditor.cli.verbosity import level, say_next, verbosity
from auditor.config.gates import Schedule

_KINDS = ("systemd", "cron", "github-actions")


@click.command()
@click.argument("file", type=click.Path())
@options_of(Schedule)
@click.option("--once", is_flag=True, help="Run what is due now, then exit.")
@click.option(
    "--print",
    "kind",
    type=click.Choice(_KINDS),
    help="Print the configuration for another scheduler instead.",
)
@click.option("--out", metavar="DIR", help="Prefix of the run folders.")
@verbosity
def schedule(file, cron, timezone, seed, once, kind, out) -> None:
    """Run an audit file on a schedule, each time into a new folder.

    Runs in the foreground, one audit at a time, until Ctrl-C or SIGTERM. After a restart it
    resumes an interrupted run, then makes up for all missed runs with one run. The table
    [schedule] of the file can set these options; flags override it.

    Folders are named runs/MODEL-DIGEST-2026-11-24T0300Z (UTC), or start with --out. With the
    seed "same", every run of the same model draws the same samples, so a change comes from the
    model or the training text.

    \b
    auditor schedule audit.toml --cron "0 3 * * 1"
    auditor schedule audit.toml --cron "0 3 * * 1" --once
    auditor schedule audit.toml --cron "0 3 * * 1" --print systemd
    """
    from auditor.gates.notify import check_hooks
    from auditor.scheduling.cron import parse_cron
    from auditor.scheduling.plan import Plan
    from auditor.system.extras import require_extra

    require_extra("Scheduling", "schedule", "cronsim", "tzlocal")
    config = _config(file, {"cron": cron, "timezone": timezone, "seed": seed}, out)
    times = config.schedule
    line = None if times.cron is None else parse_cron(times.cron, times.timezone)
    if line is None and (kind or not once):
        raise click.UsageError(
            'A schedule is missing. Give --cron LINE, as in --cron "0 3 * * 1", or set cron in the '
            "table [schedule] of the file; or run what is due now with --once."
        )
    if kind and line is not None:
        from auditor.scheduling.unit_files import unit

        more = (("--seed", seed) if seed else ()) + (("--out", out) if out else ())
        say(unit(kind, file, line, folder=Path.cwd(), more=more).rstrip("\n"))
        return
    check_hooks(config.notify)
    plan = Plan(config, line)
    with plan.locked():
        if once:
            _once(plan)
        else:
            _forever(plan)


def _config(file, flags, out):
    """The config of the audit file; flags override its schedule."""
    from auditor.config.audit import make_config
    from auditor.config.audit_file import load_toml

    given = load_toml(file)
    table = given.get("schedule", {})
    if isinstance(table, dict):
        given["schedule"] = {**table, **given_options(flags)}
    return make_config({**given, **({"out": out} if out else {})})


def _scheduler_loop(plan):
    from auditor.cli.show import show_gated_audit
    from auditor.scheduling.loop import SchedulerLoop
    from auditor.system.progress import for_terminal

    log = partial(say, err=True)
    progress = for_terminal(level(), asks=False)  # nobody may be at the terminal
    return SchedulerLoop(plan, log=log, show=show_gated_audit, progress=progress)


def _once(plan) -> None:
    """Run what is due; if nothing is due, repeat the gate results of the last run."""
    from auditor.runs.gate_results import check

    work = _scheduler_loop(plan)
    n = work.run_due()
    if not n:
        say("Nothing is due: the last scheduled run is complete.", err=True)
        check(plan.done()[-1].decisions)
    if not work.errors:
        say_next("auditor runs lists all runs; with --html, it plots them over time")
    # An error takes precedence over a failed gate.
    click.get_current_context().exit(min((e.exit_code for e in work.errors), default=0))


def _forever(plan) -> None:
    if _scheduler_loop(plan).run_forever(plan.cron):
        raise KeyboardInterrupt
