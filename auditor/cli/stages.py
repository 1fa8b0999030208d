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
    """Score the samples of a run, or texts that you have.

    RUN is the folder that `auditor sample` printed: its samples get the scores of the audit, as its
    config asks, and no flag is taken.

    TEXTS are files, folders or globs, and need --model: every text gets one row of membership
    scores, higher = more likely a member. What holds a manifest.json is a run.

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
    "--corpus", multiple=True, metavar="PATH", help="Training text, in place of the run's."
)
@click.option("--index", metavar="DIR", help="... or an index of it.")
@click.option("--text-field", help=TEXT_FIELD)
@click.option("--normalize", multiple=True, metavar="WHAT", help="whitespace or case; or both.")
@click.option("--min-match-tokens", type=int, help="Verbatim from here on.")
@click.option(
    "--min-match-chars", type=int, help="... or from here on, a run of one character counted once."
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def verify(run, as_json, **given) -> None:
    """Find a run's candidates in training text, and write its report anew.

    With other training text, or other least lengths, than before: the old matches are replaced.
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
    help="Held-out text, or `verified`, in place of the run's.",
)
@click.option("--fdr", type=float, help="False share of a list against it.  [default: 0.05]")
@click.option("--names", metavar="PIPELINE", help="Look for names of people, with this of spaCy.")
@click.option("--price-per-hour", type=float, help="Of the machine: what a find costs in money.")
@click.option("--reveal", is_flag=True, help="Show personal data in the report and CSV.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def report(run, reveal, as_json, **given) -> None:
    """Write a run's tables and page again, and print the summary.

    With --fdr, samples are listed at that false discovery rate. Where training text is given, a
    coin chooses the half of each short list that is checked in it, and the list is made of the
    others (--controls verified). Or else --controls names text of the same kind that the model was
    not trained on, and the samples are listed that score above it; the models judge that text, so
    they must be there.

    With --names, an installed spaCy pipeline such as en_core_web_sm (extra `names`), names of
    people count as personal data, too.

    Personal data is masked in the page and in candidates.csv, unless --reveal is given; the next
    report masks it again. Of an audit that was cut short, the report shows what there is so far.
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
