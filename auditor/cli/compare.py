"""`auditor compare`: a model before and after fine-tuning, or two runs."""

from __future__ import annotations

from pathlib import Path

import click

from auditor.cli.generated import json_option
from auditor.cli.printing import print_json, records, say
from auditor.config.fields import DEVICE, TEXT_FIELD


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN_A RUN_B]")
@click.option(
    "--base", metavar="SPEC", help="Model before training.  [default: the base of --tuned]"
)
@click.option("--tuned", metavar="SPEC", help="Model after training, or a folder with an adapter.")
@click.option(
    "--texts", multiple=True, metavar="SPEC", help="Text that the tuned model was trained on."
)
@click.option(
    "--heldout",
    multiple=True,
    metavar="SPEC",
    help="Text of the same kind that it was not trained on.",
)
@click.option("--text-field", help=TEXT_FIELD)
@click.option(
    "--examples", type=int, default=1000, show_default=True, help="Maximum number of texts."
)
@click.option(
    "--prefix-tokens", type=int, default=50, show_default=True, help="Tokens of the prefix."
)
@click.option(
    "--suffix-tokens", type=int, default=50, show_default=True, help="Tokens of the suffix."
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Random seed of the texts and the samples.",
)
@click.option("--bos", metavar="TOKEN", help="BOS token to use in place of that of the models.")
@click.option("--device", default="auto", show_default=True, help=DEVICE)
@click.option("--out", metavar="DIR", help="Folder for tables and the report page.")
@json_option
def compare(runs, base, tuned, texts, heldout, out, as_json, **options) -> None:
    """Compare a model before and after fine-tuning, or the results of two runs.

    \b
    auditor compare --base gpt2 --tuned tuned --texts notes/ --heldout others/ --out changes
    auditor compare runs/before runs/after
    """
    if runs and (base or tuned or texts or heldout):
        raise click.UsageError(
            "Give two runs, or --tuned with --texts; got both. Run one comparison at a time."
        )
    if runs:
        if len(runs) != 2:
            raise click.UsageError(f"Give two runs, RUN_A and RUN_B; got {len(runs)}.")
        _runs(runs, out, as_json)
        return
    if not tuned or not texts:
        raise click.UsageError("Give RUN_A and RUN_B, or --tuned with --texts; got neither.")
    _models(base, tuned, texts, heldout, options, out, as_json)


def _runs(runs, out, as_json) -> None:
    from auditor.comparison.output import run_headline, save_runs
    from auditor.comparison.runs import compare_runs

    found = compare_runs(*runs)
    page = save_runs(found, Path(out)) if out else None
    tables_json = {"passages": found.counts(), "differences": records(found.differences)}
    _print(run_headline(found), found, tables_json, page, as_json, (("differences", "B minus A"),))


def _models(base, tuned, texts, heldout, options, out, as_json) -> None:
    from auditor.comparison.models import compare_models
    from auditor.comparison.output import model_headline, save_models
    from auditor.system.progress import for_terminal

    found = compare_models(
        base, tuned, texts=texts, heldout=heldout, progress=for_terminal(), **options
    )
    page = save_models(found, Path(out)) if out else None
    tables_json = {"tests": records(found.tests), "extraction": records(found.extraction)}
    tables = (("extraction", "Extraction before and after"), ("tests", "Mean changes"))
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
        say(f"Note: {note}", err=True)
    if page is not None:
        say(f"\nPage: {page}")
