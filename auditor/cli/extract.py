"""`auditor extract`: discoverable extraction."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import click
from click.core import ParameterSource

from auditor.cli.generated import flags_of, given_options, json_option, options_of
from auditor.cli.printing import print_json, records, say
from auditor.cli.verbosity import say_next, shown_progress, verbosity
from auditor.config.audit import AuditConfig, Decoding
from auditor.config.extraction import CorpusExtractionConfig, DocumentScanConfig, SpanConfig
from auditor.config.fields import MASKED
from auditor.config.served import SERVED, Served

_DECODING = ("temperature", "top_k", "top_p")
_EXTRACTION = [name for name, f in CorpusExtractionConfig.model_fields.items() if f.description]
_SPANS = ("span_tokens", "window_tokens", "references")
# Options of causal models, which masked models do not have.
_CAUSAL = (
    *("prefix_tokens", "suffix_tokens", "p", "with_bos", "bos", "chat_template"),
    *("samples_per_prefix", "temperature", "top_k", "top_p"),
)
_FROM = ("corpus", "index", "document", "benchmark")
# Flags that apply only to some sources.
_ONLY = {
    "text_field": ("corpus",),
    "strict": ("corpus",),
    "prefix_tokens": ("corpus", "index", "document"),
    "with_bos": ("corpus", "index", "document"),
    "bos": ("corpus", "index", "document"),
    "chat_template": ("corpus", "index", "document"),
    **dict.fromkeys(SERVED, ("corpus", "index")),
    "examples": ("corpus", "index"),
    "from_start": ("corpus", "index"),
    "samples_per_prefix": ("corpus", "index"),
    "seed": ("corpus", "index"),
    "span_tokens": ("corpus", "index"),
    "window_tokens": ("corpus", "index"),
    "references": ("corpus", "index"),
    "reveal": ("corpus", "index", "document"),
    "stride": ("document",),
    "canaries": ("document",),
    "preprefix": ("benchmark",),
    "split": ("benchmark",),
}


@click.command()
@click.option("--model", "models", multiple=True, metavar="SPEC", help="Model; repeatable.")
@options_of(AuditConfig, only=("corpus", "index"))
@click.option("--document", metavar="FILE", help="Scan one document with a sliding window instead.")
@click.option(
    "--benchmark", metavar="DIR", help="Use the arrays of lm-extraction-benchmark instead."
)
@options_of(AuditConfig, only=("text_field", "strict"))
@options_of(CorpusExtractionConfig)
@options_of(SpanConfig, only=_SPANS)
@options_of(DocumentScanConfig, only=("stride",))
@click.option(
    "--preprefix", is_flag=True, help="Also show the 100 tokens before; needs --benchmark."
)
@click.option("--split", default="train", show_default=True, help="train, val or test.")
@options_of(Decoding, only=_DECODING)
@options_of(Served)
@options_of(AuditConfig, only=("device",))
@click.option("--out", metavar="DIR", help="Folder for tables, figures and the report page.")
@click.option("--canaries", multiple=True, metavar="FILE", help=MASKED)
@options_of(AuditConfig, only=("reveal",))
@json_option
@verbosity
def extract(models, as_json, **given) -> None:
    """Measure how much of a known text a model reproduces word for word.

    One pass over each window of prefix and suffix computes whether greedy decoding reproduces
    the suffix, the probability that one sample is the suffix (p_z), and how many samples are
    needed. Encoder-decoders such as T5 fill in hidden spans of each window instead: 15 % of it in
    short spans, and one long span between the tokens shown.

    Masked models recover masked spans instead: the middle of each window is masked and filled, the
    most confident token first. With --reference, also how many of them no reference recovers.

    \b
    auditor extract --model gpt2 --corpus training-text/ --out extraction
    auditor extract --model gpt2-xl --corpus text/ --prefix-tokens 50 --prefix-tokens 200
    auditor extract --model gpt2-xl --document book.txt --stride 10 --out book
    auditor extract --model EleutherAI/gpt-neo-1.3B --benchmark datasets/
    auditor extract --model tuned-bert --corpus notes/ --reference bert-base-uncased
    auditor extract --model google/t5-v1_1-base --corpus text/ --out infilled
    """

    kind = _kind(given)
    if kind == "corpus" and models and _is_masked(models, given):
        kind = "spans"
    if not models:
        raise click.UsageError("Missing option '--model'. Name a model to extract from.")
    shared = {
        "decoding": _part(given, _DECODING),
        "out": given["out"],
        "progress": shown_progress(),
        **_part(given, ("p", "device")),
    }
    if kind == "spans":
        shared = {"out": given["out"], "progress": shown_progress(), **_part(given, ("device",))}
    result = _RUN[kind](models, given, shared)
    if as_json:
        print_json(_as_json(kind, result))
        return
    _show(kind, result)
    if given["out"]:
        if given["reveal"]:
            say("These files show personal data: keep them confidential.", err=True)
        say(f"\nSaved: {given['out']}")
        say_next(f"open {given['out']}" + ("/heatmap.html" if kind == "document" else ""))
    else:
        say_next("add --out DIR to save the tables and figures")


def _kind(given: dict[str, Any]) -> str:
    """The source of the text; exactly one must be given."""
    named = [name for name in _FROM if given[name]]
    if len(named) != 1:
        got = ", ".join(f"--{name}" for name in named) or "none"
        raise click.UsageError(
            f"Give one of --corpus, --index, --document and --benchmark; got {got}."
        )
    _check_used(named[0])
    return "corpus" if named == ["index"] else named[0]


def _is_masked(models, given: dict[str, Any]) -> bool:
    """Whether the models are masked; options of the other kind are refused."""
    from auditor.models.spec_kinds import kind_of_spec

    is_masked = kind_of_spec(models[0]) == "masked"
    wrong = given_options(_part(given, _CAUSAL if is_masked else _SPANS))
    if wrong:
        kinds = ("causal", "masked") if is_masked else ("masked", "causal")
        raise click.UsageError(
            f"{flags_of(wrong)} is for {kinds[0]} models; {models[0]} is {kinds[1]}. Leave it out."
        )
    return is_masked


def _check_used(source: str) -> None:
    """Refuse a flag that does not apply to this source."""
    context = click.get_current_context()
    for option in context.command.params:
        name, sources = option.name or "", _ONLY.get(option.name or "", _FROM)
        is_given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if is_given and source not in sources:
            raise click.UsageError(
                f"{option.opts[0]} is for {' and '.join(f'--{s}' for s in sources)}; got "
                f"--{source}. Remove {option.opts[0]}."
            )


def _part(given: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The options of these names that were given."""
    return given_options({name: given[name] for name in names})


def _one(models, flag: str) -> str:
    if len(models) != 1:
        raise click.UsageError(f"--{flag} takes one --model; got {len(models)}. Run one at a time.")
    return models[0]


def _corpus(models, given, shared):
    from auditor.corpus.reading import read_corpus
    from auditor.extraction.extract import extract as run
    from auditor.matching.index import open_index

    index = open_index(given["index"]) if given["index"] else None
    text = index or read_corpus(given["corpus"], **_part(given, ("text_field", "strict")))
    options = {**_part(given, (*_EXTRACTION, "reveal")), "served": _part(given, SERVED)}
    return run(models, text, count=index.count if index else None, **{**options, **shared})


def _spans(models, given, shared):
    from auditor.corpus.reading import read_corpus
    from auditor.extraction.masked_spans import recover_spans
    from auditor.matching.index import open_index

    index = open_index(given["index"]) if given["index"] else None
    text = index or read_corpus(given["corpus"], **_part(given, ("text_field", "strict")))
    options = _part(given, (*_SPANS, "examples", "from_start", "seed", "reveal"))
    return recover_spans(models, text, count=index.count if index else None, **options, **shared)


def _document(models, given, shared):
    from auditor.extraction.document_scan import scan_document

    if len(given["prefix_tokens"]) > 1:
        raise click.UsageError(
            f"--document takes one --prefix-tokens; got {len(given['prefix_tokens'])}. Run "
            "one at a time."
        )
    names = ("suffix_tokens", "stride", "with_bos", "bos", "chat_template", "canaries", "reveal")
    options = {**_part(given, names), **shared}
    if given["prefix_tokens"]:
        options["prefix_tokens"] = given["prefix_tokens"][0]
    return scan_document(_one(models, "document"), given["document"], **options)


def _benchmark(models, given, shared):
    from auditor.extraction.benchmark import attack_benchmark

    return attack_benchmark(
        _one(models, "benchmark"),
        given["benchmark"],
        split=given["split"],
        use_preprefix=given["preprefix"],
        **{**_part(given, ("suffix_tokens",)), **shared},
    )


_RUN = {"corpus": _corpus, "spans": _spans, "document": _document, "benchmark": _benchmark}
# Kind -> the tables to print: (attribute, title).
_TABLES = {
    "corpus": (
        ("summary", "Extracted of examples (95 % intervals: Clopper–Pearson)"),
        ("fits", "Log-linear laws (95 % intervals of the slope: Student’s t)"),
    ),
    "spans": (("summary", "Masked spans recovered (95 % intervals: Clopper–Pearson)"),),
    "document": (("coverage", "Characters in suffixes of that p_z or more"),),
    "benchmark": (("scores", "Guesses (95 % intervals: Clopper–Pearson)"),),
}
# Columns of the saved tables that are not printed.
_UNSHOWN = ("n_parameters", "suffix_tokens", "confidence", "r_squared_low", "r_squared_high")


def _show(kind: str, result) -> None:
    """Print the headline and the tables, but no text."""
    from auditor.cli.show import print_frame

    for sentence in result.headline:
        say(sentence)
    for name, title in _TABLES[kind]:
        say()
        print_frame(_for_reading(getattr(result, name)), title)


def _for_reading(frame):
    """A table for the terminal: intervals beside their value, few digits."""
    from reports.number_text import DASH, cell, numbers

    if "span_tokens" in frame:
        return _recovered(frame)
    if "tau" in frame:
        return _coverage(frame)
    if "outcome" in frame:
        return _outcomes(frame)
    if "n_guesses" in frame:
        return _guesses(frame)
    if "slope" in frame:
        ends = frame[["slope", "low", "high"]].to_numpy(float)
        slopes = [numbers(row) if row[0] == row[0] else DASH for row in ends]
        frame = frame.drop(columns=["low", "high"]).assign(slope=slopes)
    return frame.drop(columns=[*_UNSHOWN], errors="ignore").astype(object).map(cell)


def _recovered(frame):
    """One row per model, length of the span and number of repeats."""
    from pandas import DataFrame

    from attacks.statistics.intervals import proportion

    rows = []
    for own in frame.to_dict("records"):
        n = own["n_examples"]
        row = {"model": own["model"], "masked": str(own["span_tokens"])}
        row["repeats"] = _repeats(own["repeats_from"], own["repeats_to"])
        row["recovered"] = str(proportion(own["n_recovered"], n))
        if "n_only" in own:
            row["by no reference"] = str(proportion(own["n_only"], n))
        rows.append(row)
    return DataFrame(rows)


def _outcomes(frame):
    """One row per model, way of hiding (encoder-decoders), prefix length and number of repeats.

    Rows of single numbers of repeats show greedy decoding only.
    """
    from pandas import DataFrame

    from attacks.statistics.intervals import proportion
    from reports.number_text import DASH

    whole = frame["repeats_from"].isna()
    rows = []
    ways = ["hidden"] if "hidden" in frame else []
    for _, own in frame[whole | (frame["outcome"] == "greedy")].groupby(
        ["model", *ways, "prefix_tokens", "repeats_from"], sort=False, dropna=False
    ):
        first = own.iloc[0]
        row = {"model": first["model"], **{name: first[name] for name in ways}}
        row["prefix_tokens"] = str(first["prefix_tokens"])
        row["repeats"] = _repeats(first["repeats_from"], first["repeats_to"])
        for outcome, k, n in own[["outcome", "n_extracted", "n_examples"]].itertuples(index=False):
            row[outcome] = str(proportion(k, n)) if outcome == "greedy" else f"{k:,}"
        rows.append(row)
    return DataFrame(rows).fillna(DASH)


def _repeats(low, high) -> str:
    from pandas import isna

    if isna(low):
        return "all"
    return str(low) if low == high else f"{low}–{high}"


def _coverage(frame):
    """The columns of a document's coverage, as its page shows them."""
    from reports.number_text import percent

    shown = frame[["tau", "n_chars", "share", "longest_run", "window_share"]].copy()
    for name in ("share", "window_share"):
        shown[name] = [f"{percent(value)} %" for value in shown[name]]
    shown["tau"] = [f"{tau:g}" for tau in shown["tau"]]
    words = {"tau": "p_z", "n_chars": "characters", "longest_run": "longest run"}
    return shown.rename(columns={**words, "window_share": "with prefixes"}).astype(str)


def _guesses(frame):
    """Precision and recall of a benchmark's guesses, each with its interval."""
    from pandas import DataFrame

    from attacks.statistics.intervals import proportion
    from reports.number_text import percent

    [row] = frame.to_dict("records")
    cells = {
        "examples": f"{row['n_examples']:,}",
        "precision": str(proportion(row["n_correct"], row["n_guesses"])),
        "recall": str(proportion(row["n_correct"], row["n_examples"])),
        "recall at 100 errors": f"{percent(row['recall_at_100_errors'])} %",
    }
    return DataFrame([cells])


def _as_json(kind: str, result) -> dict[str, Any]:
    tables = {name: records(getattr(result, name)) for name, _ in _TABLES[kind]}
    return {"headline": result.headline, **tables, "notices": getattr(result, "notices", [])}
