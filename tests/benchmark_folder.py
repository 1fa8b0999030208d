"""Folders of lm-extraction-benchmark, written with numpy alone; and its guesses, read with csv."""

import csv
import json
from pathlib import Path

import numpy as np

from auditor.extraction.benchmark_files import Examples, Guess


def write_examples(folder: Path, examples: Examples, *, split: str = "train") -> None:
    folder.mkdir(exist_ok=True)
    for name in ("prefix", "suffix", "preprefix"):
        if (array := getattr(examples, name)) is not None:
            np.save(folder / f"{split}_{name}.npy", array)
    if examples.vocabulary_sha256 is not None:
        (folder / f"{split}_tokenizer.txt").write_text(f"{examples.vocabulary_sha256}\n")


def read_guesses(path: Path) -> list[Guess]:
    with path.open(newline="") as file:
        return [
            Guess(int(row["Example ID"]), tuple(json.loads(row["Suffix Guess"])))
            for row in csv.DictReader(file)
        ]
