"""`auditor compare`: a model before and after fine-tuning, or two runs."""

from __future__ import annotations

import json
from pathlib import Path

import click

from auditor.cli.printing import say
from auditor.config.fields import TEXT_FIELD


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN_A RUN_B]")
@click.option("--base", metavar="SPEC", help="Model before training.  [default: what --tuned says]")
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
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--out", metavar="DIR", help="Folder for tables and the report page.")
@click.option("--json", "as_json", is_flag=True, help="Print figures as JSON, no text.")
def compare(runs, base, tuned, texts, heldout, out, as_json, **options) -> None:
    """Compare a model before and after fine-tuning, or the results of two runs.

    \b
    auditor compare --base gpt2 --tuned tuned --texts notes/ --heldout others/ --out changes
    auditor compare runs/before runs/after
    """
    if runs and (base or tuned or texts or heldout):
        raise click.UsageError(
            "Give two runs, or --tuned with --texts; got both. They are two kinds of comparison."
        )
    if runs:
        if len(runs) != 2:
            raise click.UsageError(f"Two runs are compared; got {len(runs)}. Name RUN_A and RUN_B.")
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
    told = {"passages": found.counts(), "differences": _records(found.differences)}
    _print(run_headline(found), found, told, page, as_json, (("differences", "B minus A"),))


def _models(base, tuned, texts, heldout, options, out, as_json) -> None:
    from auditor.comparison.models import compare_models
    from auditor.comparison.output import model_headline, save_models
    from auditor.system.progress import for_terminal

    found = compare_models(
        base, tuned, texts=texts, heldout=heldout, progress=for_terminal(), **options
    )
    page = save_models(found, Path(out)) if out else None
    told = {"tests": _records(found.tests), "extraction": _records(found.extraction)}
    tables = (("extraction", "Extraction before and after"), ("tests", "Mean changes"))
    _print(model_headline(found), found, told, page, as_json, tables)


def _print(headline, found, told, page, as_json, tables) -> None:
    from auditor.cli.show import print_frame

    if as_json:
        whole = {"headline": headline, **told, "notes": found.notes, **found.facts}
        click.echo(json.dumps(whole, indent=2, sort_keys=True))
        return
    for sentence in headline:
        say(sentence)
    for name, title in tables:
        click.echo()
        frame = getattr(found, name)
        # Ends of intervals are in the files; a terminal has no room for them.
        shown = frame[[c for c in frame if not c.endswith(("_low", "_high"))]]
        print_frame(shown.map(lambda v: f"{v:.4g}" if isinstance(v, float) else v), title)
    for note in found.notes:
        say(f"Note: {note}", err=True)
    if page is not None:
        say(f"\nPage: {page}")


def _records(frame) -> list[dict]:
    return json.loads(frame.to_json(orient="records", double_precision=15))
