"""The flags of an audit, and how they join an audit file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from auditor.config import PRESETS, Decoding, load_toml, make_config

_DECODING = [name for name in Decoding.model_fields if name != "stop_at_eos"]

_FLAGS: list[Callable] = [
    click.argument("file", required=False, type=click.Path()),
    click.option("--model", help="Model spec: hub id, folder, .gguf, smollm2, testbed:DIR/target."),
    click.option(
        "--reference", "references", multiple=True, metavar="[NAME=]SPEC",
        help="A model to compare with; any number.",
    ),
    click.option(
        "--strategy", "strategies", multiple=True, metavar="NAME",
        help=f"How to sample: {', '.join(PRESETS)}; any number.  [default: top-n]",
    ),
    click.option("--samples", type=int, help="Samples of each strategy.  [default: 1000]"),
    click.option("--corpus", multiple=True, metavar="PATH", help="Training text to verify in."),
    click.option("--text-field", help="The JSONL field that holds the text."),
    click.option("--strict", is_flag=True, default=None, help="Stop at broken lines or bytes."),
    click.option("--prompts", multiple=True, metavar="PATH", help="Texts for `internet` prefixes."),
    click.option("--template", metavar="PATH", help="Template for `few-shot`: text with {column}."),
    click.option("--examples", metavar="PATH", help="Table for `few-shot`: CSV with a header."),
    click.option("--word", "words", multiple=True, help="Word for `repeat`; any number."),
    click.option("--samples-per-prompt", type=int, help="Samples of one prompt.  [default: 1]"),
    click.option("--max-new-tokens", type=int, help="Tokens of a sample.  [default: 256]"),
    click.option("--temperature", type=float, help="Softmax temperature.  [default: 1]"),
    click.option("--temperature-start", type=float, help="Temperature of the first token."),
    click.option("--temperature-steps", type=int, help="Tokens until it is --temperature."),
    click.option("--top-k", type=int, help="Keep the k likeliest tokens."),
    click.option("--top-p", type=float, help="Keep the likeliest tokens of this mass."),
    click.option("--min-p", type=float, help="Keep tokens of this share of the likeliest."),
    click.option("--typical-p", type=float, help="Keep the most typical tokens of this mass."),
    click.option("--repetition-penalty", type=float, help="Above 1: repeat less."),
    click.option("--beams", type=int, help="Beam search instead of sampling."),
    click.option("--stop-at-eos", is_flag=True, default=None, help="End a sample at EOS."),
    click.option("--top", type=int, help="Length of each short list.  [default: 100]"),
    click.option("--min-match-tokens", type=int, help="Verbatim from here on.  [default: 32]"),
    click.option("--min-match-chars", type=int, help="... or from here on.  [default: 100]"),
    click.option("--truth", metavar="PATH", help="A testbed's truth.parquet."),
    click.option("--seed", type=int, help="[default: 0]"),
    click.option("--bos", help="Token that starts a text, where the model names none."),
    click.option("--dtype", help="auto, float32 or bfloat16.  [default: auto]"),
    click.option("--device", help="auto, cpu or cuda.  [default: auto]"),
    click.option("--batch-size", type=int, help="Sequences in flight.  [default: by memory]"),
    click.option("--shard-size", type=int, help="Samples of a file.  [default: 512]"),
    click.option("--out", metavar="DIR", help="The run's folder.  [default: runs/MODEL-DIGEST]"),
]


def audit_flags(function: Callable) -> Callable:
    """All flags of an audit on a verb."""
    for flag in reversed(_FLAGS):
        function = flag(function)
    return function


def config_from(file: str | None, flags: dict[str, Any]):
    """The config of an audit file and flags; flags win.

    A flag on how to prompt or decode holds for every strategy; an audit file can say it for one.
    """
    given = load_toml(file) if file else {}
    flags = {k: v for k, v in flags.items() if v is not None and v != ()}
    decoding = {k: flags.pop(k) for k in [*_DECODING, "stop_at_eos"] if k in flags}
    prompts = {k: flags.pop(k) for k in ("template", "examples", "words") if k in flags}
    if "prompts" in flags:
        prompts["corpus"] = flags.pop("prompts")
    if "samples_per_prompt" in flags:
        prompts["samples_per_prompt"] = flags.pop("samples_per_prompt")
    for name, table in (("decoding", decoding), ("prompts", prompts)):
        if table:
            given[name] = {**given.get(name, {}), **table}
            # A flag wins over what the file says for one strategy, too.
            for own in given.get("strategy", {}).values():
                for key in set(own) & set(table):
                    del own[key]
    given.update(flags)
    if "top" not in given and isinstance(given.get("samples"), int):
        given["top"] = min(100, max(1, given["samples"]))
    return make_config(given)
