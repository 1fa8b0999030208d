"""Seconds to write a report of many candidates, the page's size, and how fast it is to use.

python -m benchmarks.report [--candidates 5000] [--browser]
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.machine import describe
from reports.analysis.schema import CONTROL
from reports.analysis.summary import summarize
from reports.figures.figure_files import figure_files
from reports.pages.audit_page import ReportPage, render_report
from reports.pages.markdown import render_markdown
from reports.pages.page_content import draw_figures
from reports.privacy.candidates import count_personal, find_in_candidates, searched_kinds

_N_TOKENS, _SCORES = 256, ("likelihood", "zlib", "window")
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


def page_of(candidates: pd.DataFrame, personal: list) -> ReportPage:
    """The page of such candidates, with its summary and where their personal data is."""
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
        personal=personal,
    )


class Laps:
    """Prints what each step took, by the clock and of the processor."""

    def __init__(self) -> None:
        self.begun = self.last = (time.perf_counter(), time.process_time())

    def __call__(self, what: str, *, since: tuple[float, float] | None = None) -> None:
        now = (time.perf_counter(), time.process_time())
        wall, used = (b - a for a, b in zip(since or self.last, now, strict=True))
        print(f"{what:<44} {wall:6.2f} s, {used:6.2f} s of processor time")
        self.last = now


def written(n: int) -> str:
    """A page of n candidates; prints what each step of a report takes."""
    frame = candidates_of(n)
    lap = Laps()
    found = find_in_candidates(frame)
    counts = count_personal(frame, found, kinds=searched_kinds(names=False))
    lap("personal data found and counted")
    page = page_of(frame.assign(**{str(name): counts[name] for name in counts.columns}), found)
    drawings = draw_figures(page)
    lap("figures drawn")
    html = render_report(page, drawings)
    lap(f"report.html, {len(html.encode()) / 1e6:.1f} MB")
    render_markdown(page)
    lap("report.md")
    n_bytes = sum(map(len, figure_files(drawings).values()))
    lap(f"figures in three formats, {n_bytes / 1e6:.1f} MB")
    lap("all of it", since=lap.begun)
    return html


# What a reader does, and what the page is asked for it. Each ends when the change is painted.
_DONE = (
    ("sorted by score", "document.querySelector(\"th[data-key='score'] button\").click()"),
    ("sorted by text", "document.querySelector(\"th[data-key='text'] button\").click()"),
    ("filtered by verdict", "choose('f-verdict', '0', 'change')"),
    ("searched for two words, the first time", "choose('f-text', 'on the', 'input')"),
    ("searched for two others", "choose('f-text', 'was it', 'input')"),
    ("turned to the last page", "document.querySelector('.pager button:last-child').click()"),
    ("opened a candidate", "document.querySelector('#rows .row button').click()"),
)
_TIMED = """
const done = arguments[arguments.length - 1];
const choose = (id, value, event) => {
  const field = document.getElementById(id);
  field.value = value;
  field.dispatchEvent(new Event(event, {bubbles: true}));
};
const rows = document.getElementById('rows'), begun = performance.now();
const watch = new MutationObserver(() => {
  watch.disconnect();
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - begun)));
});
watch.observe(rows, {childList: true, subtree: true});
%s;
"""


def in_browser(html: str) -> None:
    """Print how long the page takes to open in a headless Chromium, and to do what is asked."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1360,1000"):
        options.add_argument(flag)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        file.write_text(html, encoding="utf-8")
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            driver.get(file.as_uri())
            opened = "return performance.getEntriesByType('navigation')[0].loadEventEnd"
            print(f"{'opened, to the end of loading':<44} {driver.execute_script(opened):6.0f} ms")
            for what, code in _DONE:
                took = driver.execute_async_script(_TIMED % code)
                print(f"{what:<44} {took:6.0f} ms")
        finally:
            driver.quit()


def main() -> None:
    """Print seconds of each step, megabytes of the page, and milliseconds in a browser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=5000)
    parser.add_argument("--browser", action="store_true", help="open the page in Chromium as well")
    asked = parser.parse_args()
    print(describe())
    html = written(asked.candidates)
    if asked.browser:
        in_browser(html)


if __name__ == "__main__":
    main()
