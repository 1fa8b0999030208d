"""`auditor score`, `verify` and `report` on what is there."""

from __future__ import annotations

import click

from auditor.cli.printing import say
from auditor.cli.score_texts import given_flags, is_run, score_given_texts, text_flags
from auditor.config.fields import TEXT_FIELD


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="RUN | TEXTS...")
@text_flags
def score(inputs, **flags) -> None:
    """Score the samples of a run, or texts of your own.

    RUN is the folder that `auditor sample` printed: its samples get the scores of an audit, with
    the options of the run, and no other option is allowed.

    TEXTS are files, folders or globs and need --model: every text gets one row of membership
    scores, higher = more likely a member. A folder with a manifest.json is a run.

    \b
    auditor score runs/x
    auditor score texts.jsonl --model gpt2 --reference distilgpt2 --out scores.csv
    """
    if not is_run(inputs):
        score_given_texts(inputs, flags)
        return
    if given := given_flags(flags):
        named = {p.name: p.opts[0] for p in click.get_current_context().command.params}
        raise click.UsageError(
            f"{inputs[0]} is a run, which is scored as its config asks; got "
            f"{', '.join(named[name] for name in given)}. Leave that out, or give texts."
        )
    from auditor.audit.pipeline import run_audit

    config, bar = _config(inputs[0]), _progress()
    say(run_audit(config, until="score", progress=bar).path / "scores")


@click.command()
@click.argument("run")
@click.option(
    "--corpus",
    multiple=True,
    metavar="PATH",
    help="Training text to search, in place of that of the run.",
)
@click.option("--index", metavar="DIR", help="An index, in place of --corpus.")
@click.option("--text-field", help=TEXT_FIELD)
@click.option(
    "--normalize",
    multiple=True,
    metavar="WHAT",
    help="Ignore differences of `whitespace` or `case`; repeatable.",
)
@click.option("--min-match-tokens", type=int, help="Minimum length of a verbatim match, in tokens.")
@click.option(
    "--min-match-chars",
    type=int,
    help="Minimum length in characters, as an alternative; a run of one character counts once.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def verify(run, as_json, **given) -> None:
    """Search training text for the candidates of a run, and update its report.

    Use it to search other training text or to change the minimum length of a match. The previous
    matches are replaced.
    """
    from auditor.audit.pipeline import verify_again
    from auditor.cli.show import show_run

    changes = {name: value for name, value in given.items() if value not in (None, ())}
    show_run(verify_again(run, changes, progress=_progress()), as_json=as_json)


@click.command()
@click.argument("run")
@click.option(
    "--controls",
    multiple=True,
    metavar="SPEC",
    help="Held-out text, or `verified`, in place of the setting of the run.",
)
@click.option("--fdr", type=float, help="False discovery rate of a list.  [default: 0.05]")
@click.option(
    "--names", metavar="PIPELINE", help="Also detect names of people, with this spaCy pipeline."
)
@click.option("--price-per-hour", type=float, help="Price of the machine, for the cost per find.")
@click.option("--reveal", is_flag=True, help="Show personal data in the report and CSV.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def report(run, reveal, as_json, **given) -> None:
    """Rewrite the tables and the report page of a run, and print the summary.

    With --fdr, samples are listed at that false discovery rate. If there is training text, a
    random half of each shortlist is checked against it, and the list is made of the other half
    (--controls verified). Otherwise --controls names text of the same kind that the model was
    not trained on, and the samples that score above it are listed; this needs the models.

    With --names, an installed spaCy pipeline such as en_core_web_sm (extra `names`), names of
    people count as personal data.

    Personal data is masked in the page and in candidates.csv unless --reveal is given; the next
    report masks it again. The report of an interrupted audit shows what is complete.
    """
    from auditor.audit.pipeline import report_again
    from auditor.cli.show import show_run

    changes = {name: value for name, value in given.items() if value not in (None, ())}
    made = report_again(run, changes, reveal=reveal, progress=_progress())
    show_run(made, as_json=as_json)


def _config(run):
    from auditor.runs.run import load_run

    return load_run(run).config.model_copy(update={"out": str(run)})


def _progress():
    from auditor.system.progress import for_terminal

    return for_terminal()
