"""Where fuzzing happens, and what a target is: tiny things in a folder, a reader of one file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hypothesis import strategies as st

WORDS = "the quick brown fox jumps over the lazy dog and runs away from all of them"
TEXTS = [f"{WORDS} number {i} \u00e9" for i in range(6)]


def jsonl() -> bytes:
    """The texts as JSONL, with ids."""
    return b"".join(json.dumps({"id": i, "text": t}).encode() + b"\n" for i, t in enumerate(TEXTS))


class Place:
    """A folder to write inputs into, with a tiny model, run, index and canaries, made once."""

    def __init__(self, folder: Path):
        self.folder = folder

    def file(self, name: str, raw: bytes) -> Path:
        """The input under a name."""
        path = self.folder / name
        path.write_bytes(raw)
        return path

    @cached_property
    def model(self) -> Path:
        """A random GPT-2 of one layer, 300 tokens, context 64."""
        from auditor.models.tiny_gpt2 import build_gpt2, build_tokenizer, save_model

        network = build_gpt2(n_vocab=300, n_layer=1, width=8, n_head=2, context=64, seed=0)
        save_model(network, build_tokenizer(TEXTS, 300), self.folder / "model")
        return self.folder / "model"

    @cached_property
    def run(self) -> Path:
        """A finished audit of the model."""
        from auditor.audit.pipeline import run_audit

        path = self.file("training.jsonl", jsonl())
        done = run_audit(
            model=str(self.model),
            samples=4,
            top=2,
            strategies=["top-n", "pure"],
            decoding={"max_new_tokens": 8},
            corpus=[str(path)],
            out=str(self.folder / "run"),
        )
        return done.path

    @cached_property
    def index(self) -> Path:
        """An index of a few texts."""
        from auditor.corpus.reading import read_corpus
        from auditor.matching.index import build_index

        path = self.file("indexed.jsonl", jsonl())
        return build_index(read_corpus([path]), self.folder / "index").path

    @cached_property
    def saved(self) -> Path:
        """A folder that `datasets` saved."""
        import datasets

        datasets.disable_progress_bars()
        datasets.Dataset.from_dict({"text": TEXTS}).save_to_disk(str(self.folder / "saved"))
        return self.folder / "saved"

    @cached_property
    def canaries(self) -> Path:
        """A manifest of two canaries."""
        from auditor.canaries.canaries import make_canaries

        made = make_canaries("The PIN of {n} is {pin}.", count=2, controls=2)
        return made.save(self.folder / "canaries.json")

    def copy(self, made: Path) -> Path:
        """A copy of a folder, to spoil."""
        spoiled = self.folder / f"spoiled-{made.name}"
        shutil.rmtree(spoiled, ignore_errors=True)
        return Path(shutil.copytree(made, spoiled))

    @contextmanager
    def spoiled(self, made: Path, files: dict[str, bytes]) -> Iterator[Path]:
        """A copy of a folder in which these files are others for a while; nothing writes to it."""
        copy = self.folder / "kept" / made.name
        if not copy.exists():
            shutil.copytree(made, copy)
        for name, raw in files.items():
            (copy / name).write_bytes(raw)
        try:
            yield copy
        finally:
            for name in files:
                shutil.copyfile(made / name, copy / name)


@dataclass(frozen=True)
class Target:
    """One kind of file.

    name : str
    share : float
        Its part of all inputs, relative to the others'.
    draw : Place -> hypothesis's strategy of bytes
    read : (Place, bytes) -> None
        May raise an AuditError, nothing else.
    seeds : valid files, for engines that change bytes by themselves
    """

    name: str
    share: float
    draw: Callable[[Place], st.SearchStrategy[bytes]]
    read: Callable[[Place, bytes], None]
    seeds: Callable[[Place], list[bytes]] | None = None
