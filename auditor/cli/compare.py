"""`auditor compare`: a model before and after fine-tuning, or two runs."""

from __future__ import annotations

import click

from auditor.cli.generated import given_options, json_option, options_of
from auditor.cli.printing import print_json, records, say
from auditor.cli.verbosity import remark, say_next, shown_progress, verbosity
from auditor.config.comparison import ComparisonConfig
from auditor.config.fields import MASKED


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN_A RUN_B]")
@options_of(ComparisonConfig, is_required=False)
@click.option("--out", metavar="DIR", help="Folder for tables and the report page.")
@click.option("--canaries", multiple=True, metavar="FILE", help=MASKED)
@click.option("--reveal", is_flag=True, help="Show personal data and canary secrets in --out.")
@json_option
@verbosity
def compare(runs, out, canaries, reveal, as_json, **options) -> None:
    """Compare a model before and after fine-tuning, or the results of two runs.

    \b
    auditor compare --base gpt2 --tuned tuned --texts notes/ --heldout others/ --out changes
    auditor compare runs/before runs/after
    """
    given = given_options(options)
    saving = {"out": out, "canaries": canaries, "reveal": reveal}
    if runs and {"base", "tuned", "texts", "heldout"} & set(given):
        raise click.UsageError(
            "Give two runs, or --tuned with --texts; got both. Run one comparison at a time."
        )
    if runs:
        if len(runs) != 2:
            raise click.UsageError(f"Give two runs, RUN_A and RUN_B; got {len(runs)}.")
        _runs(runs, saving, as_json)
        return
    if not {"tuned", "texts"} <= set(given):
        raise click.UsageError("Give RUN_A and RUN_B, or --tuned with --texts; got neither.")
    _models(given, saving, as_json)


def _runs(runs, saving, as_json) -> None:
    from auditor.comparison.output import DIFFERENCE_INTERVALS, run_headline, save_runs
    from auditor.comparison.runs import compare_runs

    found = compare_runs(*runs)
    page = save_runs(found, **saving) if saving["out"] else None
    tables_json = {"passages": found.counts(), "differences": records(found.differences)}
    tables = (("differences", f"B minus A ({DIFFERENCE_INTERVALS})"),)
    _print(run_headline(found), found, tables_json, page, as_json, tables)


def _models(options, saving, as_json) -> None:
    from auditor.comparison.models import compare_models
    from auditor.comparison.output import SHARE_INTERVALS, model_headline, save_models

    base, tuned = options.pop("base", None), options.pop("tuned")
    found = compare_models(base, tuned, progress=shown_progress(), **options)
    page = save_models(found, **saving) if saving["out"] else None
    tables_json = {"tests": records(found.tests), "extraction": records(found.extraction)}
    tables = (
        ("extraction", f"Extraction before and after ({SHARE_INTERVALS})"),
        ("tests", "Mean changes"),
    )
    _print(model_headline(found), found, tables_json, page, as_json, tables)


def _print(headline, found, tables_json, page, as_json, tables) -> None:
    from auditor.cli.show import print_frame
    from reports.number_text import cell

    if as_json:
        print_json({"headline": headline, **tables_json, "notes": found.notes, **found.facts})
        return
    for sentence in headline:
        say(sentence)
    for name, title in tables:
        say()
        frame = getattr(found, name)
        # The intervals are in the files; a terminal is too narrow for them.
        shown = frame[[c for c in frame if not c.endswith(("_low", "_high"))]]
        print_frame(shown.map(cell), title)
    for note in found.notes:
        remark(f"Note: {note}")
    if page is not None:
        say(f"\nPage: {page}")
        say_next(f"open {page}")
    else:
        say_next("add --out DIR to save the tables and a report page")
