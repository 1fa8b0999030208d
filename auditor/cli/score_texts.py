"""`auditor score` on texts: its flags, and which of its two kinds of argument was given."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from auditor.cli.printing import say
from auditor.config.fields import TEXT_FIELD

OUT = "scores.parquet"

_FLAGS: list[Callable] = [
    click.option("--model", metavar="SPEC", help="Model to score the texts with."),
    click.option(
        "--reference",
        "references",
        multiple=True,
        metavar="[NAME=]SPEC",
        help="Reference model; repeatable.",
    ),
    click.option("--out", metavar="FILE", help="Output file, .parquet or .csv.  [default: "),
    click.option("--overwrite", is_flag=True, help="Replace --out if it exists."),
    click.option("--text-field", help=TEXT_FIELD),
    click.option(
        "--nonmember-prefix",
        metavar="FILE",
        help="Texts that the model was not trained on, for ReCaLL.",
    ),
    click.option(
        "--frequencies",
        multiple=True,
        metavar="CORPUS",
        help="Text for token frequencies, for DC-PDD; repeatable.",
    ),
    click.option("--neighbours", type=int, help="Neighbours per text.  [default: 0]"),
    click.option(
        "--masked-model",
        metavar="SPEC",
        help="Masked model that makes the neighbours; without one, words are dropped and swapped.",
    ),
    click.option("--seed", type=int, help="Random seed of the neighbours.  [default: 0]"),
    click.option(
        "--bos",
        metavar="TOKEN",
        help="BOS token to use in place of that of the model, and for references that have none.",
    ),
    click.option("--dtype", help="auto, float32, bfloat16 or float16.  [default: float32]"),
    click.option("--device", help="auto, cpu or cuda.  [default: auto]"),
    click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON."),
]


def text_flags(function: Callable) -> Callable:
    """The flags of scoring texts on a verb."""
    for flag in reversed(_FLAGS):
        function = flag(function)
    return function


def is_run(inputs: tuple[str, ...]) -> bool:
    """Whether the arguments are a run's folder, and not texts: one folder with a manifest.json."""
    return len(inputs) == 1 and (Path(inputs[0]) / "manifest.json").is_file()


def given_flags(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags that were said."""
    return {name: value for name, value in flags.items() if value not in (None, (), False)}


def score_given_texts(inputs: tuple[str, ...], flags: dict[str, Any]) -> None:
    """Score the texts and write them; print where, or what was made as JSON."""
    from auditor.errors import RunError
    from auditor.scoring.score_texts import check_out, score_texts, write_scores
    from auditor.system.progress import for_terminal

    said = given_flags(flags)
    as_json, overwrite = said.pop("as_json", False), said.pop("overwrite", False)
    out = said.pop("out", OUT)
    if "model" not in said:
        raise RunError(
            f"{inputs[0]} is no run folder: it has no manifest.json. Give the folder of a run, or "
            "add --model to score texts."
        )
    check_out(out, overwrite=overwrite)
    frame = score_texts(inputs, **said, progress=for_terminal())
    write_scores(frame, out, overwrite=overwrite)
    if as_json:
        made = {"out": str(out), "texts": len(frame), "columns": list(frame.columns)}
        click.echo(json.dumps(made | frame.attrs["scored"], indent=2, sort_keys=True))
    else:
        say(out)
