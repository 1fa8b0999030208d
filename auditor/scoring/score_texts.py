"""Membership scores of the texts of a corpus under a model, one row per text.

Each model scores each text in a single batched pass; lower-cased texts, a non-member prefix and
neighbours need further passes. The corpus is read in chunks and need not fit into memory; its
scores must.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from auditor.config.audit import make_config
from auditor.corpus.reading import Document, read_corpus
from auditor.errors import ConfigError, RunError
from auditor.models.interfaces import JudgesTexts
from auditor.models.tokenizer import check_rows
from auditor.runs.result_folder import storable
from auditor.scoring.perturbation import Perturbation
from auditor.scoring.text_scorer import TextScorer
from auditor.system.atomic_files import write_atomically
from auditor.system.progress import NullProgress
from reports.csv_files import write_csv

# A chunk ends at whichever limit is reached first.
_CHUNK_TEXTS, _CHUNK_CHARS = 1024, 4_000_000
_ENDINGS = (".parquet", ".csv")


def score_texts(
    specs: Sequence[str | Path],
    *,
    model: str,
    references: Mapping[str, str] | Sequence[str] = (),
    text_field: str | None = None,
    nonmember_prefix: str | Path | None = None,
    frequencies: Sequence[str | Path] = (),
    neighbours: int = 0,
    masked_model: str | None = None,
    dtype: str = "float32",
    device: str = "auto",
    bos: str | None = None,
    seed: int = 0,
    progress: NullProgress | None = None,
) -> pd.DataFrame:
    """Membership scores of every text of a corpus; higher = more likely a member.

    Parameters
    ----------
    specs : sequence of str or Path
        Files, folders or globs, as for `read_corpus`.
    model : str
        Spec of the target model.
    references : mapping of name to spec, or sequence of "[NAME=]SPEC"
        Reference models; one with another tokenizer is compared in bits per byte.
    text_field : str, optional
        The field that contains the text.
    nonmember_prefix : path, optional
        Texts that the model was not trained on, for `recall`; concatenated, separated by empty
        lines.
    frequencies : sequence of corpus specs
        Corpus for the token frequencies of `dc_pdd`.
    neighbours : int
        Neighbours of each text, for `neighbourhood`; 0: none. Each needs a pass of the model.
    masked_model : str, optional
        Masked model that makes the neighbours; without one, words are dropped and swapped.
    dtype, device : as for `load_model`
        float32 by default, because these numbers are reported and not only ranked.
    bos : str, optional
        Token that starts a text: overrides the target's BOS, and is used for references without
        one.
    seed : int
        For the neighbours.
    progress : NullProgress, optional

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
    config = make_config(
        {"model": model, "references": references, "dtype": dtype, "device": device, "bos": bos}
    )
    progress = progress or NullProgress()
    _check_neighbours(neighbours, masked_model)
    corpus = read_corpus(specs, text_field=text_field)
    # Report input errors before a model is loaded; a corpus is read again for each use.
    n_texts = sum(1 for _ in corpus)
    prefix = None
    if nonmember_prefix is not None:
        prefix = "".join(f"{document.text}\n\n" for document in read_corpus([nonmember_prefix]))
    counted = read_corpus(frequencies) if frequencies else None
    scorer = _loaded(config, prefix, neighbours, masked_model, seed)
    if counted is not None:
        scorer.counts = count_tokens(counted, scorer.target)
    frames = []
    with progress.stage("scoring", n_texts * scorer.passes, "texts") as bar:
        scorer.advance, scorer.note = bar.advance, progress.note
        # Neighbours are in memory together with their text.
        for chunk in _chunks(corpus, share=1 + neighbours):
            frames.append(scorer.score_documents(chunk))
    frame = pd.concat(frames, ignore_index=True)
    frame.attrs["scored"] = scorer.about()
    for sentence in [p.message for p in corpus.problems] + scorer.notes():
        progress.note(sentence)
    return frame


def count_tokens(documents: Iterable[Document], model: JudgesTexts) -> np.ndarray:
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


def _loaded(config, prefix: str | None, n: int, masked_model: str | None, seed: int) -> TextScorer:
    from auditor.models.loading import load_model

    options = {"dtype": config.dtype, "device": config.device, "bos": config.bos}
    target = load_model(config.model, **options)
    ids = None if prefix is None else _prefix_ids(prefix, target)
    masked = None
    if masked_model is not None:
        from auditor.models.masked import load_masked_model

        masked = load_masked_model(masked_model, device=config.device)
    references = {
        name: load_model(spec, **options, is_reference=True)
        for name, spec in config.references.items()
    }
    perturbation = Perturbation(n, seed, masked) if n else None
    return TextScorer(target, references, prefix=ids, perturbation=perturbation)


def _check_neighbours(n: int, masked_model: str | None) -> None:
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise ConfigError(
            f"--neighbours must be a whole number, 0 or more; got {n}. Start with 25."
        )
    if masked_model is not None and not n:
        raise ConfigError(
            f"--masked-model {masked_model} has no effect without --neighbours. Add "
            "--neighbours 25, or leave out --masked-model."
        )


def _prefix_ids(text: str, model: JudgesTexts) -> list[int]:
    ids = model.vocabulary.start + model.vocabulary.encode(text)
    check_rows(model.name, model.vocabulary, model.n_vocab, ids, "--nonmember-prefix")
    if model.context is not None and len(ids) >= model.context:
        raise ConfigError(
            f"--nonmember-prefix must be at most {model.context - 1:,} tokens (context "
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
