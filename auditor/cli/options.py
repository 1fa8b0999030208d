"""The flags of an audit, and how they join an audit file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from auditor.config.audit import PRESETS, AuditConfig, Decoding, make_config
from auditor.config.audit_file import load_toml
from auditor.config.fields import TEXT_FIELD
from auditor.errors import ConfigError

# Flag -> field of the table that it belongs to.
_DECODING = {name: name for name in Decoding.model_fields}
_PROMPTS = {name: name for name in ("template", "examples", "words", "samples_per_prompt")}
_PROMPTS["prompts"] = "corpus"
# Flag -> the kind of prompts that reads it, and the preset of that kind.
_NEEDS = {
    "prompts": ("corpus", "internet"),
    "template": ("few-shot", "few-shot"),
    "examples": ("few-shot", "few-shot"),
    "words": ("repeat", "repeat"),
}

_FLAGS: list[Callable] = [
    click.argument("file", required=False, type=click.Path()),
    click.option("--model", help="Model spec: hub id, folder, .gguf, smollm2, testbed:DIR/target."),
    click.option(
        "--reference",
        "references",
        multiple=True,
        metavar="[NAME=]SPEC",
        help="Reference model; repeatable.",
    ),
    click.option(
        "--strategy",
        "strategies",
        multiple=True,
        metavar="NAME",
        help=f"Sampling strategy: {', '.join(PRESETS)}; repeatable.  [default: top-n]",
    ),
    click.option("--samples", type=int, help="Samples per strategy.  [default: 1000]"),
    click.option(
        "--corpus",
        multiple=True,
        metavar="SPEC",
        help="Training text to search: files, folders, hf:PATH, presets.",
    ),
    click.option(
        "--index",
        metavar="DIR",
        help="An index of the training text, in place of --corpus (see `auditor index build`).",
    ),
    click.option(
        "--text-field", help=f"Of --corpus and --prompts: {TEXT_FIELD[0].lower()}{TEXT_FIELD[1:]}"
    ),
    click.option(
        "--strict/--no-strict", default=None, help="Stop at the first record that cannot be read."
    ),
    click.option(
        "--prompts",
        multiple=True,
        metavar="PATH",
        help="Texts to take `internet` prefixes from, or a built-in set: openings.",
    ),
    click.option(
        "--template",
        metavar="PATH",
        help="Template for `few-shot`: text with {column} fields, or a built-in one:"
        " contacts, questions.",
    ),
    click.option(
        "--examples",
        metavar="PATH",
        help="Examples for `few-shot`: a CSV file with a header, or a built-in set.",
    ),
    click.option("--word", "words", multiple=True, help="Word for `repeat`; repeatable."),
    click.option("--samples-per-prompt", type=int, help="Samples per prompt.  [default: 1]"),
    click.option("--max-new-tokens", type=int, help="Tokens per sample.  [default: 256]"),
    click.option("--temperature", type=float, help="Softmax temperature.  [default: 1]"),
    click.option("--temperature-start", type=float, help="Temperature of the first token."),
    click.option(
        "--temperature-steps", type=int, help="Tokens over which it changes to --temperature."
    ),
    click.option("--top-k", type=int, help="Sample from the k most likely tokens."),
    click.option(
        "--top-p",
        type=float,
        help="Sample from the most likely tokens with this total probability.",
    ),
    click.option(
        "--min-p", type=float, help="Drop tokens below this fraction of the highest probability."
    ),
    click.option(
        "--typical-p",
        type=float,
        help="Sample from the most typical tokens with this total probability.",
    ),
    click.option("--repetition-penalty", type=float, help="Values above 1 discourage repetition."),
    click.option("--beams", type=int, help="Number of beams: beam search instead of sampling."),
    click.option(
        "--stop-at-eos/--no-stop-at-eos",
        default=None,
        help="End samples at the end-of-sequence token.",
    ),
    click.option("--top", type=int, help="Candidates per shortlist.  [default: 100]"),
    click.option(
        "--min-match-tokens",
        type=int,
        help="Minimum length of a verbatim match, in tokens.  [default: 32]",
    ),
    click.option(
        "--min-match-chars",
        type=int,
        help="Minimum length in characters, as an alternative; a run of one "
        "character counts once.  [default: 100]",
    ),
    click.option(
        "--normalize",
        multiple=True,
        metavar="WHAT",
        help="Ignore differences of `whitespace` or `case` in matches; repeatable.",
    ),
    click.option(
        "--controls",
        multiple=True,
        metavar="SPEC",
        help="Text of the same kind that the model did not see, or `verified`: half of each list. "
        "They hold lists at --fdr.  [default: verified, with --fdr]",
    ),
    click.option("--fdr", type=float, help="False discovery rate of a list.  [default: 0.05]"),
    click.option(
        "--names", metavar="PIPELINE", help="Also detect names of people, with this spaCy pipeline."
    ),
    click.option("--truth", metavar="PATH", help="truth.parquet of a testbed."),
    click.option(
        "--canaries",
        metavar="FILE",
        help="Manifest of canaries to measure (see `auditor canaries create`).",
    ),
    click.option("--seed", type=int, help="Random seed of the samples.  [default: 0]"),
    click.option(
        "--bos",
        metavar="TOKEN",
        help="BOS token to use in place of that of the model, and for references that have none.",
    ),
    click.option("--dtype", help="auto, float32, bfloat16 or float16.  [default: auto]"),
    click.option("--device", help="auto, cpu or cuda.  [default: auto]"),
    click.option(
        "--workers",
        type=int,
        help="Worker processes, each with its own GPU or CPU cores.  [default: 1]",
    ),
    click.option(
        "--ray",
        metavar="ADDRESS",
        help="Workers on a Ray cluster instead: an address, auto or local.",
    ),
    click.option("--batch-size", type=int, help="Sequences sampled at once.  [default: by memory]"),
    click.option("--shard-size", type=int, help="Samples per file.  [default: 512]"),
    click.option(
        "--reveal", is_flag=True, default=None, help="Show personal data in the report and CSV."
    ),
    click.option(
        "--price-per-hour", type=float, help="Price of the machine, for the cost per find."
    ),
    click.option(
        "--out",
        metavar="DIR",
        help="The run's folder, or a URL (s3://bucket/run).  [default: runs/MODEL-DIGEST]",
    ),
]


def audit_flags(function: Callable) -> Callable:
    """All flags of an audit on a verb."""
    for flag in reversed(_FLAGS):
        function = flag(function)
    return function


def config_from(file: str | None, flags: dict[str, Any]) -> AuditConfig:
    """The config of an audit file and flags; flags win.

    A flag on how to prompt or decode holds for every strategy; an audit file can say it for one.
    """
    given = load_toml(file) if file else {}
    said = {name: value for name, value in flags.items() if value is not None and value != ()}
    for name, names in (("decoding", _DECODING), ("prompts", _PROMPTS)):
        table = {field: said.pop(flag) for flag, field in names.items() if flag in said}
        if table and isinstance(given.get(name, {}), dict):
            given[name] = {**given.get(name, {}), **table}
            _take_out(given.get("strategy"), name, table)
    config = make_config({**given, **said})
    _check_used(config, flags)
    return config


def _take_out(strategies: Any, name: str, table: dict[str, Any]) -> None:
    """A flag wins over what the file says for one strategy, too, flat or grouped."""
    if not isinstance(strategies, dict):
        return
    for own in strategies.values():
        grouped = own.get(name) if isinstance(own, dict) else None
        for settings in (own, grouped):
            if isinstance(settings, dict):
                for key in set(settings) & set(table):
                    del settings[key]


def _check_used(config: AuditConfig, flags: dict[str, Any]) -> None:
    """A flag that no strategy asked for would be passed over in silence."""
    kinds = {s.prompts.kind for s in config.strategies}
    for flag, (kind, preset) in _NEEDS.items():
        if flags.get(flag) and kind not in kinds:
            shown = "--word" if flag == "words" else f"--{flag}"
            raise ConfigError(
                f"{shown} is for a strategy of the kind {preset!r}, and none is asked for; got "
                f"{', '.join(s.name for s in config.strategies)}. Add --strategy {preset}, or "
                f"leave out {shown}."
            )
