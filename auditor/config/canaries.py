"""Options of the verbs of `auditor canaries`; each field is an option of the command."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from auditor.config.fields import (
    DEVICE,
    TEXT_FIELD,
    Count,
    Million,
    Options,
    Positive,
    Seed,
    Thousands,
    option,
)


class CreateOptions(Options):
    """Options of `auditor canaries create`."""

    template: str | None = option('Text with fields: "My password is {word} {digits:6}".', None)
    kind: str | None = option(
        "A field in a built-in sentence, such as digits:6.", None, flag="format", metavar="NAME"
    )
    count: Million = option("Number of canaries.", 10)
    repeats: Annotated[tuple[Million, ...], Field(min_length=1)] = option(
        "Copies to insert of each canary; several values are assigned in turn.  [default: 1]",
        (),
    )
    controls: Million | None = option(
        "Number of control secrets, which are never inserted.  [default: up to 512]", None
    )
    seed: Seed = option("Random seed of the secrets.", 0)
    model: str | None = option("Model whose vocabulary {tokens} uses.", None, metavar="SPEC")
    out: str = option("Manifest to write (JSON); keep it private.", metavar="FILE")


class InsertOptions(Options):
    """Options of `auditor canaries insert`."""

    corpus: tuple[str, ...] = option(
        "Training text: files, folders, globs, hf:PATH or presets; repeatable.", metavar="SPEC"
    )
    text_field: str | None = option(TEXT_FIELD, None)
    model: str | None = option(
        "Count the share of canaries in tokens of this model.", None, metavar="SPEC"
    )
    seed: Seed = option("Random seed of the positions.", 0)
    out: str = option("The new corpus.", metavar="PATH")


class MeasureOptions(Options):
    """Options of `auditor canaries measure`."""

    model: str = option("The model to measure.", metavar="SPEC")
    enumerate_up_to: Count = option(
        "Largest secret space to score completely, after each prefix.", 10_000
    )
    controls: Positive | None = option("Number of controls to use.  [default: all]", None)
    beams: Thousands = option("Values above 1 also run a beam search.", 1)
    bos: str | None = option(
        "BOS token to use in place of that of the model.", None, metavar="TOKEN"
    )
    device: str = option(DEVICE, "auto")
    out: str | None = option(
        "Output file with a row per canary and control, .csv or .parquet.", None, metavar="FILE"
    )
    reveal: bool = option("Show the secrets in the CSV and on the terminal.", False)
