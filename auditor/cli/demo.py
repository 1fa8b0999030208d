"""`auditor testbed` and `auditor demo`."""

from __future__ import annotations

import click

from auditor.cli.printing import say
from auditor.cli.verbosity import say_next, shown_progress, verbosity

_size = click.option(
    "--size", default="small", show_default=True, help="tiny (seconds) or small (minutes)."
)


@click.command()
@click.argument("folder")
@_size
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="Random seed of members, repeats and weights.",
)
@click.option(
    "--family",
    default="gpt2",
    show_default=True,
    help="gpt2, bert (masked models) or t5 (encoder-decoders).",
)
@verbosity
def testbed(folder, size, seed, family) -> None:
    """Create the models, corpus and ground truth of the demo in FOLDER.

    Creates a target model with fully known training text, two reference models that were not
    trained on it, the training text, held-out text, and truth.parquet.
    """
    from auditor.testbed.testbed import build_with_progress

    made = build_with_progress(
        folder, size=size, seed=seed, family=family, progress=shown_progress()
    )
    say(f"model      {made.target}")
    for name, spec in made.references.items():
        say(f"reference  {name}={spec}")
    say(f"corpus     {made.corpus}")
    say(f"held out   {made.heldout}")
    say(f"truth      {made.truth_file}")
    say_next(f"auditor audit --model {made.target} --corpus {made.corpus}")


@click.command()
@click.argument("folder", default="demo")
@_size
@click.option(
    "--samples",
    type=click.IntRange(1, 10**9),
    help="Samples per strategy.  [default: 4,000; tiny: 64]",
)
@verbosity
def demo(folder, size, samples) -> None:
    """Train a small model on known text and audit it.

    Trains the testbed in FOLDER/testbed, draws samples by three strategies, ranks them by the six
    scores of the paper, verifies every candidate against the training text, and writes FOLDER/run.
    The strategies are top-n, temperature, and canary-prompts, which continues the sentences of the
    canaries up to their secrets. Takes about four minutes on two CPU cores.
    """
    from auditor.cli.show import show_run
    from auditor.testbed.demo import run_demo

    run = run_demo(folder, size=size, samples=samples, progress=shown_progress())
    show_run(run)
    say_next(f"open {run.report}")
