"""Seconds to write a report of many candidates, and the page's size.

python -m benchmarks.report [--candidates 5000]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd

from benchmarks.machine import describe
from reports.drawings import draw_figures, figure_files
from reports.html import ReportPage, render_report
from reports.markdown import render_markdown
from reports.privacy.candidates import count_personal, find_in_candidates, kinds_looked_for
from reports.schema import CONTROL
from reports.tables import summarize

_N_TOKENS, _SCORES = 256, ("perplexity", "zlib", "window")
_WORDS = ("the", "of", "and", "to", "in", "is", "that", "it", "was", "for", "on", "are", "as")


def candidates_of(n: int, seed: int = 0) -> pd.DataFrame:
    """Candidates of 256 tokens of about four characters; one in fifty holds an address."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(_WORDS, _N_TOKENS)) for _ in range(n)]
    texts = [f"{t} ann{at}@example.org" if at % 50 == 0 else t for at, t in enumerate(texts)]
    rank = pd.array(np.arange(1, n + 1), dtype="Int64")
    frame = pd.DataFrame(
        {
            "sample_id": [f"top-n-{at:06}" for at in range(n)],
            "strategy": "top-n",
            "text": texts,
            "prompt": "",
            "n_tokens": _N_TOKENS,
            "nll": rng.uniform(0.1, 4, n),
            "zlib_bits": rng.uniform(2000, 5000, n),
            **{name: rng.normal(size=n) for name in _SCORES},
            **{f"rank:{name}": rank for name in (*_SCORES, CONTROL)},
            "best_rank": rank,
            "duplicate_of": None,
            "verdict": np.where(np.arange(n) % 2 == 0, "verbatim", "not found"),
            "match_start": pd.array(np.zeros(n), dtype="Int64"),
            "match_n_tokens": pd.array(np.full(n, 40), dtype="Int64"),
            "n_documents": pd.array(np.full(n, 2), dtype="Int64"),
            "doc_id": "corpus.jsonl:17",
            "token_end": [np.linspace(4, len(t), _N_TOKENS).astype(int).tolist() for t in texts],
            "token_logprob": (-rng.exponential(2, (n, _N_TOKENS))).tolist(),
            "token_rank": rng.geometric(0.1, (n, _N_TOKENS)).tolist(),
        }
    )
    return frame.assign(match_end=pd.array(np.full(n, 160), dtype="Int64"))


def page_of(candidates: pd.DataFrame) -> ReportPage:
    """The page of such candidates, with its summary."""
    n = len(candidates)
    lists = [("top-n", score, n, 0, n, 0) for score in (*_SCORES, CONTROL)]
    columns = ["strategy", "score", "n_samples", "n_undefined", "n_chosen"]
    counts = pd.DataFrame(lists, columns=[*columns, "n_duplicates_skipped"])
    return ReportPage(
        title="Benchmark",
        headline=["Benchmark."],
        not_claimed=[],
        notices=[],
        about=[],
        command="python -m benchmarks.report",
        config_toml="",
        summary=summarize(candidates, counts),
        scores=candidates[["sample_id", "strategy", "nll", "zlib_bits"]],
        candidates=candidates,
    )


def main() -> None:
    """Print seconds of each step and megabytes of the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=5000)
    n = parser.parse_args().candidates
    print(describe())
    frame = candidates_of(n)
    begun = time.perf_counter()

    def lap(what: str) -> None:
        print(f"{what:<44} {time.perf_counter() - begun:6.2f} s since the start")

    found = find_in_candidates(frame)
    counts = count_personal(frame, found, kinds=kinds_looked_for(names=False))
    page = page_of(frame.assign(**{str(name): counts[name] for name in counts.columns}))
    lap("personal data found and counted")
    drawings = draw_figures(page)
    html = render_report(page, drawings)
    lap(f"report.html, {len(html.encode()) / 1e6:.1f} MB")
    render_markdown(page)
    lap("report.md")
    n_bytes = sum(map(len, figure_files(drawings).values()))
    lap(f"figures in three formats, {n_bytes / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
