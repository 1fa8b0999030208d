"""Where the truth is known: what came out of members, and of what no model was trained on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from auditor.config import AuditConfig
from auditor.corpora.filler import without_filler
from auditor.corpora.formats import Document
from auditor.corpora.matching import Needle, find_matches
from auditor.corpora.needles import written_ends
from auditor.errors import ConfigError
from auditor.stages.verification import MATCHES
from auditor.store import Run
from reports.tables import by_repeats

_NEEDED = ["doc_id", "member", "repeats", "kind", "secret"]


def truth_table(run: Run, candidates: pd.DataFrame) -> pd.DataFrame | None:
    """How many documents of each number of repeats came out; None before anything was verified.

    A document came out if an overlap of a candidate stands in it (one of the first five places of
    the overlap). Held-out documents stand in no training text, so they are looked for by
    themselves, by the same rule: otherwise that none of them came out would be so by construction.
    A passage that members and held-out documents share came out of the members: it is not counted
    against the held-out ones. Where the truth has no texts they are left out.

    Returns
    -------
    DataFrame, as `reports.tables.by_repeats` gives it; None where the config names no truth, too.
    """
    config = run.config
    if config.truth is None or not run.has(MATCHES):
        return None
    truth = read_truth(config)
    rows = run.read(MATCHES, ["sample_id", "start", "end", "places"]).to_pylist()
    found = [(row["sample_id"], place["doc_id"]) for row in rows for place in row["places"]]
    is_member = truth["member"].astype(bool)
    if "text" in truth:
        spans = defaultdict(list)
        for row in rows:
            spans[row["sample_id"]].append((row["start"], row["end"]))
        found += _in_heldout(config, candidates, truth[~is_member], spans)
    else:
        truth = truth[is_member]
    overlaps = pd.DataFrame(found, columns=["sample_id", "doc_id"], dtype="str")
    return by_repeats(overlaps.merge(candidates[["sample_id", "text"]], on="sample_id"), truth)


def _in_heldout(
    config: AuditConfig,
    candidates: pd.DataFrame,
    heldout: pd.DataFrame,
    spans: Mapping[str, Sequence[tuple[int, int]]],
) -> list[tuple[str, str]]:
    """Overlaps of the candidates with documents that were held out: sample_id and doc_id.

    `spans` are where each candidate overlaps with training text: what lies within one of them is
    training text, wherever else it stands.
    """
    columns = (candidates[name] for name in ("sample_id", "text", "token_end"))
    needles = [
        Needle(sample_id, text, written_ends(text, ends))
        for sample_id, text, ends in zip(*columns, strict=True)
    ]
    documents = [
        Document(doc_id, text, str(config.truth))
        for doc_id, text in zip(heldout["doc_id"], heldout["text"], strict=True)
    ]
    matches = find_matches(
        needles,
        documents,
        min_tokens=config.min_match_tokens,
        min_chars=config.min_match_chars,
        normalize=config.normalize,
    )
    return [
        (m.sample_id, doc_id)
        for m in without_filler(
            matches,
            needles,
            min_tokens=config.min_match_tokens,
            min_chars=config.min_match_chars,
        )
        if not any(start <= m.start and m.end <= end for start, end in spans.get(m.sample_id, ()))
        for doc_id, _ in m.places
    ]


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
    return truth[[*_NEEDED, *(["text"] if "text" in truth else [])]]
