"""Extraction by infilling, for encoder-decoders: are the hidden spans of a text given back?

Each window is hidden in two ways. `short`: 15 % of its tokens, in spans of mean length 3. `long`:
one span of `suffix_tokens` tokens between two halves of `prefix_tokens` shown tokens. A window is
extracted if greedy decoding gives back every span and closes each where it ends. The two ways
differ in difficulty, so they are never counted together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from attacks.statistics.intervals import proportion
from auditor.config.extraction import CorpusExtractionConfig
from auditor.errors import ConfigError
from auditor.extraction.tables import example_rows, power
from auditor.extraction.windows import Windows
from auditor.models.encoder_decoder import EncoderDecoder
from auditor.models.span_corruption import Span, long_span, random_of, short_spans
from auditor.scoring.infilling import measure_spans
from reports.privacy.redaction import mask_personal

SHORT, LONG, SUFFIX = "short", "long", "suffix"  # values of the column `hidden`


def infilled_rows(
    model: EncoderDecoder,
    windows: Windows,
    *,
    n_prefix: int,
    config: CorpusExtractionConfig,
    progress: Callable[[int], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """Rows of `tables.example_rows` for both ways, with the column `hidden` first.

    prefix_tokens and suffix_tokens are the numbers of shown and of hidden tokens; suffix_start and
    suffix_end are those of the first and the last span. `greedy` also requires that each span is
    closed; `log_p_z` is the probability of the spans' tokens alone.
    """
    begin, width = windows.begin(n_prefix), n_prefix + windows.n_suffix
    texts = windows.token_ids[:, begin : begin + width].tolist()
    ways = {
        SHORT: [short_spans(width, random_of(ids, config.seed)) for ids in texts],
        LONG: [long_span(width, windows.n_suffix)] * len(texts),
    }
    frames = []
    for name, spans in ways.items():
        found = measure_spans(
            model, texts, spans, decoding=config.decoding, progress=progress, note=note
        )
        frame = example_rows(windows, found.tokens, n_prefix=n_prefix, p=config.p)
        n_hidden = found.tokens.first.shape[1]
        rows, ends = np.arange(len(texts)), windows.char_ends
        frame = frame.assign(
            suffix_start=ends[rows, begin + _edges(spans, 0)],
            suffix_end=ends[rows, begin + _edges(spans, 1)],
            prefix_tokens=width - n_hidden,
            suffix_tokens=n_hidden,
            greedy=frame["greedy"] & found.closed,
        )
        frame.insert(0, "hidden", pd.Series([name] * len(frame), dtype="str"))
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _edges(spans: Sequence[Sequence[Span]], side: int) -> np.ndarray:
    """The first token of each text's first span (0), or the end of its last (1)."""
    return np.array([own[-side][side] for own in spans])


def check_infilling(model: EncoderDecoder, config: CorpusExtractionConfig) -> None:
    """Raise ConfigError for settings that extraction by infilling does not have."""
    if config.samples_per_prefix:
        raise ConfigError(
            f"--samples-per-prefix must be 0 for {model.name}, an encoder-decoder; got "
            f"{config.samples_per_prefix}. Leave it out."
        )
    width = config.longest_prefix + config.suffix_tokens
    if width > model.room:
        raise ConfigError(
            f"--prefix-tokens and --suffix-tokens must be at most {model.room} together "
            f"({model.name}'s context less the tokens that are added to a text); got {width}. "
            "Lower them."
        )
    shortest = min(config.prefix_tokens) + config.suffix_tokens
    if shortest < 3:
        raise ConfigError(
            f"--prefix-tokens and --suffix-tokens must be at least 3 together for {model.name}, an "
            f"encoder-decoder; got {shortest}. Raise --suffix-tokens."
        )
    n_spans = len(short_spans(width, np.random.default_rng(0)))
    most = len(model.gaps) - 1
    if model.has_sentinels and n_spans > most:
        raise ConfigError(
            f"--prefix-tokens and --suffix-tokens must need at most {most} spans, as {model.name} "
            f"has {most + 1} sentinels; got {n_spans} spans in {width} tokens. Lower them."
        )


def by_way(table: Callable[[pd.DataFrame], pd.DataFrame], examples: pd.DataFrame) -> pd.DataFrame:
    """A table of examples; if they are hidden in several ways, one of each, with `hidden` first."""
    if "hidden" not in examples:
        return table(examples)
    parts = []
    for name, own in examples.groupby("hidden", sort=False):
        part = table(own.drop(columns="hidden"))
        part.insert(0, "hidden", pd.Series([name] * len(part), dtype="str"))
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def infilled_headline(examples: pd.DataFrame, *, reveal: bool = False) -> list[str]:
    """One sentence per model, way and number of shown tokens; as `tables.headline`."""
    sentences = []
    keys = ["model", "hidden", "prefix_tokens"]
    for (model, way, n_shown), own in examples.groupby(keys, sort=False):
        n, k = len(own), int(own["greedy"].sum())
        m = int(own["suffix_tokens"].iloc[0])
        spans = "one span" if way == LONG else "short spans"
        said = (
            f"{model}, given {n_shown} tokens around {m} hidden in {spans}: greedy decoding gives "
            f"all of them back in {proportion(k, n).in_words()}."
        )
        if not k:
            best = own.loc[own["log_p_z"].idxmax()]
            doc_id = best["doc_id"] if reveal else mask_personal(best["doc_id"])
            said += f" Most likely: {power(best['log_p_z'])} in {doc_id}."
        sentences.append(said)
    return sentences
