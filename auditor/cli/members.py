"""`auditor members`."""

from __future__ import annotations

import json

import click

from auditor.cli.printing import say
from auditor.config.fields import TEXT_FIELD

# How texts are scored; without a model there is nothing to score.
_SCORING = ("nonmember_prefix", "frequencies", "neighbours", "bos", "dtype", "device")


@click.command()
@click.option(
    "--members", multiple=True, required=True, metavar="PATH", help="Texts assumed to be members."
)
@click.option(
    "--nonmembers",
    multiple=True,
    required=True,
    metavar="PATH",
    help="Texts known not to be members.",
)
@click.option(
    "--model",
    metavar="SPEC",
    help="Model to score the texts with; without it, the files must contain scores.",
)
@click.option(
    "--reference",
    "references",
    multiple=True,
    metavar="[NAME=]SPEC",
    help="Reference model; repeatable.",
)
@click.option(
    "--member-texts",
    multiple=True,
    metavar="PATH",
    help="Texts of --members, if that contains scores.",
)
@click.option(
    "--nonmember-texts",
    multiple=True,
    metavar="PATH",
    help="Texts of --nonmembers, if that contains scores.",
)
@click.option("--text-field", help=TEXT_FIELD)
@click.option(
    "--nonmember-prefix", metavar="FILE", help="Other non-member texts, for ReCaLL; needs --model."
)
@click.option(
    "--frequencies",
    multiple=True,
    metavar="CORPUS",
    help="Text for token frequencies, for DC-PDD; needs --model.",
)
@click.option("--neighbours", type=int, help="Neighbours per text; needs --model.")
@click.option(
    "--score", "scores", multiple=True, metavar="NAME", help="Score to compare; repeatable."
)
@click.option(
    "--list-by", metavar="NAME", help="Score that the shortlist is ranked by.  [default: the first]"
)
@click.option(
    "--fdr",
    type=float,
    default=0.05,
    show_default=True,
    help="False discovery rate of the shortlist.",
)
@click.option("--drop-shared", is_flag=True, help="Leave out texts that are in both sets.")
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Random seed of folds, halves and permutations.",
)
@click.option(
    "--bos",
    metavar="TOKEN",
    help="BOS token to use in place of that of the model, and for references that have none.",
)
@click.option("--dtype", help="auto, float32, bfloat16 or float16.  [default: float32]")
@click.option("--device", help="auto, cpu or cuda.  [default: auto]")
@click.option("--out", metavar="DIR", help="Folder for tables and the report page.")
@click.option("--overwrite", is_flag=True, help="Replace the results in --out.")
@click.option("--reveal", is_flag=True, help="Show personal data in the report and CSV.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def members(members, nonmembers, out, overwrite, reveal, as_json, **asked) -> None:
    """Test whether scores of a model separate its training text from other text.

    Compares presumed members with known non-members, score by score, with baselines that never
    see the model. If a bag of words separates them as well, no membership claim follows.

    \b
    auditor members --members in.jsonl --nonmembers out.jsonl --model gpt2 --out membership
    auditor members --members in.parquet --nonmembers out.parquet \\
        --member-texts in.jsonl --nonmember-texts out.jsonl
    """
    from auditor.membership import audit_members, save
    from auditor.membership.output import as_json as told
    from auditor.membership.output import check_out
    from auditor.system.progress import for_terminal

    if out:
        check_out(out, overwrite=overwrite)  # before any model is loaded
    for name in _SCORING:  # what was not said is left to the library
        if not asked[name]:
            del asked[name]
    report = audit_members(members, nonmembers, progress=for_terminal(), **asked)
    if out:
        save(report, out, overwrite=overwrite, reveal=reveal)
    if as_json:
        click.echo(json.dumps(told(report), indent=2, sort_keys=True))
        return
    _show(report)
    if out:
        if reveal:
            say("What is written there shows personal data: keep it to yourself.", err=True)
        say(f"\nWritten to: {out}")


def _show(report) -> None:
    """The verdict, the table, and what was left out."""
    from auditor.cli.show import print_frame
    from auditor.membership.tables import shown_table

    for sentence in report.sentences():
        say(sentence)
    click.echo()
    title = "Members against non-members; p corrected by Holm for all scores of a kind"
    shown = shown_table(report.table)
    # How far each is above the baselines is in the files, and why a whole column is withheld in a
    # note: a terminal has no room for them.
    bare = [n for n in shown.columns if n == "above blind" or set(shown[n]) <= {"withheld", ""}]
    print_frame(shown.drop(columns=bare), title)
    for sentence in report.notes:
        say(f"Note: {sentence}", err=True)
