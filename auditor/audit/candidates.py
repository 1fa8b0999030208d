"""Build the frame `candidates`, from the shortlist or, in a partial run, from current scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from auditor.audit.context import TARGET, Context
from auditor.audit.shortlist import COUNTS, LISTS, SAMPLES, provisional_shortlist
from auditor.audit.verification import FUZZY, MATCHES, NEAR
from auditor.runs.run import Run
from reports.analysis import schema
from reports.analysis.content_types import content_kinds
from reports.analysis.duplicates import Trigrams, mark_duplicates
from reports.listed import is_control
from reports.privacy import Item
from reports.privacy.candidates import count_personal, find_in_candidates, searched_kinds
from reports.privacy.finding import Finder

_PAGE_ONLY = {"token_ids": "token_ids", "logprob": "token_logprob", "rank": "token_rank"}


@dataclass(frozen=True, eq=False)
class Assembled:
    """The frame `candidates`, the counts of its lists, and the personal data of each row."""

    candidates: pd.DataFrame
    counts: pd.DataFrame
    personal: list[list[Item]]


def assemble(
    context: Context, more: Iterable[Finder] = (), secrets: Sequence[Finder] = ()
) -> Assembled:
    """One row per shortlisted sample.

    `more` finders look for personal data besides the rules; what those of `secrets` find is masked,
    and not counted as personal data.
    """
    run = context.run
    if all(run.has(name) for name in (LISTS, COUNTS, SAMPLES)):
        lists, counts, samples = (run.read(name) for name in (LISTS, COUNTS, SAMPLES))
        lists, counts = lists.to_pandas(), counts.to_pandas()
    else:
        lists, counts, samples = provisional_shortlist(context)
    frame = _ranked(context, samples, lists)
    frame = _with_matches(frame, run)
    more = tuple(more)
    personal = find_in_candidates(frame, more=more)
    frame = _with_kinds(frame, personal, names=bool(more))
    if secrets:
        personal = find_in_candidates(frame, more=(*more, *secrets))
    known = [c for c in frame.columns if any(k.matches(c) for k in schema.CANDIDATES.columns)]
    return Assembled(schema.conform(frame[known], schema.CANDIDATES), counts, personal)


def _ranked(context: Context, samples: pa.Table, lists: pd.DataFrame) -> pd.DataFrame:
    """The samples with their rank on each list, best first, and their near-duplicates marked."""
    frame = samples.to_pandas()
    vocabulary = context.vocabulary(TARGET)
    tokens = frame[["text", "token_ids", "prompt_token_ids"]].itertuples(index=False)
    frame["token_end"] = [vocabulary.ends_in(*row) for row in tokens]
    frame = frame.rename(columns=_PAGE_ONLY)
    ranks = lists.pivot_table(index="sample_id", columns="score", values="rank", aggfunc="first")
    names = [s for s in lists["score"].unique() if s != schema.CONTROL]
    for name in [*names, schema.CONTROL]:
        frame[f"rank:{name}"] = frame["sample_id"].map(ranks[name]).astype("Int64")
    frame["best_rank"] = frame[[f"rank:{n}" for n in names]].min(axis=1).astype("Int64")
    frame["is_control"] = is_control(frame)
    order = np.argsort(frame["best_rank"].fillna(2**31).to_numpy(np.int64), kind="stable")
    frame = frame.iloc[order].reset_index(drop=True)
    repeats = mark_duplicates(Trigrams.from_texts(frame["text"]), np.arange(len(frame)))
    frame["duplicate_of"] = [None if i < 0 else frame["sample_id"].iat[i] for i in repeats]
    return frame


def _with_kinds(
    frame: pd.DataFrame, personal: Sequence[Sequence[Item]], *, names: bool
) -> pd.DataFrame:
    """Add counts of personal data and kinds of content."""
    counts = count_personal(frame, personal, kinds=searched_kinds(names=names))
    kinds = [
        "; ".join(content_kinds(text, items)) or None
        for text, items in zip(frame["text"], personal, strict=True)
    ]
    return frame.assign(
        **{name: counts[name] for name in counts.columns},
        content_kinds=pd.Series(kinds, frame.index, dtype="str"),
    )


def _with_matches(frame: pd.DataFrame, run: Run) -> pd.DataFrame:
    """Add the verdict, longest overlap and nearest passage of each candidate."""
    integers = [f"match_{k}" for k in ("start", "end", "n_tokens", "n_chars")]
    integers += ["n_documents", "n_occurrences", "doc_offset", "fuzzy_n_words"]
    if not run.has(MATCHES):
        frame["verdict"] = "not checked"
        for name in integers:
            frame[name] = pd.array([pd.NA] * len(frame), dtype="Int64")
        for name in ("doc_id", "fuzzy_doc_id"):
            frame[name] = pd.Series([None] * len(frame), dtype="str")
        return frame
    matches = run.read(MATCHES).to_pandas().drop(columns="places")
    # Keep the longest in tokens, then in characters, then the earliest in the text.
    matches = matches.sort_values(
        ["n_tokens", "n_chars", "start"], ascending=[False, False, True], kind="stable"
    ).drop_duplicates("sample_id")
    named = {k: f"match_{k}" for k in ("start", "end", "n_tokens", "n_chars")}
    frame = frame.merge(matches.rename(columns=named), on="sample_id", how="left")
    fuzzy = run.read(FUZZY).to_pandas()[["sample_id", "n_words", "doc_id"]]
    fuzzy = fuzzy.rename(columns={"n_words": "fuzzy_n_words", "doc_id": "fuzzy_doc_id"})
    frame = frame.merge(fuzzy, on="sample_id", how="left")
    for name in integers:
        frame[name] = frame[name].astype("Int64")
    fuzzily = frame["fuzzy_n_words"].notna()
    frame["verdict"] = np.where(
        frame["doc_id"].notna(), "verbatim", np.where(fuzzily, "fuzzy", "not found")
    )
    near = run.read(NEAR).to_pandas()[["sample_id", "n_tokens", "token_distance", "is_near"]]
    near = near.rename(columns={"n_tokens": "near_n_tokens", "token_distance": "near_distance"})
    frame = frame.merge(near, on="sample_id", how="left")
    # Candidates without a passage, or with fewer than 50 tokens, never count as near.
    frame["is_near"] = frame["is_near"].astype("boolean").fillna(False)
    for name in ("near_n_tokens", "near_distance"):
        frame[name] = frame[name].astype("Int64")
    return frame
