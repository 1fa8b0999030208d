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
    "--members", multiple=True, required=True, metavar="PATH", help="Texts said to be members."
)
@click.option(
    "--nonmembers", multiple=True, required=True, metavar="PATH", help="Texts known not to be."
)
@click.option("--model", metavar="SPEC", help="Score texts; without it, PATHs hold scores.")
@click.option(
    "--reference",
    "references",
    multiple=True,
    metavar="[NAME=]SPEC",
    help="A model to compare with; any number.",
)
@click.option(
    "--member-texts", multiple=True, metavar="PATH", help="Texts of --members that are scores."
)
@click.option(
    "--nonmember-texts", multiple=True, metavar="PATH", help="Texts of --nonmembers, likewise."
)
@click.option("--text-field", help=TEXT_FIELD)
@click.option(
    "--nonmember-prefix", metavar="FILE", help="Other unseen texts, for ReCaLL; with --model."
)
@click.option(
    "--frequencies",
    multiple=True,
    metavar="CORPUS",
    help="Text in which tokens are counted, for DC-PDD; with --model.",
)
@click.option("--neighbours", type=int, help="Neighbours of each text; with --model.")
@click.option(
    "--score", "scores", multiple=True, metavar="NAME", help="Compare by this one; any number."
)
@click.option("--list-by", metavar="NAME", help="Score of the short list.  [default: the first]")
@click.option(
    "--fdr", type=float, default=0.05, show_default=True, help="False share of the short list."
)
@click.option("--drop-shared", is_flag=True, help="Leave out texts that are on both sides.")
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Decides folds, halves, permutations."
)
@click.option(
    "--bos",
    metavar="TOKEN",
    help="Token that starts a text, in place of the model's; of references, if they name none.",
)
@click.option("--dtype", help="auto, float32, bfloat16 or float16.  [default: float32]")
@click.option("--device", help="auto, cpu or cuda.  [default: auto]")
@click.option("--out", metavar="DIR", help="Write tables and the page there.")
@click.option("--overwrite", is_flag=True, help="Replace the comparison in --out.")
@click.option("--reveal", is_flag=True, help="Show personal data in the report and CSV.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def members(members, nonmembers, out, overwrite, reveal, as_json, **asked) -> None:
    """Can the model's scores tell its training text from other text?

    Compares texts said to be members with known non-members, score by score, beside baselines that
    never see the model. Where a bag of words does as well, no membership claim follows.

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
