"""`scan_document`: sliding windows over one document, with coverage and a heat map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attacks.statistics.coverage import best_log_p, coverage
from attacks.statistics.intervals import proportion
from auditor.canaries.masking import KnownSecrets, known_secrets
from auditor.config.extraction import DocumentScanConfig
from auditor.config.keywords import with_keywords
from auditor.corpus.reading import Document, read_corpus
from auditor.errors import CorpusError
from auditor.extraction.output import refuse_other_extraction, save_extraction
from auditor.extraction.tables import example_rows, power
from auditor.extraction.windows import Windows, slide
from auditor.models.language_model import LanguageModel
from auditor.models.loading import loaded
from auditor.scoring.suffixes import measure_suffixes
from auditor.system.progress import NullProgress, progress_display
from reports.figures.extraction import figure_files, heatmap_figure
from reports.pages.extraction_page import ScanPage, render_scan
from reports.privacy.redaction import mask_personal

TAUS = (0.5, 0.1, 0.01, 0.001)


@dataclass(frozen=True, eq=False)
class DocumentScan:
    """How much of one document a model reproduces.

    windows : DataFrame
        One row per window; see `tables.example_rows`.
    coverage : DataFrame
        One row per tau: n_chars, share, longest_run and longest_start of the characters in
        suffixes with p_z >= tau; window_* are the same with the prefixes counted too.
    text : str
    best : float64 array (n_chars,), nats
        Highest log p_z of the suffixes that cover each character; NaN if none does.
    settings, model : dict
    reveal : bool
        As in `auditor.extraction.extract.Extraction`.
    secrets : KnownSecrets
        Canary secrets that are masked as personal data is.
    """

    windows: pd.DataFrame
    coverage: pd.DataFrame
    text: str
    best: NDArray[np.float64]
    settings: dict[str, Any]
    model: dict[str, Any]
    reveal: bool = False
    secrets: KnownSecrets = field(default_factory=KnownSecrets)

    @property
    def headline(self) -> list[str]:
        """The result in sentences."""
        top = self.coverage.iloc[0]
        n, k = len(self.windows), int(self.windows["greedy"].sum())
        lead = (
            f"{100 * top['share']:.1f} % of the document's {len(self.text):,} characters lie in a "
            f"suffix that one sample reproduces with probability {top['tau']:g} or more; the "
            f"longest run is {int(top['longest_run']):,} characters."
        )
        best = self.windows.loc[self.windows["log_p_z"].idxmax()]
        share = self.windows["exact_memorization"]
        near = (
            f"Most likely suffix: {power(best['log_p_z'])}, at character "
            f"{int(best['suffix_start']):,}. On average {100 * share.mean():.0f} % of a suffix's "
            f"tokens are the model's first choices, {100 * share.max():.0f} % at most."
        )
        greedy = f"Greedy decoding reproduces {proportion(k, n).in_words()} of the suffixes."
        return [lead, greedy, near]

    def page(self) -> str:
        """The heat map as one self-contained HTML document."""
        settings = self.settings
        about = [
            ("Model", str(self.model["name"])),
            ("Document", str(settings["document"])),
            (
                "Prefix, suffix",
                f"{settings['prefix_tokens'][0]} + {settings['suffix_tokens']} tokens",
            ),
            ("Stride", f"{settings['stride']} tokens"),
            ("Windows", f"{len(self.windows):,}"),
        ]
        return render_scan(
            ScanPage(
                title=f"Extraction of {settings['document']} from {self.model['name']}",
                headline=self.headline,
                about=about,
                coverage=self.coverage,
                text=self.text,
                best=self.best,
                reveal=self.reveal,
                finders=self.secrets.finders,
                notices=list(self.secrets.notes),
            )
        )

    def save(self, out: str | Path) -> None:
        """Write tables, figure and page to a folder. Raises RunError if the folder is in use."""
        title = f"{self.settings['document']} under {self.model['name']}"
        more = self.secrets.finders
        title = title if self.reveal else mask_personal(title, more=more)
        files = figure_files(heatmap_figure(self.best, title=title), "heatmap")
        save_extraction(
            Path(out),
            self.settings,
            tables={"windows": self.windows, "coverage": self.coverage},
            files={**files, "heatmap.html": self.page().encode("utf-8")},
            facts={"model": self.model, "headline": self.headline},
            reveal=self.reveal,
            more=more,
        )


@with_keywords(DocumentScanConfig)
def scan_document(
    model: LanguageModel | str,
    document: str | Path | Document,
    *,
    prefix_tokens: int = 50,
    device: str = "auto",
    out: str | Path | None = None,
    canaries: Sequence[str] = (),
    reveal: bool = False,
    progress: NullProgress | bool | None = True,
    **options: Any,
) -> DocumentScan:
    """Slide a window over a document and measure p_z of every suffix.

    The last window ends where the document does. The paper slides by characters and tokenizes each
    window; we tokenize the document once.

    Parameters
    ----------
    model : model spec (loaded in float32), or a LanguageModel
    document : path of a file with one document, or a Document
    prefix_tokens : int
    device, out, reveal, progress
        As `auditor.extraction.extract`.
    canaries : paths of canary manifests
        Their secrets are masked too, as are those of canaries that were inserted into the document.
    options : the fields of DocumentScanConfig

    Returns
    -------
    DocumentScan

    Raises
    ------
    ConfigError, CorpusError, ModelError, RunError
        As `extract`; CorpusError also if the file has more than one document, or the model's
        tokens do not decode to the document's exact text.

    Source
    ------
    Cooper et al. 2025, "Extracting memorized pieces of (copyrighted) books from open-weight
    language models".
    """
    options["prefix_tokens"] = prefix_tokens
    config = DocumentScanConfig(**options)
    own = document if isinstance(document, Document) else _read(document)
    settings = {
        **config.identity(),
        "model": model if isinstance(model, str) else model.name,
        "document": own.doc_id,
    }
    if out is not None:
        refuse_other_extraction(Path(out), settings)
    inserted = () if isinstance(document, Document) else (document,)
    secrets = known_secrets(canaries, corpora=inserted)
    used, progress = loaded(model, device, config.bos), progress_display(progress)
    for sentence in (*used.notes, *secrets.notes):
        progress.note(sentence)
    config.check(used)
    if config.chat_template:
        progress.note(f"The prefixes are in the chat template of {used.name}.")
    windows = slide(
        own,
        used.vocabulary,
        n_prefix=config.longest_prefix,
        n_suffix=config.suffix_tokens,
        stride=config.stride,
    )
    windows.check_rows(used)
    _check_exact(windows, own, used)
    rows = _rows(used, windows, config, progress)
    starts = (rows[name].to_numpy() for name in ("suffix_start", "prefix_start"))
    ends, nats = rows["suffix_end"].to_numpy(), rows["log_p_z"].to_numpy()
    best, shown = (best_log_p(start, ends, nats, len(own.text)) for start in starts)
    facts = {"name": used.name, "sha256": used.fingerprint, "parameters": used.n_parameters}
    covered = _coverage(best, shown)
    scan = DocumentScan(rows, covered, own.text, best, settings, facts, reveal, secrets)
    if out is not None:
        scan.save(out)
    return scan


def _check_exact(windows: Windows, document: Document, model: LanguageModel) -> None:
    # Character positions, which the heat map needs, are known only if decoding is exact.
    if windows.text[0] is None:
        raise CorpusError(
            f"The tokens of {document.doc_id} must decode to its exact text; {model.name}'s "
            "tokenizer changes it. Normalize the text first (NFC, plain spaces), or use another "
            "model."
        )


def _rows(
    model: LanguageModel, windows: Windows, config: DocumentScanConfig, progress: NullProgress
) -> pd.DataFrame:
    n_prefix = config.longest_prefix
    with progress.stage("scan", len(windows), "windows") as bar:
        measured = measure_suffixes(
            model,
            config.started(model, windows.prefixes(n_prefix)),
            windows.suffixes(n_prefix),
            decoding=config.decoding,
            progress=bar.advance,
        )
    return example_rows(windows, measured, n_prefix=n_prefix, p=config.p)


def _coverage(best: NDArray[np.float64], shown: NDArray[np.float64]) -> pd.DataFrame:
    """One row per tau: for the suffixes, and for whole windows."""
    rows = []
    for tau in TAUS:
        whole = asdict(coverage(shown, tau))
        whole.pop("tau")
        rows.append({**asdict(coverage(best, tau)), **{f"window_{k}": v for k, v in whole.items()}})
    return pd.DataFrame(rows)


def _read(path: str | Path) -> Document:
    documents = list(read_corpus([path]))
    if len(documents) != 1:
        raise CorpusError(
            f"--document {path} must contain one document; got {len(documents):,}. Move it to a "
            "separate file, or use --corpus."
        )
    return documents[0]
