"""Files of google-research/lm-extraction-benchmark: token arrays, and guesses as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auditor.errors import CorpusError, in_short
from auditor.system.atomic_files import write_atomically

HEADER = ("Example ID", "Suffix Guess")
_DTYPE = np.dtype(np.uint16)


@dataclass(frozen=True, eq=False)
class Examples:
    """Token arrays of one split, such as `train`; one row per example.

    prefix : uint16 array (n, p); 50 tokens in the benchmark
    suffix : uint16 array (n, m), or None if unpublished; 50 tokens in the benchmark
    preprefix : uint16 array (n, q), or None; the 100 tokens before the prefix
    vocabulary_sha256 : str or None
        `Vocabulary.fingerprint` of the tokenizer, read from SPLIT_tokenizer.txt. The benchmark
        itself has no such file; its arrays use GPT-2's tokenizer.
    """

    prefix: NDArray[np.uint16]
    suffix: NDArray[np.uint16] | None = None
    preprefix: NDArray[np.uint16] | None = None
    vocabulary_sha256: str | None = None

    def __len__(self) -> int:
        return len(self.prefix)


@dataclass(frozen=True)
class Guess:
    """A guessed suffix (token ids) for the example in row `example_id`."""

    example_id: int
    suffix: tuple[int, ...]


def read_examples(folder: str | Path, *, split: str = "train") -> Examples:
    """Read `SPLIT_prefix.npy` and, if present, `SPLIT_suffix.npy` and `SPLIT_preprefix.npy`.

    Raises
    ------
    CorpusError
        If the prefixes are missing, a file is not a two-dimensional uint16 array, or the arrays
        differ in their number of rows.
    """
    folder = Path(folder)
    names = {part: folder / f"{split}_{part}.npy" for part in ("prefix", "suffix", "preprefix")}
    if not names["prefix"].exists():
        raise CorpusError(
            f"{folder} has no {split}_prefix.npy. Give the benchmark's folder of arrays, as its "
            "load_dataset.py writes it."
        )
    found = {part: _load(path) for part, path in names.items() if path.exists()}
    n = len(found["prefix"])
    for part, array in found.items():
        if len(array) != n:
            raise CorpusError(
                f"{names[part]} must have as many rows as {split}_prefix.npy, {n:,}; got "
                f"{len(array):,}. Take both from the same dataset."
            )
    if n == 0:
        raise CorpusError(f"{names['prefix']} contains no examples. Give arrays with rows.")
    made_with = folder / f"{split}_tokenizer.txt"
    sha256 = None
    if made_with.is_file():
        sha256 = made_with.read_text(encoding="utf-8", errors="replace").strip()
    return Examples(found["prefix"], found.get("suffix"), found.get("preprefix"), sha256)


def _load(path: Path) -> NDArray[np.uint16]:
    try:
        # Unpickling an object array could run code.
        array = np.load(path, allow_pickle=False)
    except Exception as error:
        # numpy passes on whatever its header and archive parsers raise.
        raise CorpusError(
            f"{path} cannot be read as an array of numbers ({in_short(error)}). Write it with "
            "numpy.save."
        ) from None
    if not isinstance(array, np.ndarray):
        raise CorpusError(f"{path} is an archive of arrays, not one. Save it with numpy.save.")
    if array.dtype != _DTYPE or array.ndim != 2 or array.shape[1] == 0:
        raise CorpusError(
            f"{path} must be a table of uint16 (examples, tokens); got {array.dtype} of shape "
            f"{array.shape}. Save it with numpy.save(path, array.astype(numpy.uint16))."
        )
    return array


def write_guesses(path: str | Path, guesses: Iterable[Guess]) -> None:
    """Write guesses in the benchmark's format, most likely first: `8,"[3,6,9]"`.

    Raises
    ------
    RunError
        If the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for guess in guesses:
        writer.writerow([guess.example_id, json.dumps(list(guess.suffix), separators=(",", ":"))])
    write_atomically(Path(path), text.getvalue().encode("ascii"))
