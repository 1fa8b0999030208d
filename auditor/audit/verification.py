"""Stage 4: find the candidates and the unselected samples in the training text."""

from __future__ import annotations

from typing import Any, get_type_hints

import pyarrow as pa

from auditor.audit.context import TARGET, Context
from auditor.audit.shortlist import SAMPLES
from auditor.audit.unselected import (
    QUERY_COLUMNS,
    UNSELECTED,
    note_partial,
    queries_of,
    unselected,
)
from auditor.config.audit import AuditConfig
from auditor.corpus.reading import Corpus, n_utf8_bytes, read_corpus
from auditor.matching.boilerplate import without_boilerplate
from auditor.matching.edit_distance import KnownMatch, NearMatch, find_near
from auditor.matching.fuzzy import FuzzyMatch, find_fuzzy
from auditor.matching.index import Index, find_matches_in_index, open_index
from auditor.matching.verbatim import Match, Query, find_matches
from auditor.runs.manifest import CorpusEntry, CorpusFile
from auditor.runs.result_folder import storable
from auditor.system.progress import steps
from reports.number_text import count

MATCHES, FUZZY, NEAR = (f"matches/{name}.parquet" for name in ("matches", "fuzzy", "near"))

_PIECE_BYTES = 1 << 20
_FILES = (MATCHES, FUZZY, NEAR, UNSELECTED)


def is_due(context: Context) -> bool:
    """Whether there is training text and the candidates are not verified yet."""
    done = all(context.run.has(name) for name in _FILES)
    return context.config.has_training_text and not done


def check_corpus(config: AuditConfig) -> None:
    """Refuse training text that is missing or empty or, if strict, has any problem.

    Only a strict check reads more than the beginning.
    """
    corpus = training_text(config)
    if isinstance(corpus, Corpus):
        corpus.check()
        for _ in corpus.pieces(_PIECE_BYTES):
            if not config.strict:
                break


def training_text(config: AuditConfig) -> Corpus | Index:
    """The text to search: files, or an index of them."""
    if config.index is not None:
        return open_index(config.index)
    return read_corpus(config.corpus, text_field=config.text_field, strict=config.strict)


def verify(context: Context) -> None:
    """Write matches/: every verbatim overlap, and the nearest passage of candidates without one.

    The same pass covers all samples, as far as memory allows: estimates of a whole strategy must
    not rest on candidates, which were selected by score.
    """
    run = context.run
    if not is_due(context):
        return
    corpus = training_text(context.config)
    queries = queries_of(context, {"": run.read(SAMPLES, QUERY_COLUMNS)})
    listed = {n.sample_id for n in queries}
    drawn = unselected(context)
    with context.timed("verify"):
        others = [n for n in queries_of(context, drawn) if n.sample_id not in listed]
        overlaps = _matches(context, [*queries, *others], corpus)
        matches = [m for m in overlaps if m.sample_id in listed]
        found = {m.sample_id for m in matches}
        rest = [n for n in queries if n.sample_id not in found]
        with context.progress.stage("fuzzy matching", _size_of(corpus), "bytes") as bar:
            fuzzy = find_fuzzy(rest, corpus, progress=steps(bar))
        regions = _regions(queries, matches, fuzzy)
        with context.progress.stage("edit distances", _size_of(corpus), "bytes") as bar:
            encode = context.vocabulary(TARGET).encode
            near = find_near(regions, corpus, encode=encode, progress=steps(bar))
        _describe(context, corpus)
        note_partial(context, drawn)
    ids = {key for table in drawn.values() for key in table["sample_id"].to_pylist()}
    of_drawn = [m for m in overlaps if m.sample_id in ids]
    looked_up = {name: len(table) for name, table in drawn.items()}
    run.write(UNSELECTED, _table(of_drawn, Match), looked_up=looked_up)
    run.write(MATCHES, _table(matches, Match))
    run.write(FUZZY, _table(list(fuzzy.values()), FuzzyMatch))
    run.write(NEAR, _table(near, NearMatch))


def _matches(context: Context, queries: list[Query], corpus: Corpus | Index) -> list[Match]:
    config = context.config
    least = {"min_tokens": config.min_match_tokens, "min_chars": config.min_match_chars}
    if isinstance(corpus, Index):
        size = sum(n_utf8_bytes(n.text) for n in queries)
        with context.progress.stage("matching", size, "bytes") as bar:
            found = find_matches_in_index(queries, corpus, progress=steps(bar), **least)
    else:
        with context.progress.stage("matching", _size_of(corpus), "bytes") as bar:
            found = find_matches(
                queries, corpus, normalize=config.normalize, progress=steps(bar), **least
            )
    kept = without_boilerplate(found, queries, **least)
    if n := len(found) - len(kept):
        context.note(
            f"{count(n, 'overlap')} with the training text {'reaches' if n == 1 else 'reach'} the "
            "minimum length only by repeats of one character, such as a table border; not counted "
            "as verbatim."
        )
    return kept


def _size_of(corpus: Corpus | Index) -> int | None:
    return corpus.n_bytes if isinstance(corpus, Index) else corpus.size()


def _regions(
    queries: list[Query], matches: list[Match], fuzzy: dict[str, FuzzyMatch]
) -> list[KnownMatch]:
    """Where each sample comes nearest: its longest overlap, else its fuzzy match."""
    best: dict[str, Match | FuzzyMatch] = dict(fuzzy)
    for match in sorted(matches, key=lambda m: (m.n_tokens, m.n_chars, -m.start)):
        best[match.sample_id] = match
    return [
        KnownMatch(n, m.start, m.end, m.doc_id, m.doc_offset)
        for n in queries
        if (m := best.get(n.sample_id)) is not None
    ]


_PLACES = pa.list_(pa.struct({"doc_id": pa.string(), "offset": pa.int64()}))
_TYPES: dict[Any, pa.DataType] = {str: pa.string(), int: pa.int64(), bool: pa.bool_()}


def _table(rows: list, kind: type) -> pa.Table:
    """Dataclasses as a table, with typed columns even if there are no rows."""
    # Not `fields(kind)`, whose types are text in a module with postponed annotations.
    schema = pa.schema([(n, _TYPES.get(of, _PLACES)) for n, of in get_type_hints(kind).items()])
    return pa.Table.from_pylist(
        [{name: _plain(getattr(row, name)) for name in schema.names} for row in rows], schema
    )


def _plain(value: Any) -> Any:
    """Escape lone surrogates (from JSON or non-UTF-8 file names), which Parquet refuses."""
    if isinstance(value, tuple):
        return [{"doc_id": _plain(doc_id), "offset": offset} for doc_id, offset in value]
    if isinstance(value, str):
        return storable(value)
    return value


def _describe(context: Context, corpus: Corpus | Index) -> None:
    """Record what was searched, and what could not be read."""
    found = context.run.manifest.corpus = CorpusEntry(
        documents=corpus.n_documents,
        bytes=corpus.n_bytes,
        files=[
            CorpusFile(path=path, bytes=size, sha256=digest)
            for path, size, digest in corpus.fingerprint()
        ],
    )
    if isinstance(corpus, Index):
        found.index = str(corpus.path)
        return
    found.problems = dict(corpus.problem_counts)
    for problem in corpus.problems:
        context.note(problem.message)
