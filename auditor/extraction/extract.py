"""`extract`: discoverable extraction from windows of training text, with scaling laws."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from auditor.config.extraction import CorpusExtractionConfig
from auditor.config.keywords import with_keywords
from auditor.config.served import check_served
from auditor.corpus.reading import Corpus, Document, read_corpus
from auditor.errors import ConfigError, CorpusError
from auditor.extraction.continuation import UNAVAILABLE, continue_prefixes
from auditor.extraction.infilling import (
    SUFFIX,
    by_way,
    check_infilling,
    infilled_headline,
    infilled_rows,
)
from auditor.extraction.output import refuse_other_extraction, save_extraction
from auditor.extraction.repeats import count_repeats
from auditor.extraction.sampling import sample_suffixes
from auditor.extraction.tables import add_sampled, example_rows, fits, headline, summarize
from auditor.extraction.windows import Windows, draw_windows
from auditor.models.encoder_decoder import EncoderDecoder
from auditor.models.language_model import LanguageModel
from auditor.models.loading import loaded
from auditor.runs.result_folder import storable
from auditor.scoring.suffixes import measure_suffixes
from auditor.system.progress import NullProgress, progress_display
from reports.figures.extraction import figure_files, laws_figure
from reports.number_text import count

Count = Callable[[str], int]
_KINDS = ("causal", "encoder-decoder", "served")


@dataclass(frozen=True, eq=False)
class Extraction:
    """Result of an extraction.

    examples, summary, fits : DataFrame
        See `auditor.extraction.tables`; `examples` has one row per example, model and prefix
        length. For encoder-decoders the column `hidden` separates `short` and `long` spans, and
        each example has a row for both; see `auditor.extraction.infilling`.
    notices : list of str
        What was skipped or could not be measured.
    settings, models : dict
        The settings; each model's fingerprint and number of parameters.
    reveal : bool
        Show personal data in the headline and in what `save` writes. Otherwise it is masked,
        except in the Parquet files.
    """

    examples: pd.DataFrame
    summary: pd.DataFrame
    fits: pd.DataFrame
    notices: list[str]
    settings: dict[str, Any]
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    reveal: bool = False

    @property
    def headline(self) -> list[str]:
        """One sentence per model and prefix length; see `tables.headline`."""
        if "hidden" not in self.examples:
            return headline(self.examples, reveal=self.reveal)
        is_suffix = self.examples["hidden"] == SUFFIX
        return [
            *headline(self.examples[is_suffix], reveal=self.reveal),
            *infilled_headline(self.examples[~is_suffix], reveal=self.reveal),
        ]

    def save(self, out: str | Path) -> None:
        """Write the tables to a folder, and the figure where there is something to compare.

        Raises RunError if the folder is in use.
        """
        save_extraction(
            Path(out),
            self.settings,
            tables={"examples": self.examples, "summary": self.summary, "fits": self.fits},
            files=self._figures(),
            facts={"models": self.models, "notices": self.notices, "headline": self.headline},
            reveal=self.reveal,
        )

    def _figures(self) -> dict[str, bytes]:
        """Files of the laws, one figure for each way of hiding; none if nothing can be compared."""
        laws = {"laws": (self.summary, self.fits)}
        if "hidden" in self.summary:
            laws = {
                f"laws-{way}": (own, self.fits[self.fits["hidden"] == way])
                for way, own in self.summary.groupby("hidden", sort=False)
            }
        files: dict[str, bytes] = {}
        for name, tables in laws.items():
            if (figure := laws_figure(*tables)) is not None:
                files |= figure_files(figure, name)
        return files


@with_keywords(CorpusExtractionConfig)
def extract(
    models: LanguageModel | str | Sequence[LanguageModel | str],
    corpus: Sequence[str | Path] | Iterable[Document],
    *,
    device: str = "auto",
    count: Count | None = None,
    out: str | Path | None = None,
    reveal: bool = False,
    progress: NullProgress | bool | None = True,
    **options: Any,
) -> Extraction:
    """Measure how much training text models reproduce when prompted with its prefix.

    Encoder-decoders fill in hidden spans instead; see `auditor.extraction.infilling`.

    Parameters
    ----------
    models : model specs (loaded in float32), or loaded models, causal or encoder-decoders
    corpus : files, folders and globs, or documents that can be read more than once
    device : "auto", "cpu", "cuda", ...
    count : callable(text) -> int, optional
        Counts repeats in an index; by default the corpus is scanned.
    out : path, optional
        Folder to save to.
    reveal : bool
        Show personal data in the headline and the CSV files instead of masking it.
    progress : a progress bar in a notebook and at a terminal; False or None = none
    options : the fields of CorpusExtractionConfig; `bos` is that of every spec in `models`

    Returns
    -------
    Extraction

    Raises
    ------
    ConfigError
        If an option is invalid, or prefix and suffix exceed a model's context.
    CorpusError, ModelError, RunError
        If no document is long enough, a model cannot be used, or the folder is in use.

    Source
    ------
    Carlini et al. 2022, "Quantifying Memorization Across Neural Language Models"; Hayes et al.
    2024, "Measuring memorization through probabilistic discoverable extraction".
    """
    config = CorpusExtractionConfig(**options)
    specs = [models] if isinstance(models, str) or not isinstance(models, Sequence) else models
    if not specs:
        raise ConfigError("--model must be given at least once; got none. Name a model.")
    text, named = opened(corpus)
    names = [spec if isinstance(spec, str) else spec.name for spec in specs]
    settings = {**config.identity(), "models": names, "corpus": named}
    if out is not None:
        refuse_other_extraction(Path(out), settings)
    work = _Work(config, text, device, count, progress_display(progress))
    frames = [work.measure(spec) for spec in specs]
    rows = pd.concat(frames, ignore_index=True)
    if "hidden" in rows:
        rows["hidden"] = rows["hidden"].fillna(SUFFIX)
    tables = by_way(summarize, rows), by_way(fits, rows)
    result = Extraction(rows, *tables, work.notices, settings, work.models, reveal)
    if out is not None:
        result.save(out)
    return result


class _Work:
    """State of one extraction. Models with the same vocabulary share their windows."""

    def __init__(self, config: CorpusExtractionConfig, corpus, device, count, progress):
        self.config, self.corpus = config, corpus
        self.device, self.count, self.progress = device, count, progress
        self.notices: list[str] = []
        self.models: dict[str, dict[str, Any]] = {}
        self._windows: dict[str, tuple[Windows, pd.Series]] = {}

    def measure(self, spec) -> pd.DataFrame:
        if isinstance(spec, str):
            check_served(spec, self.config.served)
        model = loaded(spec, self.device, self.config.bos, kinds=_KINDS, served=self.config.served)
        for sentence in model.notes:
            self._note(sentence)
        self.config.check(model, samples=self.config.samples_per_prefix > 0)
        if self.config.chat_template:
            self._note(f"The prefixes are in the chat template of {model.name}.")
        if isinstance(model, EncoderDecoder):
            check_infilling(model, self.config)
        windows, repeats = self._drawn(model)
        windows.check_rows(model)
        self.models[model.name] = {
            "sha256": model.fingerprint,
            "parameters": model.n_parameters,
            "dtype": str(model.dtype).removeprefix("torch."),
            "bos": self.config.starts_with_bos(model),
        }
        frames = [self._prefix(model, windows, repeats, n) for n in self.config.prefix_tokens]
        frame = pd.concat(frames, ignore_index=True)
        frame.insert(0, "n_parameters", model.n_parameters)
        frame.insert(0, "model", pd.Series([storable(model.name)] * len(frame), dtype="str"))
        return frame

    def _drawn(self, model: LanguageModel) -> tuple[Windows, pd.Series]:
        key = model.vocabulary.fingerprint
        if key not in self._windows:
            windows = draw_windows(
                self.corpus,
                model.vocabulary,
                n_prefix=self.config.longest_prefix,
                n_suffix=self.config.suffix_tokens,
                examples=self.config.examples,
                seed=self.config.seed,
                from_start=self.config.from_start,
            )
            repeats = count_repeats(windows.text, self.corpus, count=self.count)
            self._windows[key] = windows, repeats
            self._note_windows(windows, repeats)
        return self._windows[key]

    def _note_windows(self, windows: Windows, repeats: pd.Series) -> None:
        for problem in getattr(self.corpus, "problems", []):
            self._note(problem.message)
        width = self.config.longest_prefix + self.config.suffix_tokens
        if windows.n_short:
            self._note(
                f"{count(windows.n_short, 'document')} skipped: shorter than {width} tokens of "
                "prefix and suffix."
            )
        if unknown := int(repeats.isna().sum()):
            self._note(
                f"Repeats of {count(unknown, 'window')} not counted: the tokens do not decode to "
                "the exact text."
            )

    def _note(self, sentence: str) -> None:
        if sentence not in self.notices:
            self.notices.append(sentence)
            self.progress.note(sentence)

    def _prefix(
        self,
        model: LanguageModel | EncoderDecoder,
        windows: Windows,
        repeats: pd.Series,
        n_prefix: int,
    ) -> pd.DataFrame:
        name = f"{Path(model.name).name}, {n_prefix}"
        prefixes = self.config.started(model, windows.prefixes(n_prefix))
        if model.kind == "served":
            return self._continued(model, windows, repeats, n_prefix, prefixes, name)
        if isinstance(model, EncoderDecoder):
            return self._infilled(model, windows, repeats, n_prefix, name)
        with self.progress.stage(f"extract {name}", len(windows), "windows") as bar:
            measured = measure_suffixes(
                model,
                prefixes,
                windows.suffixes(n_prefix),
                decoding=self.config.decoding,
                progress=bar.advance,
                note=self._note,
            )
        frame = example_rows(windows, measured, n_prefix=n_prefix, p=self.config.p)
        frame.insert(6, "repeats", repeats)
        n_samples = self.config.samples_per_prefix
        if not n_samples:
            return frame
        total = len(windows) * n_samples * windows.n_suffix
        with self.progress.stage(f"sample {name}", total, "tokens") as bar:
            sampled = sample_suffixes(
                model,
                prefixes,
                windows.suffixes(n_prefix),
                n_samples=n_samples,
                decoding=self.config.decoding,
                seed=self.config.seed,
                progress=bar.advance,
                note=self._note,
            )
        return add_sampled(frame, sampled)

    def _continued(
        self, model, windows: Windows, repeats: pd.Series, n_prefix: int, prefixes, name: str
    ) -> pd.DataFrame:
        """The rows of a model that only continues text."""
        if self.config.samples_per_prefix:
            raise ConfigError(
                "--samples-per-prefix must be 0 for a served model, which continues each prefix "
                f"once; got {self.config.samples_per_prefix}. Leave it out."
            )
        suffixes = windows.suffixes(n_prefix)
        with self.progress.stage(f"extract {name}", suffixes.size, "tokens") as bar:
            continued = continue_prefixes(model, prefixes, suffixes, progress=bar.advance)
        for sentence in [*model.notes, UNAVAILABLE]:
            self._note(sentence)
        frame = example_rows(windows, continued.measured, n_prefix=n_prefix, p=())
        frame.insert(6, "repeats", repeats)
        # These are about first choices after the true text, not after the model's own.
        frame[["exact_memorization", "extraction_strength"]] = np.nan
        return frame.assign(
            greedy_unrelated=continued.unrelated, n_first_unrelated=continued.n_first_unrelated
        )

    def _infilled(
        self, model: EncoderDecoder, windows: Windows, repeats: pd.Series, n_prefix: int, name: str
    ) -> pd.DataFrame:
        with self.progress.stage(f"extract {name}", 2 * len(windows), "windows") as bar:
            frame = infilled_rows(
                model,
                windows,
                n_prefix=n_prefix,
                config=self.config,
                progress=bar.advance,
                note=self._note,
            )
        frame.insert(7, "repeats", pd.concat([repeats, repeats], ignore_index=True))
        return frame


def opened(corpus) -> tuple[Iterable[Document], list[str]]:
    """Documents that can be read more than once, and their names for the manifest."""
    if isinstance(corpus, str | Path):
        corpus = [corpus]
    if isinstance(corpus, Corpus):
        return corpus, [str(file.path) for file in corpus.files]
    if iter(corpus) is corpus:
        raise CorpusError(
            "A corpus is read more than once; got an iterator, which can be read only once. Pass a "
            "list, paths, or the result of read_corpus."
        )
    items = list(corpus) if isinstance(corpus, list | tuple) else None
    if items is not None and all(isinstance(item, str | Path) for item in items):
        if not items:
            raise CorpusError("--corpus must be given at least once; got none. Name training text.")
        return read_corpus(items), [str(item) for item in items]
    return corpus, ["documents given in memory"]
