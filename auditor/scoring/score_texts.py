"""Membership scores of texts that one already has: a corpus and a model in, a row a text out.

Every model sees every text once: one batched pass gives what all its scores need. What needs a
pass of its own (lower-cased texts, the prefix of non-members, neighbours) is said by its option.
Texts stream through in chunks, so that a corpus need not fit into memory; its scores must.
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

# A chunk ends at whichever of the two comes first.
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
    """The membership scores of every text of a corpus, higher = more likely a member.

    Parameters
    ----------
    specs : sequence of str or Path
        Files, folders or globs, as `read_corpus` takes them.
    model : str
        Spec of the model under audit.
    references : mapping of name to spec, or sequence of "[NAME=]SPEC"
        Models to compare with; one with another tokenizer is compared by bits a byte.
    text_field : str, optional
        The field that holds the text.
    nonmember_prefix : path, optional
        Texts that the model was not trained on, for `recall`: all texts of the file, an
        empty line after each.
    frequencies : sequence of corpus specs
        Where the target's tokens are counted, for `dc_pdd`.
    neighbours : int
        Neighbours of each text, for `neighbourhood`; 0: none. Each is a pass of the model.
    masked_model : str, optional
        The masked model that makes them; without one, words are dropped and swapped.
    dtype, device : as `load_model` takes them
        float32 unless told otherwise: these numbers are reported, not only ranked by.
    bos : str, optional
        The token that starts a text: of the target in place of what its tokenizer names, of
        references whose tokenizer names none.
    seed : int
        Decides the neighbours.
    progress : NullProgress, optional

    Returns
    -------
    DataFrame, one row a text in the corpus's order
        doc_id, n_tokens, n_bytes, nll (mean nats a token), nll_reference:NAME, nll_lowercase,
        zlib_bits, n_neighbours where asked for, and the scores of
        `attacks.scores.score_table` made for texts whose inputs were given.
        `frame.attrs["scored"]` says what made it: models with their fingerprints, the way of the
        neighbours, counts, and the NaNs by score and reason.

    Raises
    ------
    ConfigError, ModelError, CorpusError
        An option out of range, a model or corpus that cannot be read, no text at all, or a prefix
        that leaves no room in the context.
    """
    asked = make_config(
        {"model": model, "references": references, "dtype": dtype, "device": device, "bos": bos}
    )
    progress = progress or NullProgress()
    _check_neighbours(neighbours, masked_model)
    corpus = read_corpus(specs, text_field=text_field)
    # What cannot work is said before a model is loaded; a corpus is read again for each use.
    n_texts = sum(1 for _ in corpus)
    prefix = None if nonmember_prefix is None else _prefix_text(nonmember_prefix)
    counted = read_corpus(frequencies) if frequencies else None
    scorer = _loaded(asked, prefix, neighbours, masked_model, seed)
    if counted is not None:
        scorer.counts = count_tokens(counted, scorer.target)
    frames = []
    with progress.stage("scoring", n_texts * scorer.passes, "texts") as bar:
        scorer.advance, scorer.note = bar.advance, progress.note
        # A text's neighbours are in memory with it.
        for chunk in _chunks(corpus, share=1 + neighbours):
            frames.append(scorer.score_documents(chunk))
    frame = pd.concat(frames, ignore_index=True)
    frame.attrs["scored"] = scorer.about()
    for sentence in [p.message for p in corpus.problems] + scorer.notes():
        progress.note(sentence)
    return frame


def count_tokens(documents: Iterable[Document], model: JudgesTexts) -> np.ndarray:
    """How often each token of a model's vocabulary stands in a corpus: int64 (n_vocab,).

    Raises
    ------
    ModelError
        If the corpus names a token that has no row in the model's weights.
    """
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
    """An error unless scores can be written there.

    Raises
    ------
    ConfigError
        If the ending is neither .parquet nor .csv.
    RunError
        If something is there already and must not be overwritten.
    """
    path = Path(out)
    if path.suffix not in _ENDINGS:
        raise ConfigError(
            f"--out must end in {' or '.join(_ENDINGS)}; got {out}. The ending decides the format."
        )
    if path.is_dir() or (path.exists() and not overwrite):
        remedy = "Choose another --out." if path.is_dir() else "Add --overwrite to replace it."
        raise RunError(f"--out {out} exists. {remedy}")


def write_scores(frame: pd.DataFrame, out: str | Path, *, overwrite: bool = False) -> None:
    """A frame of `score_texts` as Parquet or CSV by the ending, whole or not at all.

    Parquet keeps `attrs`, and `pandas.read_parquet` gives them back. Raises as `check_out`.
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


def _loaded(asked, prefix: str | None, n: int, masked_model: str | None, seed: int) -> TextScorer:
    from auditor.models.loading import load_model

    target = load_model(asked.model, dtype=asked.dtype, device=asked.device, bos=asked.bos)
    ids = None if prefix is None else _prefix_ids(prefix, target)
    masked = None
    if masked_model is not None:
        from auditor.models.masked import load_masked_model

        masked = load_masked_model(masked_model, device=asked.device)
    references = {
        name: load_model(
            spec, dtype=asked.dtype, device=asked.device, bos=asked.bos, is_reference=True
        )
        for name, spec in asked.references.items()
    }
    perturbation = Perturbation(n, seed, masked) if n else None
    return TextScorer(target, references, prefix=ids, perturbation=perturbation)


def _check_neighbours(n: int, masked_model: str | None) -> None:
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise ConfigError(
            f"--neighbours must be 0 or more; got {n}. The paper has up to 100; 25 is a start."
        )
    if masked_model is not None and not n:
        raise ConfigError(
            f"--masked-model makes neighbours, and none are asked for; got {masked_model}. "
            "Add --neighbours 25, or leave out --masked-model."
        )


def _prefix_text(path: str | Path) -> str:
    return "\n\n".join(document.text for document in read_corpus([path])) + "\n\n"


def _prefix_ids(text: str, model: JudgesTexts) -> list[int]:
    bos = [] if model.vocabulary.bos_id is None else [model.vocabulary.bos_id]
    ids = bos + model.vocabulary.encode(text)
    check_rows(model.name, model.vocabulary, model.n_vocab, ids, "--nonmember-prefix")
    if model.context is not None and len(ids) >= model.context:
        raise ConfigError(
            f"--nonmember-prefix must be at most {model.context - 1:,} tokens (context "
            f"{model.context:,} less 1 of the text); got {len(ids):,}. Shorten the file."
        )
    return ids


def _chunks(documents, *, share: int = 1) -> Iterator[list[Document]]:
    """Documents in lists of so many texts or characters, or that by `share`."""
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
