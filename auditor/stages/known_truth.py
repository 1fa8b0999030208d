"""Where the truth is known: what came out of members, and of what no model was trained on."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from auditor.config import AuditConfig
from auditor.corpora.filler import without_filler
from auditor.corpora.formats import Document
from auditor.corpora.matching import Match, Needle, find_matches
from auditor.corpora.normalizing import fold_text, folding
from auditor.errors import ConfigError
from auditor.stages.unselected import NEEDLE_COLUMNS, needle_of
from auditor.stages.verification import MATCHES, training_text
from auditor.store import Run
from reports.tables import by_repeats

if TYPE_CHECKING:
    from auditor.language_models.vocabulary import Vocabulary

TRUTH = "known_truth.parquet"

_NEEDED = ["doc_id", "member", "repeats", "kind", "secret"]
_COLUMNS = [*NEEDLE_COLUMNS, "prompt"]
_BATCH = 512  # samples that are looked up at once
_LEAST_CHARS = 16  # of a secret with what stands beside it


def truth_table(
    run: Run,
    candidates: pd.DataFrame,
    vocabulary: Vocabulary,
    *,
    progress: Callable[[int], object] | None = None,
) -> pd.DataFrame | None:
    """How many documents of each number of repeats came out; None before anything was verified.

    Every sample of the run is looked up, batch by batch, in the truth's own texts, where each
    document stands once. A document came out if a verbatim overlap with a sample stands in it (one
    of the first five documents that hold the overlap). Held-out documents are looked for by the
    same rule; a passage that members share with them came out of the members and is not counted
    against the held-out ones.

    A document with a secret (a canary) came out if a sample holds the secret as the canary writes
    it, together with as many of the characters before it as make 16 in all (or behind it, where
    there are too few): chance writes a short secret sooner or later, but not in its own place. The
    characters before it may stand in the prompt; the secret must be generated.

    Where the truth has no texts, those of members are read from the training text. Without a text,
    a document is left out, and so is a secret of fewer than 16 characters.

    Parameters
    ----------
    run : Run
    candidates : DataFrame
        The frame `candidates`; those of the random draw alone count as samples only.
    vocabulary : Vocabulary
        The target's: it tells how many tokens an overlap has.
    progress : callable, optional
        Called with the samples looked up since the last call.

    Returns
    -------
    DataFrame, as `reports.tables.by_repeats` gives it; None where the config names no truth, too.
    """
    config = run.config
    if config.truth is None or not run.has(MATCHES):
        return None
    truth = _with_texts(config, read_truth(config))
    canaries = truth[truth["secret"].notna()]
    pieces = _pieces(canaries, config.normalize)
    texts = truth[truth["text"].notna()]
    sides = [_documents(texts[texts["member"].astype(bool) == side]) for side in (True, False)]
    listed = set(candidates.loc[candidates["best_rank"].notna(), "sample_id"])
    # A canary's frame gives nothing away: of canaries only secrets count.
    framed = set(canaries["doc_id"])
    by_all: set[str] = set()
    by_listed: set[str] = set()
    n_samples = 0
    for rows in _samples(run):
        needles = [needle_of(vocabulary, row) for row in rows]
        overlapping = _overlapping(config, needles, *sides)
        found = [pair for pair in overlapping if pair[1] not in framed]
        found += _giving_secrets(rows, pieces, config.normalize)
        by_all |= {doc_id for _, doc_id in found}
        by_listed |= {doc_id for sample_id, doc_id in found if sample_id in listed}
        n_samples += len(rows)
        if progress:
            progress(len(rows))
    ids = truth["doc_id"]
    known = truth["text"].notna() & truth["secret"].isna() | ids.isin(pieces)
    truth = truth.assign(extracted=ids.isin(by_all), by_candidates=ids.isin(by_listed))
    return by_repeats(truth[known], n_samples)


def _samples(run: Run) -> Iterator[list[dict[str, Any]]]:
    """Every sample that was drawn so far, some at a time."""
    for name in sorted(n for n in run.manifest["shards"] if n.startswith("samples/")):
        if run.has(name):
            table = run.read(name, _COLUMNS)
            for at in range(0, len(table), _BATCH):
                yield table.slice(at, _BATCH).to_pylist()


def _documents(truth: pd.DataFrame) -> list[Document]:
    return [Document(*row, "") for row in zip(truth["doc_id"], truth["text"], strict=True)]


def _overlapping(
    config: AuditConfig,
    needles: Sequence[Needle],
    members: Sequence[Document],
    heldout: Sequence[Document],
) -> list[tuple[str, str]]:
    """Which samples overlap verbatim with which documents: sample_id and doc_id."""
    least: dict[str, Any] = {
        "min_tokens": config.min_match_tokens,
        "min_chars": config.min_match_chars,
    }

    def matches(documents: Sequence[Document]) -> list[Match]:
        found = find_matches(needles, documents, normalize=config.normalize, n_threads=1, **least)
        return without_filler(found, needles, **least)

    learned: dict[str, list[Match]] = defaultdict(list)
    for match in matches(members):
        learned[match.sample_id].append(match)
    unseen = [
        m
        for m in matches(heldout)
        if not any(known.start <= m.start and m.end <= known.end for known in learned[m.sample_id])
    ]
    every = [*unseen, *(m for own in learned.values() for m in own)]
    return [(m.sample_id, doc_id) for m in every for doc_id, _ in m.places]


def _pieces(canaries: pd.DataFrame, normalize: Sequence[str]) -> dict[str, tuple[str, int]]:
    """What a sample must hold of each canary, and how many characters stand before the secret."""
    change = folding(normalize)
    pieces = {}
    for doc_id, secret, text in zip(
        canaries["doc_id"], canaries["secret"], canaries["text"], strict=True
    ):
        secret = fold_text(secret, change)[0]
        text = fold_text(text, change)[0] if isinstance(text, str) else ""
        at, more = text.find(secret), max(0, _LEAST_CHARS - len(secret))
        if at >= 0:
            begin = max(0, at - more)
            end = at + len(secret) + more - (at - begin)
            pieces[doc_id] = (text[begin:end], at - begin)
        elif not more:
            pieces[doc_id] = (secret, 0)
    return pieces


def _giving_secrets(
    rows: list[dict[str, Any]], pieces: Mapping[str, tuple[str, int]], normalize: Sequence[str]
) -> list[tuple[str, str]]:
    """Which samples give which canaries' secrets away: sample_id and doc_id."""
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
    """The truth with a column `text`: what it lacks of members is read from the training text.

    There a document's id is its own, or that and a dot and the number of the copy (doc-0017.03).
    """
    texts = truth.get("text", pd.Series(None, truth.index, dtype=object)).astype(object)
    wanted = set(truth.loc[texts.isna() & truth["member"].astype(bool), "doc_id"])
    found: dict[str, str] = {}
    for document in training_text(config) if wanted else ():
        own = document.doc_id
        own = own if own in wanted else re.sub(r"\.\d+$", "", own)
        if own in wanted:
            found.setdefault(own, document.text)
    return truth.assign(text=texts.where(texts.notna(), truth["doc_id"].map(found)))


def check_truth(config: AuditConfig) -> None:
    """Refuse a truth that cannot be used before anything is sampled; raises as `read_truth`."""
    if config.truth is not None:
        read_truth(config)


def read_truth(config: AuditConfig) -> pd.DataFrame:
    """The file of `truth`: a row a document, as `reports.tables.by_repeats` wants it; with text
    where the file has it.

    Raises
    ------
    ConfigError
        If it is missing, cannot be read or lacks a column, or there is no training text.
    """
    if not Path(str(config.truth)).is_file():
        raise ConfigError(
            f"--truth {config.truth}: no such file. Give the truth.parquet of a testbed."
        )
    if not config.has_training_text:
        raise ConfigError(
            "--truth says what is known of the training text, and none was given. Add --corpus "
            "with the testbed's corpus.jsonl, or leave --truth out."
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
