"""How fast samples are matched against a corpus, beside a plain search for each.

Text: Python's own documentation and the sources of its standard library, repeated with their
lines shuffled until there is enough. Needles: half are stretches of that text, some with a word
changed; half are random letters. The naive search asks `bytes.find` for every needle, as a whole,
in a slice of the corpus; it finds neither parts of needles nor counts, and is the floor of work.

    python -m benchmarks.matching --megabytes 100 --needles 1800
"""

import argparse
import random
import resource
import string
import sysconfig
import time
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np

from auditor.corpora.formats import Document
from auditor.corpora.matching import Needle, find_matches

_NEEDLE_CHARS = 1000
_CHARS_A_TOKEN = 4


def make_corpus(n_bytes: int, seed: int) -> list[Document]:
    """Documents of Python's own text, about n_bytes in all; from the second round on shuffled."""
    texts = list(topics.values())
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        # Installed packages differ from machine to machine; the library itself does not.
        if "site-packages" not in path.parts and "test" not in path.parts:
            texts.append(path.read_text("utf-8", "replace"))
    rng = random.Random(seed)  # noqa: S311 - a benchmark needs no secrets
    documents: list[Document] = []
    done = 0
    while done < n_bytes:
        for text in texts:
            documents.append(Document(str(len(documents)), text, "python"))
            done += len(text)
            if done >= n_bytes:
                break
        lines = [line for text in texts for line in text.splitlines(keepends=True)]
        rng.shuffle(lines)
        sizes = [len(text.splitlines()) for text in texts]
        ends = np.cumsum(sizes).tolist()
        texts = ["".join(lines[end - n : end]) for n, end in zip(sizes, ends, strict=True)]
    return documents


def make_needles(corpus: list[Document], n_needles: int, seed: int) -> list[Needle]:
    """Half stretches of the corpus, each with a few characters replaced; half random letters."""
    rng = random.Random(seed)  # noqa: S311
    long = [document.text for document in corpus if len(document.text) > 2 * _NEEDLE_CHARS]
    needles = []
    for i in range(n_needles):
        if i % 2:
            text = "".join(rng.choices(string.ascii_lowercase + " ", k=_NEEDLE_CHARS))
        else:
            source = rng.choice(long)
            start = rng.randrange(len(source) - _NEEDLE_CHARS)
            at = rng.randrange(100, _NEEDLE_CHARS)
            text = source[start : start + at] + "@@@" + source[start + at : start + _NEEDLE_CHARS]
        ends = np.arange(_CHARS_A_TOKEN, len(text) + 1, _CHARS_A_TOKEN)
        needles.append(Needle(str(i), text, ends))
    return needles


def naive_seconds(needles: list[Needle], text: bytes) -> float:
    """Seconds to look for every needle, as a whole, with bytes.find."""
    begin = time.perf_counter()
    for needle in needles:
        text.find(needle.text.encode("utf-8", "replace"))
    return time.perf_counter() - begin


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--needles", type=int, default=1800)
    parser.add_argument("--naive-megabytes", type=int, default=2, help="the slice searched naively")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    corpus = make_corpus(args.megabytes * 1_000_000, args.seed)
    needles = make_needles(corpus, args.needles, args.seed)
    n_bytes = sum(len(document.text.encode("utf-8", "replace")) for document in corpus)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    begin = time.perf_counter()
    matches = find_matches(needles, corpus)
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    joined = b"\xff".join(document.text.encode("utf-8", "replace") for document in corpus)
    joined = joined[: args.naive_megabytes * 1_000_000]
    naive = naive_seconds(needles, joined)
    print(f"{len(needles):,} needles of {_NEEDLE_CHARS:,} characters, {len(matches):,} matches")
    print(f"{'method':<14}{'MB':>8}{'seconds':>10}{'MB/s':>10}{'MiB above the corpus':>24}")
    print(
        f"{'find_matches':<14}{n_bytes / 1e6:>8.1f}{seconds:>10.2f}{n_bytes / 1e6 / seconds:>10.2f}"
        f"{peak - before:>24.0f}"
    )
    size = len(joined) / 1e6
    print(f"{'bytes.find':<14}{size:>8.1f}{naive:>10.2f}{size / naive:>10.2f}{'-':>24}")


if __name__ == "__main__":
    main()
