"""Membership scores of the texts of a corpus under a model, one row per text.

Each model scores each text in a single batched pass; lower-cased texts, a non-member prefix and
neighbours need further passes. The corpus is read in chunks and need not fit into memory; its
scores must.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from auditor.config.keywords import with_keywords
from auditor.config.scoring import ScoringConfig
from auditor.corpus.reading import Document, read_corpus
from auditor.errors import ConfigError, RunError
from auditor.models.interfaces import ScoresTexts
from auditor.models.tokenizer import check_rows
from auditor.runs.result_folder import storable
from auditor.scoring.perturbation import Perturbation
from auditor.scoring.text_scorer import TextScorer
from auditor.system.atomic_files import write_atomically
from auditor.system.progress import NullProgress, progress_display
from reports.csv_files import write_csv

# A chunk ends at whichever limit is reached first.
_CHUNK_TEXTS, _CHUNK_CHARS = 1024, 4_000_000
_ENDINGS = (".parquet", ".csv")


@with_keywords(ScoringConfig)
def score_texts(
    specs: Sequence[str | Path],
    *,
    model: str,
    progress: NullProgress | bool | None = True,
    **options: Any,
) -> pd.DataFrame:
    """Membership scores of every text of a corpus; higher = more likely a member.

    Parameters
    ----------
    specs : sequence of str or Path
        Files, folders or globs, as for `read_corpus`.
    model : str
        Spec of the target model.
    progress : a progress bar in a notebook and at a terminal; False or None = none
    options : the fields of ScoringConfig

    Returns
    -------
    DataFrame, one row per text in corpus order
        doc_id, n_tokens, n_bytes, nll (mean nats per token), nll_reference:NAME, nll_lowercase,
        zlib_bits, n_neighbours if requested, and the scores of `attacks.scores.score_table` for
        texts whose inputs were given. `frame.attrs["scored"]` records the models with their
        fingerprints, the neighbour method, counts, and NaNs by score and reason.

    Raises
    ------
    ConfigError, ModelError, CorpusError
        For options out of range, unreadable models or corpora, an empty corpus, or a prefix that
        fills the context.
    """
    config, progress = ScoringConfig(model=model, **options), progress_display(progress)
    corpus = read_corpus(specs, text_field=config.text_field)
    # Report input errors before a model is loaded; a corpus is read again for each use.
    n_texts = sum(1 for _ in corpus)
    prefixes = _prefixes(config, corpus)
    counted = read_corpus(config.frequencies) if config.frequencies else None
    scorer = _loaded(config, prefixes)
    if counted is not None:
        scorer.counts = count_tokens(counted, scorer.target)
    frames = []
    with progress.stage("scoring", n_texts * scorer.passes, "texts") as bar:
        scorer.advance, scorer.note = bar.advance, progress.note
        # Neighbours are in memory together with their text.
        for chunk in _chunks(corpus, share=1 + config.neighbours):
            frames.append(scorer.score_documents(chunk))
    frame = pd.concat(frames, ignore_index=True)
    frame.attrs["scored"] = scorer.about()
    for sentence in [p.message for p in corpus.problems] + scorer.notes():
        progress.note(sentence)
    return frame


def count_tokens(documents: Iterable[Document], model: ScoresTexts) -> np.ndarray:
    """Count of each token of a model's vocabulary in a corpus: int64 (n_vocab,)."""
    counts = np.zeros(model.n_vocab, np.int64)
    vocabulary = model.vocabulary
    for chunk in _chunks(documents):
        coded = vocabulary.encode_all([d.text for d in chunk])
        for document, ids in zip(chunk, coded, strict=True):
            where = f"{document.doc_id} of --frequencies"
            check_rows(model.name, vocabulary, len(counts), ids, where)
            counts += np.bincount(ids, minlength=len(counts))
    return counts


def check_out(out: str | Path, *, overwrite: bool = False) -> None:
    """Check that an output file ends in .parquet or .csv and, unless `overwrite`, is new."""
    path = Path(out)
    if path.suffix not in _ENDINGS:
        raise ConfigError(
            f"--out must end in {' or '.join(_ENDINGS)}; got {out}. The ending sets the format."
        )
    if path.is_dir() or (path.exists() and not overwrite):
        remedy = "Choose another --out." if path.is_dir() else "Add --overwrite to replace it."
        raise RunError(f"--out {out} already exists. {remedy}")


def write_scores(frame: pd.DataFrame, out: str | Path, *, overwrite: bool = False) -> None:
    """Write a frame of `score_texts` atomically, as Parquet or CSV by the ending.

    Parquet preserves `attrs` for `pandas.read_parquet`. Raises the errors of `check_out`.
    """
    check_out(out, overwrite=overwrite)
    if Path(out).suffix == ".csv":
        text = io.StringIO(newline="")
        write_csv(frame, text)
        raw = storable(text.getvalue()).encode()
    else:
        sink = io.BytesIO()
        table = pa.Table.from_pandas(frame, preserve_index=False)
        pq.write_table(table, sink, compression="zstd")
        raw = sink.getvalue()
    write_atomically(Path(out), raw)


def _loaded(config: ScoringConfig, prefixes: dict[str, str]) -> TextScorer:
    from auditor.models.loading import load_model

    how: dict[str, Any] = {
        "dtype": config.dtype,
        "device": config.device,
        "bos": config.bos,
        "pll": config.pll,
    }
    target = load_model(config.model, **how, served=config.served)
    ids = {flag: _prefix_ids(text, target, flag) for flag, text in prefixes.items()}
    masked = None
    if config.masked_model is not None:
        from auditor.models.masked import load_masked_model

        masked = load_masked_model(config.masked_model, device=config.device)
    references = {
        name: load_model(spec, is_reference=True, **how) for name, spec in config.references.items()
    }
    n = config.neighbours
    perturbation = Perturbation(n, config.seed, masked) if n else None
    return TextScorer(
        target,
        references,
        prefix=ids.get("--nonmember-prefix"),
        member_prefix=ids.get("--member-prefix"),
        perturbation=perturbation,
    )


def _prefixes(config: ScoringConfig, corpus: Iterable[Document]) -> dict[str, str]:
    """The text of each prefix by its flag; a prefix must not hold a text that is scored."""
    files = {"--nonmember-prefix": config.nonmember_prefix, "--member-prefix": config.member_prefix}
    given = {
        flag: [document.text for document in read_corpus([file])]
        for flag, file in files.items()
        if file is not None
    }
    owners = {text.strip(): flag for flag, texts in given.items() for text in texts}
    for document in corpus if owners else ():
        if flag := owners.get(document.text.strip()):
            raise ConfigError(
                f"{flag} must hold other texts than those scored; got {document.doc_id} in both. "
                "Take the prefix from elsewhere: a text after itself is always likely."
            )
    return {flag: "\n\n".join(texts) + "\n\n" for flag, texts in given.items()}


def _prefix_ids(text: str, model: ScoresTexts, flag: str) -> list[int]:
    ids = model.vocabulary.start + model.vocabulary.encode(text)
    check_rows(model.name, model.vocabulary, model.n_vocab, ids, flag)
    if model.context is not None and len(ids) >= model.context:
        raise ConfigError(
            f"{flag} must be at most {model.context - 1:,} tokens (context "
            f"{model.context:,} minus 1 for the text); got {len(ids):,}. Shorten the file."
        )
    return ids


def _chunks(documents, *, share: int = 1) -> Iterator[list[Document]]:
    """Chunks of documents; `share` divides the limits."""
    chunk: list[Document] = []
    n_chars = 0
    for document in documents:
        chunk.append(document)
        n_chars += len(document.text)
        if len(chunk) * share >= _CHUNK_TEXTS or n_chars * share >= _CHUNK_CHARS:
            yield chunk
            chunk, n_chars = [], 0
    if chunk:
        yield chunk
