"""Extraction from masked models: recover masked spans of training text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from attacks.statistics.intervals import clopper_pearson, proportion
from auditor.config.extraction import SpanConfig
from auditor.config.keywords import with_keywords
from auditor.corpus.reading import Document
from auditor.errors import ConfigError, ModelError
from auditor.extraction.extract import opened
from auditor.extraction.output import refuse_other_extraction, save_extraction
from auditor.extraction.repeats import count_repeats
from auditor.extraction.tables import by_repeats
from auditor.extraction.windows import Windows, draw_windows
from auditor.models.kinds import check_comparable
from auditor.models.loading import loaded
from auditor.models.masked_language_model import MaskedLanguageModel
from auditor.runs.result_folder import storable
from auditor.system.progress import NullProgress, progress_display
from reports.number_text import count as counted

# Tokens of all windows that are filled together.
_TOKENS_AT_ONCE = 8192


@dataclass(frozen=True, eq=False)
class SpanRecovery:
    """Result of `recover_spans`.

    examples : DataFrame, one row per window, model and length of the span
        model, n_parameters, doc_id, span_start, span_end (characters of the document), span_tokens,
        repeats (of the window in the corpus), n_correct (tokens), log_p (nats, of the true tokens
        with the whole span masked), recovered (bool), reference_recovered (bool, by any reference;
        missing without one), text, guess.
    summary : DataFrame
        Per model, length of the span and number of repeats (both missing = all): n_examples,
        n_recovered, share, low, high; with references also n_reference, and of the spans that the
        model recovers and no reference does n_only, only, only_low, only_high. Intervals:
        Clopper-Pearson, 95 %.
    notices : list of str
    settings, models : dict
    reveal : bool
        As in `Extraction`.
    """

    examples: pd.DataFrame
    summary: pd.DataFrame
    notices: list[str]
    settings: dict[str, Any]
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    reveal: bool = False

    @property
    def headline(self) -> list[str]:
        """One sentence per model and length of the span."""
        sentences = []
        for row in self.summary[self.summary["repeats_from"].isna()].to_dict("records"):
            n, k = row["n_examples"], row["n_recovered"]
            tokens = counted(row["span_tokens"], "masked token")
            sentence = f"{row['model']} recovers {tokens} in {proportion(k, n).in_words()}"
            if "n_only" in row:
                only = proportion(int(row["n_only"]), n)
                sentence += f"; no reference recovers them in {only.in_words()}"
            sentences.append(f"{sentence}.")
        return sentences

    def save(self, out: str | Path) -> None:
        """Write the tables to a folder. Raises RunError if the folder is in use."""
        save_extraction(
            Path(out),
            self.settings,
            tables={"examples": self.examples, "summary": self.summary},
            facts={"models": self.models, "notices": self.notices, "headline": self.headline},
            reveal=self.reveal,
        )


@with_keywords(SpanConfig)
def recover_spans(
    models: MaskedLanguageModel | str | Sequence[MaskedLanguageModel | str],
    corpus: Sequence[str | Path] | Iterable[Document],
    *,
    device: str = "auto",
    count: Callable[[str], int] | None = None,
    out: str | Path | None = None,
    reveal: bool = False,
    progress: NullProgress | bool | None = True,
    **options: Any,
) -> SpanRecovery:
    """Measure how much training text masked models restore.

    The middle of each window is masked and filled token by token, the most confident first. A span
    counts if every token is the original. Some are easy to guess: references that were not trained
    on the text tell how many.

    Parameters
    ----------
    models, corpus, device, count, out, reveal, progress : as in `extract`, for masked models
    options : the fields of SpanConfig

    Returns
    -------
    SpanRecovery

    Raises
    ------
    ConfigError, CorpusError, ModelError, RunError
        As in `extract`; also if a reference has another tokenizer.

    Source
    ------
    Ghazvininejad et al. 2019, "Mask-Predict", for filling by confidence (one token at a time here).
    """
    config = SpanConfig(**options)
    specs = [models] if isinstance(models, str) or not isinstance(models, Sequence) else models
    if not specs:
        raise ConfigError("--model must be given at least once; got none. Name a model.")
    text, named = opened(corpus)
    names = [spec if isinstance(spec, str) else spec.name for spec in specs]
    settings = {**config.model_dump(mode="json"), "models": names, "corpus": named}
    if out is not None:
        refuse_other_extraction(Path(out), settings)
    work = _Work(config, text, device, count, progress_display(progress))
    rows = pd.concat([work.measure(spec) for spec in specs], ignore_index=True)
    found = SpanRecovery(rows, summarize_spans(rows), work.notices, settings, work.models, reveal)
    if out is not None:
        found.save(out)
    return found


class _Work:
    """State of one extraction; references and windows are loaded once per tokenizer."""

    def __init__(self, config: SpanConfig, corpus, device, count, progress):
        self.config, self.corpus = config, corpus
        self.device, self.count, self.progress = device, count, progress
        self.notices: list[str] = []
        self.models: dict[str, dict[str, Any]] = {}
        self.references: dict[str, MaskedLanguageModel] | None = None
        self._windows: dict[str, tuple[Windows, pd.Series]] = {}

    def measure(self, spec) -> pd.DataFrame:
        model = self._loaded(spec)
        if self.references is None:
            self.references = {n: self._loaded(s) for n, s in self.config.references.items()}
        check_comparable(model, self.references)
        self._check(model, self.references)
        windows, repeats = self._drawn(model)
        windows.check_rows(model)
        frames = [self._span(model, windows, repeats, k) for k in self.config.span_tokens]
        frame = pd.concat(frames, ignore_index=True)
        frame.insert(0, "n_parameters", model.n_parameters)
        frame.insert(0, "model", pd.Series([storable(model.name)] * len(frame), dtype="str"))
        return frame

    def _loaded(self, spec) -> MaskedLanguageModel:
        model = loaded(spec, self.device, kinds=("masked",))
        for sentence in model.notes:
            self._note(sentence)
        self.models[model.name] = {
            "sha256": model.fingerprint,
            "parameters": model.n_parameters,
            "dtype": str(model.dtype).removeprefix("torch."),
        }
        return model

    def _check(self, model, references: Mapping[str, MaskedLanguageModel]) -> None:
        for name, other in references.items():
            if other.vocabulary.fingerprint != model.vocabulary.fingerprint:
                raise ModelError(
                    f"Reference {name} ({other.name}) must have the tokenizer of {model.name}, so "
                    "that both fill the same tokens. Use another reference, or leave it out."
                )
        width = self.config.window_tokens
        for one in (model, *references.values()):
            if one.context is not None and width >= one.context:
                raise ConfigError(
                    f"--window-tokens must be below the context of {one.name}, {one.context}; got "
                    f"{width}. Lower --window-tokens."
                )

    def _drawn(self, model) -> tuple[Windows, pd.Series]:
        key = model.vocabulary.fingerprint
        if key not in self._windows:
            windows = draw_windows(
                self.corpus,
                model.vocabulary,
                n_prefix=self.config.window_tokens - 1,
                n_suffix=1,
                examples=self.config.examples,
                seed=self.config.seed,
                from_start=self.config.from_start,
            )
            self._windows[key] = (
                windows,
                count_repeats(windows.text, self.corpus, count=self.count),
            )
            for problem in getattr(self.corpus, "problems", []):
                self._note(problem.message)
            if windows.n_short:
                self._note(
                    f"{counted(windows.n_short, 'document')} skipped: shorter than "
                    f"{self.config.window_tokens} tokens."
                )
        return self._windows[key]

    def _span(self, model, windows: Windows, repeats: pd.Series, k: int) -> pd.DataFrame:
        ids, at = windows.token_ids, (windows.token_ids.shape[1] - k) // 2
        true = ids[:, at : at + k]
        everyone = [model, *(self.references or {}).values()]
        total = len(ids) * len(everyone)
        with self.progress.stage(f"recover {k}", total, "windows") as bar:
            filled = [fill_span(one, ids, at, k, progress=bar.advance) for one in everyone]
        guess, log_p = filled[0]
        decode = model.vocabulary.decode
        texts = [
            [decode(span, row[:at]) for span, row in zip(spans.tolist(), ids.tolist(), strict=True)]
            for spans in (true, guess)
        ]
        right = (guess == true).all(axis=1)
        frame = pd.DataFrame(
            {
                "doc_id": pd.Series([storable(i) for i in windows.doc_id], dtype="str"),
                "span_start": windows.char_ends[:, at],
                "span_end": windows.char_ends[:, at + k],
                "span_tokens": k,
                "repeats": repeats.to_numpy(),
                "n_correct": (guess == true).sum(axis=1),
                "log_p": log_p,
                "recovered": right,
                "text": texts[0],
                "guess": texts[1],
            }
        )
        frame["repeats"] = frame["repeats"].astype("Int64")
        if len(filled) > 1:
            others = np.any([(other == true).all(axis=1) for other, _ in filled[1:]], axis=0)
            frame.insert(8, "reference_recovered", others)
        return frame

    def _note(self, sentence: str) -> None:
        if sentence not in self.notices:
            self.notices.append(sentence)
            self.progress.note(sentence)


def fill_span(
    model: MaskedLanguageModel,
    windows: NDArray[np.integer],
    at: int,
    k: int,
    *,
    progress: Callable[[int], None] | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Mask tokens at:at+k of each window and fill them, the most confident first.

    Parameters
    ----------
    windows : int array (n, width), token ids without CLS and SEP
    at, k : the span
    progress : callable(n_windows_done)

    Returns
    -------
    int32 array (n, k), the filled tokens; float64 array (n,), the log-probability of the original
    tokens with the whole span masked, nats. Special tokens are never filled in.
    """
    forbidden = torch.tensor(model.never_drawn, dtype=torch.int64, device=model.device)
    n, width = windows.shape
    filled, log_p = np.zeros((n, k), np.int32), np.zeros(n)
    step = max(1, _TOKENS_AT_ONCE // (width + 2))
    for start in range(0, n, step):
        rows = [model.framed(row) for row in windows[start : start + step].tolist()]
        ids, masks = (x.to(model.device) for x in model.passes.padded(rows))
        first = len(model.framed([])) - len(model.end) + at
        span = slice(first, first + k)
        true = ids[:, span].clone()
        ids[:, span] = model.mask_id
        chains = torch.arange(len(ids), device=model.device)
        for turn in range(k):
            row, place = (ids[:, span] == model.mask_id).nonzero(as_tuple=True)
            logits = model.passes.logits(ids, masks, row, place + first).float()
            if turn == 0:
                nats = logits.log_softmax(1).gather(1, true[row, place][:, None])[:, 0]
                total = nats.double().view(len(ids), k).sum(dim=1)
                log_p[start : start + step] = total.cpu().numpy()
            best, token = logits.log_softmax(1).index_fill(1, forbidden, float("-inf")).max(dim=1)
            # Every window has equally many masks left: k - turn.
            surest = best.view(len(ids), -1).argmax(dim=1)
            picked = surest + chains * (k - turn)
            ids[chains, place[picked] + first] = token[picked]
        filled[start : start + step] = ids[:, span].cpu().numpy()
        if progress is not None:
            progress(len(ids))
    return filled, log_p


def summarize_spans(examples: pd.DataFrame) -> pd.DataFrame:
    """Share of spans recovered by model, length and repeats; see `SpanRecovery`."""
    rows = []
    for (model, k), own in examples.groupby(["model", "span_tokens"], sort=False):
        for low, high, part in by_repeats(own):
            row = {
                "model": model,
                "span_tokens": k,
                "repeats_from": low,
                "repeats_to": high,
                "n_examples": len(part),
                "n_recovered": int(part["recovered"].sum()),
            }
            if "reference_recovered" in part:
                theirs = part["reference_recovered"].astype(bool)
                row["n_reference"] = int(theirs.sum())
                row["n_only"] = int((part["recovered"] & ~theirs).sum())
            rows.append(row)
    frame = pd.DataFrame(rows)
    for name in ("repeats_from", "repeats_to"):
        frame[name] = frame[name].astype("Int64")
    n = frame["n_examples"]
    frame["share"] = frame["n_recovered"] / n
    frame["low"], frame["high"] = clopper_pearson(frame["n_recovered"], n)
    if "n_only" in frame:
        frame["only"] = frame["n_only"] / n
        frame["only_low"], frame["only_high"] = clopper_pearson(frame["n_only"], n)
    return frame
