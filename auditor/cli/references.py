"""`auditor references`: models trained on halves of a pool, to judge a target."""

from __future__ import annotations

import click

from auditor.cli.generated import given_options, json_option, options_of
from auditor.cli.printing import print_json, records, say
from auditor.cli.verbosity import say_next, shown_progress, verbosity
from auditor.config.audit import AuditConfig
from auditor.config.finetuning import FinetuneConfig
from auditor.config.references import OF_TRAINING, ReferencesConfig


@click.group()
def references() -> None:
    """Train models on halves of a pool of texts; judge a target by them.

    \b
    auditor references train --model gpt2 --pool pool.jsonl --models 16 --out references
    auditor references score references --target tuned --out membership
    """


@references.command()
@options_of(ReferencesConfig, only=("model", "pool"))
@click.option(
    "--out", required=True, metavar="DIR", help="Output folder; an interrupted training is resumed."
)
@options_of(ReferencesConfig, exclude=("model", "pool"))
@options_of(FinetuneConfig, only=OF_TRAINING)
@verbosity
def train(model, pool, out, **options) -> None:
    """Train models on random halves of a pool: each text is IN for half of the models.

    The texts are those whose membership in the training text of a target is to be judged, and more
    of the same kind. Train the models as the target was trained.
    """
    from auditor.references.training import train_references

    train_references(model, pool, out=out, progress=shown_progress(), **given_options(options))
    say(f"Saved: {out}")
    say_next(f"auditor references score {out} --target SPEC")


@references.command()
@click.argument("folder", metavar="DIR")
@click.option("--target", metavar="SPEC", help="Model to judge; without it, only evaluate.")
@options_of(AuditConfig, only=("device", "bos"))
@click.option("--out", metavar="DIR", help="Folder for the tables.")
@json_option
@verbosity
def score(folder, target, out, as_json, **options) -> None:
    """Judge a target by LiRA, RMIA and Attack R; evaluate each on the references themselves.

    Each reference in turn is left out and attacked with the others. Thresholds come from the other
    models, never from the texts that are judged.
    """
    from auditor.cli.show import print_frame
    from auditor.references.matrix import audit_by_references, save, shown_summary, telling_texts

    found = audit_by_references(folder, target, progress=shown_progress(), **given_options(options))
    if out:
        save(found, out)
    if as_json:
        print_json({"summary": records(found.summary), "texts": records(found.texts)})
        return
    print_frame(
        shown_summary(found.summary),
        "Each reference as the target (95 % intervals over models: Student’s t)",
    )
    print_frame(
        telling_texts(found.texts),
        "Most memorized texts: share of tokens predicted, trained on the text minus not",
    )
    if out:
        say(f"Saved: {out}")
    else:
        say_next("add --out DIR to save the tables")
