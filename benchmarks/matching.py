"""How fast samples are matched against a corpus, beside grep for a tenth of them.

    python -m benchmarks.matching --megabytes 2048 --queries 10000

Text: lines of made-up words drawn by Zipf's law, streamed to a temporary file, with stretches of
every other query planted in it, evenly. Needles: 1,000 characters of such words each, a token
every four. The matcher tells every overlap of 100 characters or 32 tokens, its documents and its
places; grep -c -F is given one line of 100 characters of each of 1,000 queries and counts lines.
Each method runs in a process of its own, on the same file, just written. The first megabytes of
it are indexed, and all queries looked up there both ways: matches, counts and places are compared.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from auditor.corpus.reading import read_corpus
from auditor.matching.index import build_index, find_matches_in_index, open_index
from auditor.matching.verbatim import Query, find_matches
from benchmarks.machine import print_table

NEEDLE_CHARS = 1000
CHARS_A_TOKEN = 4
VOCABULARY = 20_000
LINE_WORDS = 15
CHUNK_BYTES = 8 << 20
N_GREPPED = 1000


@dataclass(frozen=True)
class Measured:
    """What one run took, how much of that on no text but a line, and how much it found."""

    seconds: float
    set_up: float
    peak_mb: float
    n_found: int


def make_words(rng: np.random.Generator) -> list[str]:
    """Words of two to twelve letters, the frequent ones short."""
    letters = np.array(list("etaoinshrdlucmfwygpbvk"))
    sizes = 2 + rng.integers(0, 2 + np.arange(VOCABULARY) * 9 // VOCABULARY)
    return ["".join(letters[rng.integers(0, len(letters), size=n)]) for n in sizes]


def lines(words: list[str], n_bytes: int, rng: np.random.Generator) -> str:
    """About n_bytes of lines of words."""
    chances = 1 / np.arange(1, len(words) + 1)
    n = max(1, n_bytes // 4)
    drawn = np.searchsorted(np.cumsum(chances / chances.sum()), rng.random(n))
    chosen = np.array(words, dtype=object)[np.minimum(drawn, len(words) - 1)]
    rows = (" ".join(chosen[i : i + LINE_WORDS]) for i in range(0, n, LINE_WORDS))
    return "\n".join(rows)[:n_bytes] + "\n"


def make_queries(words: list[str], n: int, rng: np.random.Generator) -> list[str]:
    """Texts of NEEDLE_CHARS characters, each one line, so that grep can find them."""
    text = lines(words, (n + 1) * NEEDLE_CHARS * 2, rng).replace("\n", " ")
    return [text[i * NEEDLE_CHARS : (i + 1) * NEEDLE_CHARS] for i in range(n)]


def corpus_text(n_bytes: int, planted: list[str], seed: int) -> Iterator[str]:
    """The corpus, a chunk at a time; each planted stretch is a line of its own in some chunk."""
    rng = np.random.default_rng(seed)
    words = make_words(rng)
    n_chunks = max(1, -(-n_bytes // CHUNK_BYTES))
    for i in range(n_chunks):
        text = lines(words, min(CHUNK_BYTES, n_bytes - i * CHUNK_BYTES), rng)
        mine = planted[i::n_chunks]
        cuts = np.linspace(0, len(text), len(mine) + 1).astype(int)
        for stretch, begin, end in zip(mine, cuts, cuts[1:], strict=False):
            yield text[begin:end]
            yield "\n" + stretch + "\n"
        yield "" if mine else text


def as_queries(texts: list[str]) -> list[Query]:
    """The texts as the matcher wants them, a token every few characters."""
    ends = np.arange(CHARS_A_TOKEN, NEEDLE_CHARS + 1, CHARS_A_TOKEN)
    return [Query(str(i), text, ends) for i, text in enumerate(texts)]


def match(path: Path, queries: list[str], n_threads: int) -> Measured:
    """Run the matcher; meant for a process of its own, whose peak memory is told."""
    asked = as_queries(queries)
    # What is compiled once and kept is not counted.
    find_matches(asked[:1], read_corpus([__file__]), n_threads=1)
    begin = time.perf_counter()
    find_matches(asked, read_corpus([__file__]), n_threads=n_threads)
    ready = time.perf_counter()
    found = find_matches(asked, read_corpus([path]), n_threads=n_threads)
    seconds = time.perf_counter() - ready
    return Measured(seconds, ready - begin, _peak_mb(resource.RUSAGE_SELF), len(found))


def grep(path: Path, patterns: Path) -> Measured:
    """Count the lines that hold a pattern."""
    command = [shutil.which("grep") or "grep", "-c", "-F", "-f", str(patterns), str(path)]
    begin = time.perf_counter()
    done = subprocess.run(  # noqa: S603 - nothing of it comes from outside
        command, env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - begin
    return Measured(seconds, 0.0, _peak_mb(resource.RUSAGE_CHILDREN), int(done.stdout))


def compare_with_index(path: Path, queries: list[str], n_bytes: int) -> str:
    """Look for the queries in the file's beginning by a pass and by an index of it."""
    sample, out = path.with_name("sample.txt"), path.with_name("sample.index")
    with path.open("rb") as file:
        sample.write_bytes(file.read(n_bytes).rpartition(b"\n")[0] + b"\n")
    build_index(read_corpus([sample]), out)
    asked = as_queries(queries)
    by_pass = find_matches(asked, read_corpus([sample]))
    by_index = find_matches_in_index(asked, open_index(out))
    same = "the same matches, counts and places" if by_pass == by_index else "NOT THE SAME"
    return (
        f"the first {sample.stat().st_size / 1e6:,.0f} MB by a pass and by an index: "
        f"{len(by_pass):,} and {len(by_index):,} matches, {same}"
    )


def _peak_mb(who: int) -> float:
    peak = resource.getrusage(who).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def alone(function, *args) -> Measured:
    """Call a function in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def measure(folder: Path, n_bytes: int, n_queries: int, seed: int, n_indexed: int) -> None:
    """Make the text, run all methods on it, print the table."""
    words = make_words(np.random.default_rng(seed))
    queries = make_queries(words, n_queries, np.random.default_rng(seed + 1))
    # Cut differently, so that the lengths of overlaps differ: from 150 to 900 characters.
    planted = [text[50 : 200 + i % 751] for i, text in enumerate(queries[::2])]
    path, patterns = folder / "corpus.txt", folder / "patterns.txt"
    with path.open("w", encoding="utf-8") as file:
        file.writelines(corpus_text(n_bytes, planted, seed))
    grepped = [text[100:200] for text in queries[:N_GREPPED]]
    patterns.write_text("\n".join(grepped) + "\n", encoding="utf-8")
    size = path.stat().st_size / 1e6
    n_cores = os.cpu_count() or 1
    runs = {
        "find_matches, 1 thread": (n_queries, alone(match, path, queries, 1)),
        f"find_matches, {n_cores} threads": (n_queries, alone(match, path, queries, n_cores)),
        "grep -c -F -f": (len(grepped), alone(grep, path, patterns)),
    }
    rows = []
    for name, (n, m) in runs.items():
        speeds = f"{size / m.seconds:,.0f}", f"{size / (m.seconds - m.set_up):,.0f}"
        shown = f"{m.seconds:.2f}", f"{m.set_up:.2f}", *speeds, f"{m.peak_mb:,.0f}", m.n_found
        rows.append((name, f"{n:,}", f"{size:,.0f}", *shown))
    heads = ["method", "queries", "MB", "seconds", "set-up", "MB/s", "less set-up", "peak MB"]
    print_table([*heads, "found"], rows)
    print("set-up: what the same queries take against this program alone")
    print(f"{len(planted):,} stretches were planted; load {os.getloadavg()[0]:.1f}")
    if n_indexed:
        print(compare_with_index(path, queries, n_indexed))


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=64)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--indexed-megabytes", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    n_bytes, n_indexed = (n * 1_000_000 for n in (args.megabytes, args.indexed_megabytes))
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), n_bytes, args.queries, args.seed, n_indexed)


if __name__ == "__main__":
    main()
