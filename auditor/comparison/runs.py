"""Comparison of two runs: passages that both or only one extracted, and their precision."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from attacks.statistics.discovery_curve import linked_groups
from attacks.statistics.intervals import effective_trials
from attacks.statistics.resampling import newcombe
from auditor.errors import ConfigError
from auditor.runs.manifest import differences
from auditor.runs.run import Run, load_run
from reports.analysis.strategy_estimates import clusters_of
from reports.analysis.summary import without_control
from reports.listed import listed

WHERE = ("only A", "only B", "both")
# Settings that the report shows separately.
_SHOWN = ("model", "corpus", "index")


@dataclass(frozen=True, eq=False)
class RunComparison:
    """Passages and precision of two runs.

    passages : DataFrame, one row per passage found verbatim
        where ("only A", "only B", "both"), n_a and n_b (number of candidates with it), and
        n_tokens, n_chars, doc_id and text of its longest match. Two matches are the same passage
        if one contains the other's text, or if they overlap in the same document by at least half
        of the shorter (across runs, only if both were checked against the same corpus).
    differences : DataFrame, one row for all candidates and one per shortlist that both runs have
        Precision (verbatim / checked) in A and B, and B minus A with Newcombe's 95 % interval;
        candidates of one passage are one cluster. Samples and lists of the random control are
        left out.
    notes : list of str
    facts : dict, the runs' folders, models and digests
    """

    passages: pd.DataFrame
    differences: pd.DataFrame
    notes: list[str]
    facts: dict[str, Any]

    def counts(self) -> dict[str, int]:
        """Number of passages by `where`."""
        found = self.passages["where"].value_counts() if len(self.passages) else {}
        return {where: int(found.get(where, 0)) for where in WHERE}


def compare_runs(run_a: str | Path, run_b: str | Path) -> RunComparison:
    """Compare what two finished runs extracted.

    Parameters
    ----------
    run_a, run_b : folders of runs

    Returns
    -------
    RunComparison

    Raises
    ------
    ConfigError
        If both are the same run, or one was not verified against training text.
    RunError
        If one is not a finished run.
    """
    one, other = load_run(run_a), load_run(run_b)
    if one.path.resolve() == other.path.resolve():
        raise ConfigError(f"Two different runs are needed; got {one.path} twice. Give another one.")
    frames = _candidates(one), _candidates(other)
    passages = _passages(*frames, same_text=_text(one) == _text(other))
    return RunComparison(
        passages=passages,
        differences=_differences(one, other, frames),
        notes=_notes(one, other),
        facts={"a": _facts(one), "b": _facts(other)},
    )


def _candidates(run: Run) -> pd.DataFrame:
    frame = listed(run.candidates())
    checked = frame[frame["verdict"] != "not checked"]
    if len(frame) and checked.empty:
        raise ConfigError(
            f"{run.path} was not verified against training text. Verify it with: auditor verify "
            f"{run.path} --corpus PATH."
        )
    return checked


@dataclass(frozen=True)
class _Span:
    """A verbatim match: its run, its text, and its position in the training text."""

    run: str
    text: str
    n_tokens: int
    doc_id: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def _spans(frame: pd.DataFrame, run: str) -> list[_Span]:
    rows = frame[(frame["verdict"] == "verbatim") & frame["match_start"].notna()]
    return [
        _Span(
            run,
            row.text[int(row.match_start) : int(row.match_end)],
            int(row.match_n_tokens),
            str(row.doc_id),
            int(row.doc_offset),
        )
        for row in rows.itertuples()
    ]


def _text(run: Run) -> list[tuple[str, str]]:
    """Path and sha256 of each corpus file that a run was verified against."""
    corpus = run.manifest.corpus
    return sorted((file.path, file.sha256) for file in corpus.files) if corpus else []


def _are_one(a: _Span, b: _Span, same_text: bool) -> bool:
    if a.text in b.text or b.text in a.text:
        return True
    if a.run != b.run and not same_text:  # positions in different corpora are not comparable
        return False
    shared = min(a.end, b.end) - max(a.start, b.start)
    return a.doc_id == b.doc_id and 2 * shared >= min(len(a.text), len(b.text))


def _passages(a: pd.DataFrame, b: pd.DataFrame, *, same_text: bool = True) -> pd.DataFrame:
    """Join matches into passages, longest first."""
    spans = _spans(a, "a") + _spans(b, "b")
    links = (
        (i, j)
        for i, j in combinations(range(len(spans)), 2)
        if _are_one(spans[i], spans[j], same_text)
    )
    groups = linked_groups(len(spans), links)
    rows = [_row([spans[i] for i in group]) for group in groups]
    names = ["where", "n_a", "n_b", "n_tokens", "n_chars", "doc_id", "text"]
    frame = pd.DataFrame(rows, columns=names)
    return frame.sort_values("n_chars", ascending=False, kind="stable", ignore_index=True)


def _row(group: list[_Span]) -> dict[str, Any]:
    n_a = sum(span.run == "a" for span in group)
    n_b = len(group) - n_a
    longest = max(group, key=lambda span: len(span.text))
    return {
        "where": "both" if n_a and n_b else "only A" if n_a else "only B",
        "n_a": n_a,
        "n_b": n_b,
        "n_tokens": longest.n_tokens,
        "n_chars": len(longest.text),
        "doc_id": longest.doc_id,
        "text": longest.text,
    }


def _differences(one: Run, other: Run, frames: tuple[pd.DataFrame, pd.DataFrame]) -> pd.DataFrame:
    named = {"strategy": "all", "score": "all candidates"}
    rows = [named | _difference(*(_verbatim(frame) for frame in frames))]
    a, b = (without_control(run.summary()).set_index(["strategy", "score"]) for run in (one, other))
    for key in [key for key in a.index if key in b.index]:
        lists = [_of_list(f, side.loc[key], *key) for f, side in zip(frames, (a, b), strict=True)]
        rows.append({"strategy": key[0], "score": key[1]} | _difference(*lists))
    return pd.DataFrame(rows)


def _of_list(
    frame: pd.DataFrame, counts: pd.Series, strategy: str, score: str
) -> tuple[int, int, float]:
    """`_verbatim` of one shortlist; from its counts alone if the ranks were not saved."""
    if (rank := f"rank:{score}") not in frame:
        n = int(counts["n_chosen"])
        return int(counts["n_verbatim"]), n, float(n)
    return _verbatim(frame[(frame["strategy"] == strategy) & frame[rank].notna()])


def _verbatim(frame: pd.DataFrame) -> tuple[int, int, float]:
    """Number of verbatim candidates, of candidates, and the effective number of candidates."""
    worth = effective_trials(clusters_of(frame))
    return int((frame["verdict"] == "verbatim").sum()), len(frame), worth[-1] if len(worth) else 0.0


def _difference(a: tuple[int, int, float], b: tuple[int, int, float]) -> dict[str, Any]:
    (k_b, n_b), (k_a, n_a) = ((worth if k == n else k * worth / n, worth) for k, n, worth in (b, a))
    found = newcombe(k_b, n_b, k_a, n_a)
    return {
        "n_verbatim_a": a[0],
        "n_a": a[1],
        "n_verbatim_b": b[0],
        "n_b": b[1],
        "difference": found.value,
        "low": found.low,
        "high": found.high,
    }


def _notes(one: Run, other: Run) -> list[str]:
    a, b = (
        {k: v for k, v in run.config.identity().items() if k not in _SHOWN} for run in (one, other)
    )
    notes = [f"The runs differ: {phrase}." for phrase in differences(a, b, sides=("in A", "in B"))]
    if _text(one) != _text(other):
        notes.append("The runs were verified against different training text.")
    return notes


def _facts(run: Run) -> dict[str, Any]:
    return {
        "run": str(run.path),
        "model": run.config.model,
        "digest": run.manifest.digest,
        "complete": run.complete,
    }
