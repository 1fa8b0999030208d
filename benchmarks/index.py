"""The corpus index: building, memory, and a count beside grep on the same file.

Text: lines of words drawn by Zipf's law, written to a temporary file as one document, so that
shards are cut and the cuts are searched, too. Questions: random stretches of 20 to 100 bytes of
the file, each asked once before it is timed.

    python -m benchmarks.index --megabytes 100
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from auditor.corpus.reading import read_corpus
from auditor.matching.index import find_matches_in_index, open_index
from auditor.matching.verbatim import Query, find_matches
from benchmarks.machine import print_table

_WORDS = 50_000


def write_text(path: Path, n_bytes: int, seed: int) -> None:
    """About n_bytes of lines of twelve words each."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 12, _WORDS)
    letters = rng.integers(97, 123, int(sizes.sum())).astype(np.uint8).tobytes().decode()
    ends = np.cumsum(sizes)
    words = np.array([letters[e - n : e] for n, e in zip(sizes, ends, strict=True)])
    with path.open("w") as stream:
        while stream.tell() < n_bytes:
            drawn = words[rng.zipf(1.3, (10_000, 12)) % _WORDS]
            stream.write("\n".join(map(" ".join, drawn)) + "\n")


def draw_questions(path: Path, n: int, seed: int) -> list[str]:
    """Stretches of 20 to 100 bytes from anywhere in the file, within a line as grep reads it."""
    rng = np.random.default_rng(seed)
    raw = path.read_bytes()
    found: list[str] = []
    while len(found) < n:
        begin, size = int(rng.integers(0, len(raw) - 100)), int(rng.integers(20, 101))
        text = raw[begin : begin + size].decode()
        if "\n" not in text:
            found.append(text)
    return found


def seconds_to_count(ask, questions: list[str]) -> list[float]:
    """Seconds of each question, asked once before."""
    spent = []
    for text in questions:
        ask(text)
    for text in questions:
        begun = time.perf_counter()
        ask(text)
        spent.append(time.perf_counter() - begun)
    return spent


def grep_seconds(path: Path, questions: list[str]) -> float:
    """Median seconds of `LC_ALL=C grep -c -F` for one question."""
    spent = []
    for text in questions:
        begun = time.perf_counter()
        command = ["grep", "-c", "-F", "-e", text, str(path)]
        subprocess.run(  # noqa: S603 - our own text in our own file
            command, env={**os.environ, "LC_ALL": "C"}, stdout=subprocess.DEVNULL, check=True
        )
        spent.append(time.perf_counter() - begun)
    return statistics.median(spent)


def build_apart(path: Path, out: Path, shard_bytes: int) -> tuple[float, float, float]:
    """Build in a process of its own: seconds, MiB before, MiB at most."""
    code = (
        "import resource, sys, time, pydivsufsort\n"
        "from auditor.matching.index import build_index\n"
        "from auditor.corpus.reading import read_corpus\n"
        "mib = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "before, begun = mib(), time.perf_counter()\n"
        "build_index(read_corpus([sys.argv[1]]), sys.argv[2], shard_bytes=int(sys.argv[3]))\n"
        "print(time.perf_counter() - begun, before, mib())\n"
    )
    command = [sys.executable, "-c", code, str(path), str(out), str(shard_bytes)]
    told = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    spent, before, most = map(float, told.stdout.split())
    return spent, before, most


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=10)
    parser.add_argument("--shard-bytes", type=int, default=256_000_000)
    parser.add_argument("--questions", type=int, default=2000)
    parser.add_argument("--queries", type=int, default=200, help="for the matcher")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / "text.txt", Path(folder) / "index"
        write_text(file, args.megabytes * 1_000_000, args.seed)
        size = file.stat().st_size
        spent, before, most = build_apart(file, out, args.shard_bytes)
        begun = time.perf_counter()
        index = open_index(out)
        opened = time.perf_counter() - begun
        shard = min(size, args.shard_bytes)
        print(f"{size / 1e6:.0f} MB of text, {len(index.shards)} shard(s), load {os.getloadavg()}")
        print(f"build      {size / 1e6 / spent:8.1f} MB/s, whole process, one core")
        print(
            f"memory     {most:8.0f} MiB at most, {before:.0f} before: "
            f"{(most - before) * 2**20 / shard:.1f} bytes a byte of a shard"
        )
        print(f"open       {opened * 1e3:8.2f} ms")
        questions = draw_questions(file, args.questions, args.seed)
        warm = seconds_to_count(index.count, questions)
        begun = time.perf_counter()
        first = open_index(out)
        first.count(questions[0])
        print(f"open+count {(time.perf_counter() - begun) * 1e3:8.2f} ms, blocks checked")
        absent = seconds_to_count(index.count, [q[:-1] + "#" for q in questions])
        some = questions[:: max(1, len(questions) // 5)]
        grep = grep_seconds(file, some)
        rows = [
            [name, f"{statistics.median(t) * 1e6:.1f}", f"{np.quantile(t, 0.99) * 1e6:.1f}"]
            for name, t in (("count, there", warm), ("count, not there", absent))
        ]
        print_table(
            ["warm", "median µs", "99 % µs"], [*rows, ["grep -c -F", f"{grep * 1e6:.0f}", "-"]]
        )
        _compare_matchers(file, index, args.queries, args.seed)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"asking: {peak:.0f} MiB at most, the file itself and the mapped index included")


def _compare_matchers(file: Path, index, n: int, seed: int) -> None:
    """The same queries by a pass over the file and by the index."""
    rng = np.random.default_rng(seed)
    raw = file.read_bytes()
    queries = []
    for i in range(n):
        at = int(rng.integers(0, len(raw) - 1000))
        text = raw[at : at + 1000].decode()
        if i % 2:
            text = " ".join(rng.permutation(text.split()))
        queries.append(Query(str(i), text, np.arange(4, len(text) + 1, 4)))
    begun = time.perf_counter()
    by_pass = find_matches(queries, read_corpus([file]))
    middle = time.perf_counter()
    by_index = find_matches_in_index(queries, index)
    end = time.perf_counter()
    same = "the same" if by_pass == by_index else "DIFFERENT"
    print(
        f"{n} queries of 1 kB: a pass {middle - begun:.2f} s, the index {end - middle:.3f} s; "
        f"{len(by_index)} matches, {same}"
    )


if __name__ == "__main__":
    main()
