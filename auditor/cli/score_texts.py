"""`auditor score` on texts: its options and output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from auditor.cli.generated import given_options, json_option, options_of
from auditor.cli.printing import print_json, say
from auditor.cli.verbosity import say_next, shown_progress
from auditor.config.scoring import ScoringConfig
from auditor.config.served import SERVED, Served

OUT = "scores.parquet"

_OPTIONS: list[Callable] = [
    options_of(ScoringConfig, is_required=False),
    options_of(Served),
    click.option("--out", metavar="FILE", help=f"Output file, .parquet or .csv.  [default: {OUT}]"),
    click.option("--overwrite", is_flag=True, default=None, help="Replace --out if it exists."),
    json_option,
]


def text_options(function: Callable) -> Callable:
    """Add the options of scoring texts to a verb."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def is_run(inputs: tuple[str, ...]) -> bool:
    """Whether the arguments are the folder of a run: one folder with a manifest.json."""
    return len(inputs) == 1 and (Path(inputs[0]) / "manifest.json").is_file()


def score_given_texts(inputs: tuple[str, ...], flags: dict[str, Any]) -> None:
    """Score texts, write the scores, and print the path or a JSON summary."""
    from auditor.errors import RunError
    from auditor.scoring.score_texts import check_out, score_texts, write_scores

    given = given_options(flags)
    as_json, overwrite = (given.pop(name, False) for name in ("as_json", "overwrite"))
    out = given.pop("out", OUT)
    if "model" not in given:
        raise RunError(
            f"{inputs[0]} is not a run folder: it has no manifest.json. Give a run's folder, or "
            "add --model to score texts."
        )
    given["served"] = {name: given.pop(name) for name in SERVED if name in given}
    check_out(out, overwrite=overwrite)
    frame = score_texts(inputs, **given, progress=shown_progress())
    write_scores(frame, out, overwrite=overwrite)
    if as_json:
        made = {"out": str(out), "texts": len(frame), "columns": list(frame.columns)}
        print_json(made | frame.attrs["scored"])
    else:
        say(out)
    say_next(f"auditor members --members {out} --nonmembers SCORES-OF-NONMEMBERS")
