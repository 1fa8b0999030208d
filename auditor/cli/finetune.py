"""`auditor finetune`: train further on given text, and watch what is memorized."""

from __future__ import annotations

import json

import click

from auditor.cli.printing import TEXT_FIELD, say


@click.command()
@click.option("--model", required=True, metavar="SPEC", help="Model to begin with.")
@click.option(
    "--corpus", "corpora", required=True, multiple=True, metavar="SPEC",
    help="Text to train on; several are mixed.",
)  # fmt: skip
@click.option("--out", required=True, metavar="DIR", help="Folder to write, or to go on in.")
@click.option(
    "--weight", "weights", multiple=True, type=float,
    help="How often each --corpus's documents stand in an epoch, in order.  [default: 1]",
)  # fmt: skip
@click.option("--repeats", type=int, default=1, show_default=True, help="Every document so often.")
@click.option("--text-field", help=TEXT_FIELD)
@click.option("--heldout", multiple=True, metavar="SPEC", help="Text to hold out.")
@click.option(
    "--heldout-documents", type=int,
    help="Documents of --corpus to hold out.  [default: a tenth, 1,000 at the most]",
)  # fmt: skip
@click.option("--lora", is_flag=True, help="Train adapters; the model's weights stay.")
@click.option("--lora-rank", type=int, default=16, show_default=True, help="Rank of the adapters.")
@click.option("--merge", is_flag=True, help="Of --lora: save OUT/merged, a whole model, too.")
@click.option("--epochs", type=float, default=3.0, show_default=True, help="Passes over the text.")
@click.option("--max-steps", type=int, help="Steps, in place of --epochs.")
@click.option("--batch", type=int, default=8, show_default=True, help="Rows of a step.")
@click.option("--row-tokens", type=int, help="Tokens of a row.  [default: context, up to 1,024]")
@click.option("--learning-rate", type=float, help="Peak.  [default: 5e-5, 2e-4 with --lora]")
@click.option(
    "--precision", default="auto", show_default=True, help="auto, float32 or bfloat16, of products."
)
@click.option("--canaries", metavar="MANIFEST", help="Canaries whose exposure is watched.")
@click.option(
    "--probe-every", type=int, default=200, show_default=True, help="Steps between measurements."
)
@click.option("--stop-at-exposure", type=float, help="Stop above this mean exposure, in bits.")
@click.option("--save-every", type=int, help="Steps between checkpoints.  [default: a tenth]")
@click.option(
    "--bos", metavar="TOKEN", help="Special token that starts a text, in place of the model's."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Decides order and split.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--report-to", multiple=True, help="Trackers: tensorboard, trackio, wandb.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def finetune(model, corpora, out, canaries, as_json, **options) -> None:
    """Fine-tune a model on text, and measure what it memorizes on the way.

    One --corpus is domain adaptation, several are mixed by --weight. Killed anywhere, the same
    command goes on from the last checkpoint. Put canaries into the text with `auditor canaries
    insert`, and name their manifest with --canaries to watch their exposure.

    \b
    auditor finetune --model gpt2 --corpus notes/ --out tuned
    auditor finetune --model gpt2 --corpus a.jsonl --weight 2 --corpus b.jsonl --weight 1 --out c
    auditor finetune --model gpt2 --corpus notes.jsonl --lora --canaries canaries.json --out d
    """
    from auditor.finetuning.finetune import finetune as run
    from auditor.system.progress import for_terminal

    done = run(model, corpora, out=out, canaries=canaries, progress=for_terminal(), **options)
    if as_json:
        click.echo(json.dumps(done.manifest, indent=2, sort_keys=True))
        return
    final = done.manifest["final"]
    stopped = done.manifest["stopped_at"]
    say(f"{done.manifest['steps']:,} steps" + (", stopped by exposure" if stopped else ""))
    for name, unit in (
        ("member_nll", "nats a token"),
        ("heldout_nll", "nats a token"),
        ("loss_gap", "nats a token"),
        ("extraction_rate", "of texts"),
        ("exposure_mean", "bits"),
    ):
        if final[name] is not None:
            say(f"{name:16} {final[name]:8.3f} {unit}")
    if canaries is not None:
        _print_exposures(done.folder)
    say(f"\nSaved: {done.folder}")


def _print_exposures(folder) -> None:
    """Exposure through the steps, a column a number of repeats."""
    from auditor.cli.show import print_frame
    from auditor.finetuning.callback import read_probes
    from auditor.finetuning.checkpoints import PROBES
    from reports.figures.comparison import exposure_by_step

    table = exposure_by_step(read_probes(folder / PROBES))
    shown = table.map(lambda value: f"{value:.2f}" if isinstance(value, float) else f"{value:,}")
    click.echo()
    print_frame(shown, "Mean exposure by repeats, bits")
