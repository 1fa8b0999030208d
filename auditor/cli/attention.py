"""`auditor attention`: the attention of the model on a candidate."""

from __future__ import annotations

import click

from auditor.cli.printing import say
from auditor.cli.verbosity import say_next, verbosity


@click.command()
@click.argument("run")
@click.option("--sample", "sample_id", required=True, metavar="ID", help="Id of the candidate.")
@click.option(
    "--tokens",
    type=click.IntRange(2, 512),
    default=64,
    show_default=True,
    help="Tokens to show, including the prompt.",
)
@click.option("--reveal", is_flag=True, help="Show personal data.")
@verbosity
def attention(run, sample_id, tokens, reveal) -> None:
    """Write a page with the attention of each head on a candidate; the report links to it.

    Needs the extra `attention`. The page is RUN/attention/ID.html; its size grows with the
    square of --tokens.
    """
    from auditor.audit.pipeline import attention_again

    page = attention_again(run, sample_id, n_tokens=tokens, reveal=reveal)
    say(page)
    say_next(f"open {page}")
