"""`auditor members`."""

from __future__ import annotations

import click

from auditor.cli.generated import given_options, json_option, options_of
from auditor.cli.printing import print_json, say
from auditor.config.audit import AuditConfig
from auditor.config.membership import MembershipConfig
from auditor.config.scoring import ScoringConfig

_SETS = ("members", "nonmembers")


@click.command()
@options_of(MembershipConfig, only=_SETS)
@click.option(
    "--model",
    metavar="SPEC",
    help="Model to score the texts with; without it, the files must contain scores.",
)
@options_of(ScoringConfig, only=("references",))
@options_of(MembershipConfig, but=_SETS)
@options_of(ScoringConfig, but=("model", "references", "seed", "text_field"))
@click.option("--out", metavar="DIR", help="Folder for tables and the report page.")
@click.option("--overwrite", is_flag=True, help="Replace the results in --out.")
@options_of(AuditConfig, only=("reveal",))
@json_option
def members(out, overwrite, reveal, as_json, **options) -> None:
    """Test whether scores of a model separate its training text from other text.

    Compares presumed members with known non-members, score by score, with baselines that never
    see the model. If a bag of words separates them as well, no membership claim follows.

    \b
    auditor members --members in.jsonl --nonmembers out.jsonl --model gpt2 --out membership
    auditor members --members in.parquet --nonmembers out.parquet \\
        --member-texts in.jsonl --nonmember-texts out.jsonl
    """
    from auditor.membership import audit_members, save
    from auditor.membership.output import as_json as report_json
    from auditor.membership.output import check_out
    from auditor.system.progress import for_terminal

    if out:
        check_out(out, overwrite=overwrite)  # before any model is loaded
    report = audit_members(progress=for_terminal(), **given_options(options))
    if out:
        save(report, out, overwrite=overwrite, reveal=bool(reveal))
    if as_json:
        print_json(report_json(report))
        return
    _show(report)
    if out:
        if reveal:
            say("These files show personal data: keep them confidential.", err=True)
        say(f"\nSaved: {out}")


def _show(report) -> None:
    """Print the verdict, the table and the notes."""
    from auditor.cli.show import print_frame
    from auditor.membership.tables import shown_table

    for sentence in report.sentences():
        say(sentence)
    click.echo()
    title = (
        "Members against non-members (95 % intervals: of an AUC, the wider of DeLong’s and "
        "Newcombe’s; of a TPR, Clopper–Pearson, widened by the error of the threshold); p "
        "corrected by Holm for all scores of a kind"
    )
    shown = shown_table(report.table)
    # A terminal is too narrow for all columns; the rest is in the files and in the notes.
    bare = [n for n in shown.columns if n == "above blind" or set(shown[n]) <= {"withheld", ""}]
    print_frame(shown.drop(columns=bare), title)
    for sentence in report.notes:
        say(f"Note: {sentence}", err=True)
