"""`auditor score`, `verify` and `report`: stages of an existing run."""

from __future__ import annotations

import click

from auditor.cli.generated import flags_of, given_options, json_option, options_of
from auditor.cli.printing import say
from auditor.cli.score_texts import is_run, score_given_texts, text_options
from auditor.cli.verbosity import say_next, shown_progress, verbosity
from auditor.config.audit import AuditConfig

_OF_VERIFICATION = (
    *("corpus", "index", "text_field", "normalize", "min_match_tokens", "min_match_chars"),
)
_OF_REPORT = ("controls", "fdr", "names", "price_per_hour", "reveal")


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="RUN | TEXTS...")
@text_options
@verbosity
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
    if given := given_options(flags):
        raise click.UsageError(
            f"{inputs[0]} is a run, which is scored with its own options; got {flags_of(given)}. "
            "Remove that, or give texts."
        )
    from auditor.audit.pipeline import run_audit

    config, bar = _config(inputs[0]), shown_progress()
    say(run_audit(config, until="score", progress=bar).path / "scores")
    say_next(f"auditor audit --resume {inputs[0]}")


@click.command()
@click.argument("run")
@options_of(AuditConfig, only=_OF_VERIFICATION, shows_defaults=False)
@json_option
@verbosity
def verify(run, as_json, **given) -> None:
    """Search training text for the candidates of a run, and update its report.

    Use it to search other training text or to change the minimum length of a match; options that
    are not given keep the values of the run. The previous matches are replaced.
    """
    from auditor.audit.pipeline import verify_again
    from auditor.cli.show import show_run

    changes = given_options(given)
    made = verify_again(run, changes, progress=shown_progress())
    show_run(made, as_json=as_json)
    say_next(f"open {made.report}")


@click.command()
@click.argument("run")
@options_of(AuditConfig, only=_OF_REPORT)
@json_option
@verbosity
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
    from auditor.cli.show import after_audit, show_run

    changes = given_options(given)
    made = report_again(run, changes, reveal=bool(reveal), progress=shown_progress())
    show_run(made, as_json=as_json)
    say_next(after_audit(made))


def _config(run):
    from auditor.runs.run import load_run

    return load_run(run).config.model_copy(update={"out": str(run)})
