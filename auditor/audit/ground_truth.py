"""Compare findings with known truth: which members and which held-out documents were extracted."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from auditor.audit.unselected import MOST_BYTES, QUERY_COLUMNS, query_of
from auditor.audit.verification import MATCHES, training_text
from auditor.config.audit import AuditConfig
from auditor.corpus.text_files import Document
from auditor.errors import ConfigError
from auditor.matching.boilerplate import without_boilerplate
from auditor.matching.normalization import fold_text, folding
from auditor.matching.queries import checked_ends, count_tokens
from auditor.matching.verbatim import Match, Query, find_matches
from auditor.runs.run import Run
from auditor.runs.writer import RunWriter
from reports.analysis.summary import by_repeats
from reports.listed import listed

if TYPE_CHECKING:
    from auditor.models.tokenizer import Vocabulary

TRUTH = "known_truth.parquet"

_NEEDED = ["doc_id", "member", "repeats", "kind", "secret"]
_COLUMNS = [*QUERY_COLUMNS, "prompt", "n_bytes"]
_LEAST_CHARS = 16  # of a secret together with its context
_RULE = 2  # version of the rule by which documents count as extracted


def read_or_make(
    run: RunWriter,
    candidates: pd.DataFrame,
    vocabulary: Vocabulary,
    *,
    progress: Callable[[int], object] | None = None,
) -> pd.DataFrame | None:
    """The run's stored table if its inputs are unchanged, else a new `truth_table`, stored."""
    if run.config.truth is None or not run.has(MATCHES):
        return None
    origin = _origin(run, candidates)
    if run.has(TRUTH) and run.manifest.shards[TRUTH].origin == origin:
        return run.read(TRUTH).to_pandas()
    table = truth_table(run, candidates, vocabulary, progress=progress)
    run.write(TRUTH, table, origin=origin)
    return table


def _origin(run: Run, candidates: pd.DataFrame) -> str:
    """sha256 of the table's inputs: truth, samples, lists, text and matching options."""
    config, corpus = run.config, run.manifest.corpus
    try:
        truth = hashlib.sha256(Path(str(config.truth)).read_bytes()).hexdigest()
    except OSError:
        truth = ""  # `read_truth` reports the error
    parts = [
        _RULE,
        truth,
        sorted((n, f.sha256) for n, f in run.manifest.shards.items() if n.startswith("samples/")),
        sorted(_listed(candidates)),
        corpus and corpus.model_dump(),
        [config.min_match_tokens, config.min_match_chars, sorted(config.normalize)],
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _listed(candidates: pd.DataFrame) -> set[str]:
    return set(listed(candidates)["sample_id"])


def truth_table(
    run: Run,
    candidates: pd.DataFrame,
    vocabulary: Vocabulary,
    *,
    progress: Callable[[int], object] | None = None,
) -> pd.DataFrame:
    """How many documents were extracted, by number of repeats.

    Every sample is matched against the texts of the truth, in batches that fit into memory. A
    document counts as extracted if it contains a verbatim overlap with a sample (one of the first
    five documents that contain it). Held-out documents follow the same rule, except that spans
    which the sample shares with members are removed from the overlap first: a held-out document
    counts only if a remaining span is long enough by itself. A shared passage that happens to
    continue for a few characters is no evidence.

    A document with a secret (a canary) counts as extracted if a sample contains the secret as the
    canary writes it, together with the preceding characters, 16 characters in all (the following
    ones, where too few precede). Chance can produce a short secret, but not in its context. The
    context may be part of the prompt; the secret must be generated.

    If the truth has no texts, those of members are read from the training text. Left out are
    documents without a text, secrets of fewer than 16 characters without one, and canaries whose
    secret is empty or whose text has fewer than 16 characters.

    The result is that of `reports.analysis.summary.by_repeats`. Candidates of the random draw alone
    count as samples only.
    """
    config = run.config
    truth = _with_texts(config, read_truth(config))
    canaries = truth[truth["secret"].notna()]
    pieces = _pieces(canaries, config.normalize)
    texts = truth[truth["text"].notna()]
    sides = [_documents(texts[texts["member"].astype(bool) == side]) for side in (True, False)]
    listed = _listed(candidates)
    # A canary's carrier sentence is not secret: only its secret counts.
    framed = set(canaries["doc_id"])
    by_all: set[str] = set()
    by_listed: set[str] = set()
    n_samples = 0
    for queries, rows in _batches(run, vocabulary):
        overlapping = _overlapping(config, queries, *sides)
        found = [pair for pair in overlapping if pair[1] not in framed]
        found += _revealed_secrets(rows, pieces, config.normalize)
        by_all |= {doc_id for _, doc_id in found}
        by_listed |= {doc_id for sample_id, doc_id in found if sample_id in listed}
        n_samples += len(rows)
        if progress:
            progress(len(rows))
    ids = truth["doc_id"]
    known = truth["text"].notna() & truth["secret"].isna() | ids.isin(pieces)
    truth = truth.assign(extracted=ids.isin(by_all), by_candidates=ids.isin(by_listed))
    return by_repeats(truth[known], n_samples)


_Rows = list[dict[str, Any]]


def _batches(run: Run, vocabulary: Vocabulary) -> Iterator[tuple[list[Query], _Rows]]:
    """All samples drawn so far, in batches that are matched together.

    Yields the queries, and each sample's text and prompt end.
    """
    queries: list[Query] = []
    rows: _Rows = []
    n_bytes = 0
    for name in sorted(n for n in run.manifest.shards if n.startswith("samples/")):
        for row in run.read(name, _COLUMNS).to_pylist() if run.has(name) else ():
            if rows and n_bytes + row["n_bytes"] > MOST_BYTES:
                yield queries, rows
                queries, rows, n_bytes = [], [], 0
            queries.append(query_of(vocabulary, row))
            shown = row["prompt"][-_LEAST_CHARS:]
            rows.append({"sample_id": row["sample_id"], "text": row["text"], "prompt": shown})
            n_bytes += row["n_bytes"]
    if rows:
        yield queries, rows


def _documents(truth: pd.DataFrame) -> list[Document]:
    return [Document(*row, "") for row in zip(truth["doc_id"], truth["text"], strict=True)]


def _overlapping(
    config: AuditConfig,
    queries: Sequence[Query],
    members: Sequence[Document],
    heldout: Sequence[Document],
) -> list[tuple[str, str]]:
    """Pairs of sample_id and doc_id with a verbatim overlap."""
    least: dict[str, Any] = {
        "min_tokens": config.min_match_tokens,
        "min_chars": config.min_match_chars,
    }

    def matches(documents: Sequence[Document]) -> list[Match]:
        found = find_matches(queries, documents, normalize=config.normalize, **least)
        return without_boilerplate(found, queries, **least)

    of_members = matches(members)
    learned: dict[str, list[Match]] = defaultdict(list)
    for match in of_members:
        learned[match.sample_id].append(match)
    by_id = {query.sample_id: query for query in queries}
    unseen = []
    for match in matches(heldout):
        query = by_id[match.sample_id]
        parts = _without(match, learned[match.sample_id], query, config.normalize)
        if without_boilerplate(parts, [query], **least):
            unseen.append(match)
    return [(m.sample_id, doc_id) for m in [*unseen, *of_members] for doc_id, _ in m.places]


def _without(
    match: Match, known: Sequence[Match], query: Query, normalize: Sequence[str]
) -> list[Match]:
    """The spans of an overlap that are in no other overlap of the same sample."""
    at, left = match.start, []
    for other in sorted(known, key=lambda m: m.start):
        if other.start > at:
            left.append((at, min(other.start, match.end)))
        at = max(at, other.end)
        if at >= match.end:
            break
    left.append((at, match.end))
    ends, change = checked_ends(query), folding(normalize)
    return [
        replace(
            match,
            start=start,
            end=end,
            n_tokens=int(count_tokens(ends, np.array([start]), np.array([end]))[0]),
            n_chars=len(fold_text(query.text[start:end], change)[0]),
        )
        for start, end in left
        if start < end
    ]


def _pieces(canaries: pd.DataFrame, normalize: Sequence[str]) -> dict[str, tuple[str, int]]:
    """For each canary the string to find, and the number of its characters before the secret."""
    change = folding(normalize)
    pieces = {}
    for doc_id, secret, text in zip(
        canaries["doc_id"], canaries["secret"], canaries["text"], strict=True
    ):
        secret = fold_text(secret, change)[0]
        text = fold_text(text, change)[0] if isinstance(text, str) else ""
        at, more = text.find(secret), max(0, _LEAST_CHARS - len(secret))
        if not secret:
            continue
        if at >= 0:
            begin = max(0, at - more)
            piece = text[begin : at + len(secret) + more - (at - begin)]
            if len(piece) >= _LEAST_CHARS:
                pieces[doc_id] = (piece, at - begin)
        elif not more:
            pieces[doc_id] = (secret, 0)
    return pieces


def _revealed_secrets(
    rows: list[dict[str, Any]], pieces: Mapping[str, tuple[str, int]], normalize: Sequence[str]
) -> list[tuple[str, str]]:
    """Pairs of sample_id and doc_id where a sample reveals a canary's secret."""
    if not pieces:
        return []
    change = folding(normalize)
    texts = []
    for row in rows:
        shown = row["prompt"][-_LEAST_CHARS:]
        n_shown = len(fold_text(shown, change)[0])
        texts.append((row["sample_id"], n_shown, fold_text(shown + row["text"], change)[0]))
    everything = "\0".join(text for _, _, text in texts)
    return [
        (sample_id, doc_id)
        for doc_id, (piece, n_before) in pieces.items()
        if piece in everything
        for sample_id, n_shown, text in texts
        if text.find(piece, max(0, n_shown - n_before)) >= 0
    ]


def _with_texts(config: AuditConfig, truth: pd.DataFrame) -> pd.DataFrame:
    """The truth with a column `text`; missing texts of members are read from the training text.

    Training documents are joined by id, ignoring a copy suffix (doc-0017.03).
    """
    texts = truth.get("text", pd.Series(None, truth.index, dtype=object)).astype(object)
    missing = set(truth.loc[texts.isna() & truth["member"].astype(bool), "doc_id"])
    found: dict[str, str] = {}
    for document in training_text(config) if missing else ():
        own = document.doc_id
        own = own if own in missing else re.sub(r"\.\d+$", "", own)
        if own in missing:
            found.setdefault(own, document.text)
    return truth.assign(text=texts.where(texts.notna(), truth["doc_id"].map(found)))


def read_truth(config: AuditConfig) -> pd.DataFrame:
    """The `truth` file, one row per document; includes text if the file does.

    Raises a ConfigError if it is missing, invalid or lacks a column, or there is no training text.
    """
    if not Path(str(config.truth)).is_file():
        raise ConfigError(
            f"--truth {config.truth}: no such file. Give the truth.parquet of a testbed."
        )
    if not config.has_training_text:
        raise ConfigError(
            "--truth needs training text; got none. Add --corpus with the testbed's corpus.jsonl, "
            "or remove --truth."
        )
    try:
        truth = pd.read_parquet(config.truth)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--truth {config.truth} cannot be read as Parquet ({error}). Give the truth.parquet "
            "of a testbed."
        ) from None
    missing = [c for c in _NEEDED if c not in truth.columns]
    if missing:
        raise ConfigError(
            f"--truth {config.truth} has no column {missing[0]!r}; it needs {', '.join(_NEEDED)}."
        )
    known = [*_NEEDED, *(["text"] if "text" in truth else [])]
    for name in ("doc_id", "secret", "text"):
        if name in known and not truth[name].dropna().map(lambda v: isinstance(v, str)).all():
            raise ConfigError(
                f"--truth {config.truth}: its column {name!r} must hold text. Give the "
                "truth.parquet of a testbed."
            )
    return truth[known]
