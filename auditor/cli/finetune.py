"""`auditor finetune`: fine-tune a model, and measure what it memorizes."""

from __future__ import annotations

import click

from auditor.cli.generated import given_options, json_option, options_of
from auditor.cli.printing import print_json, say
from auditor.cli.verbosity import say_next, shown_progress, verbosity
from auditor.config.finetuning import FinetuneConfig


@click.command()
@options_of(FinetuneConfig, only=("model", "corpora", "tasks"))
@click.option(
    "--out", required=True, metavar="DIR", help="Output folder; an interrupted training is resumed."
)
@options_of(FinetuneConfig, exclude=("model", "corpora", "tasks"))
@json_option
@verbosity
def finetune(model, corpora, out, as_json, **options) -> None:
    """Fine-tune a model on text, and measure what it memorizes during training.

    One --corpus is domain adaptation; several are mixed by --weight. An interrupted training is
    resumed from the last checkpoint by the same command. To measure the exposure of canaries,
    insert them with `auditor canaries insert` and pass their manifest as --canaries.

    \b
    auditor finetune --model gpt2 --corpus notes/ --out tuned
    auditor finetune --model gpt2 --corpus a.jsonl --weight 2 --corpus b.jsonl --weight 1 --out c
    auditor finetune --model gpt2 --corpus notes.jsonl --lora --canaries canaries.json --out d
    """
    from auditor.finetuning.finetune import finetune as run

    given = given_options(options)
    done = run(model, corpora, out=out, progress=shown_progress(), **given)
    if as_json:
        print_json(done.manifest)
        return
    final = done.manifest["final"]
    stopped = done.manifest["stopped_at"]
    say(f"{done.manifest['steps']:,} steps" + (", stopped by exposure" if stopped else ""))
    for name, unit in (
        ("member_nll", "nats per token"),
        ("heldout_nll", "nats per token"),
        ("loss_gap", "nats per token"),
        ("extraction_rate", "of texts"),
        ("exposure_mean", "bits"),
    ):
        if final[name] is not None:
            say(f"{name:16} {final[name]:8.3f} {unit}")
    if "canaries" in given:
        _print_exposures(done.folder)
    say(f"\nSaved: {done.folder}")
    texts = " ".join(f"--texts {spec}" for spec in corpora)
    say_next(f"auditor compare --tuned {done.folder} {texts}")


def _print_exposures(folder) -> None:
    """Print exposure by step, one column per number of repeats."""
    from auditor.cli.show import print_frame
    from auditor.finetuning.callback import read_probes
    from auditor.finetuning.checkpoints import PROBES
    from reports.figures.comparison import exposure_by_step
    from reports.number_text import cell

    table = exposure_by_step(read_probes(folder / PROBES))
    say()
    print_frame(table.map(cell), "Mean exposure by repeats, bits")
