"""A testbed: target and reference models, corpus and truth, built locally with known memorization.

The text is the documentation that CPython includes. Half of the documents are members (training
text), half are held out. Members are repeated 1, 2, 4, 8 or 16 times, as are canaries with random
secrets. So the correct result of an attack is known exactly.
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from auditor.errors import ConfigError
from auditor.runs.result_folder import read_json, refuse_other
from auditor.system.atomic_files import disk_trouble
from auditor.system.progress import NullProgress, Stage

if TYPE_CHECKING:
    from auditor.testbed.families import Family

REPEATS = (1, 2, 4, 8, 16)
_SETTINGS = "testbed.json"
_VERSION = 3  # of a testbed's content and training


@dataclass(frozen=True)
class Shape:
    """Layers, width, heads and training epochs of one model."""

    n_layer: int
    width: int
    n_head: int
    epochs: int


@dataclass(frozen=True)
class Size:
    """A testbed's size: text, vocabulary and models."""

    n_documents: int
    document_chars: int
    n_vocab: int
    context: int
    canaries_each: int
    secret_digits: int
    batch: int
    rate: float
    target: Shape
    small: Shape
    medium: Shape


SIZES = {
    "tiny": Size(
        n_documents=96,
        document_chars=420,
        n_vocab=512,
        context=192,
        canaries_each=1,
        secret_digits=10,
        batch=8,
        rate=4e-3,
        target=Shape(2, 96, 4, 12),
        small=Shape(1, 32, 2, 3),
        medium=Shape(1, 64, 2, 3),
    ),
    "small": Size(
        n_documents=800,
        document_chars=450,
        n_vocab=2048,
        context=180,
        canaries_each=4,
        secret_digits=40,
        batch=8,
        rate=3e-3,
        target=Shape(3, 128, 4, 7),
        small=Shape(1, 64, 2, 3),
        medium=Shape(2, 96, 4, 3),
    ),
}


@dataclass(frozen=True)
class Testbed:
    """A testbed's folder: three models, the training and held-out text, and the truth."""

    folder: Path

    @property
    def target(self) -> str:
        """Spec of the model under audit."""
        return f"testbed:{self.folder / 'target'}"

    @property
    def references(self) -> dict[str, str]:
        """Specs of the reference models, which were not trained on members."""
        return {name: f"testbed:{self.folder / name}" for name in ("small", "medium")}

    @property
    def corpus(self) -> Path:
        """The training text, every copy of every document: JSONL with id and text."""
        return self.folder / "corpus.jsonl"

    @property
    def heldout(self) -> Path:
        """Text of the same kind that no model was trained on."""
        return self.folder / "heldout.jsonl"

    @property
    def canary_prompts(self) -> Path:
        """The beginning of every canary, up to its secret; held-out canaries included."""
        return self.folder / "canary-prompts.jsonl"

    @property
    def truth_file(self) -> Path:
        """Membership, repeats and the canaries' secrets: Parquet."""
        return self.folder / "truth.parquet"

    def truth(self) -> pd.DataFrame:
        """doc_id, kind (text or canary), member, repeats (0 if none), secret, text."""
        return pd.read_parquet(self.truth_file)


def build_testbed(
    folder: str | Path,
    *,
    size: str = "small",
    seed: int = 0,
    family: str = "gpt2",
    progress: Callable[[str, int, int], None] | None = None,
) -> Testbed:
    """Build a testbed, or open an existing one with the same settings.

    Parameters
    ----------
    folder : path
    size : "tiny" (seconds; for tests) or "small" (minutes; for the demo)
    seed : int
        Determines members, repeats, canaries, weights and the order of training.
    family : "gpt2", "bert" (masked models) or "t5" (encoder-decoders)
    progress : callable(what, step, n_steps), optional

    Returns
    -------
    Testbed

    Raises
    ------
    ConfigError
        If the size or the family is unknown.
    RunError
        If the folder has other content.
    """
    if size not in SIZES:
        raise ConfigError(f"--size must be one of {', '.join(SIZES)}; got {size!r}. Choose one.")
    from auditor.testbed.families import FAMILIES

    if family not in FAMILIES:
        raise ConfigError(
            f"--family must be one of {', '.join(FAMILIES)}; got {family!r}. Choose one."
        )
    if not 0 <= seed < 2**63:
        raise ConfigError(f"--seed must be between 0 and 2^63 - 1; got {seed}. Change it.")
    folder = Path(folder)
    settings = {"version": _VERSION, "size": size, "seed": seed, "text": _text_digest()}
    settings |= {"family": family} if family != "gpt2" else {}
    stored = read_json(folder / _SETTINGS)
    if stored == settings:
        return Testbed(folder)
    refuse_other(folder, _SETTINGS, "a testbed", stored, settings)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        work = Path(scratch) / "testbed"
        work.mkdir(mode=0o700)
        _make(work, SIZES[size], seed, FAMILIES[family], progress or (lambda *_: None))
        (work / _SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")
        with disk_trouble(folder):
            if folder.exists():
                folder.rmdir()
            os.replace(work, folder)
    return Testbed(folder)


def build_with_progress(
    folder: str | Path,
    *,
    size: str = "small",
    seed: int = 0,
    family: str = "gpt2",
    progress: NullProgress,
) -> Testbed:
    """`build_testbed` with a progress bar for each model's training."""
    with ExitStack() as stack:
        bars: dict[str, Stage] = {}
        done: dict[str, int] = {}

        def report(what: str, step: int, n_steps: int) -> None:
            if what not in bars:
                stack.close()  # one bar at a time
                bars[what] = stack.enter_context(progress.stage(what, n_steps, "steps"))
            bars[what].advance(step - done.get(what, 0))
            done[what] = step

        return build_testbed(folder, size=size, seed=seed, family=family, progress=report)


def _make(work: Path, size: Size, seed: int, family: Family, progress) -> None:
    documents = cut(size.n_documents, size.document_chars)
    truth = plan(documents, size, seed)
    members = truth[truth["member"]]
    heldout = truth[~truth["member"] & (truth["kind"] == "text")]
    copies = [
        (f"{r.doc_id}.{n:02}", r.text) for r in members.itertuples() for n in range(r.repeats)
    ]
    _write_jsonl(work / "corpus.jsonl", copies)
    _write_jsonl(work / "heldout.jsonl", list(zip(heldout["doc_id"], heldout["text"], strict=True)))
    beginnings = [
        (r.doc_id, r.text[: r.text.index(r.secret)].rstrip())
        for r in truth[truth["kind"] == "canary"].itertuples()
    ]
    _write_jsonl(work / "canary-prompts.jsonl", beginnings)
    truth.to_parquet(work / "truth.parquet", index=False)
    tokenizer = family.tokenizer(documents, size.n_vocab)
    texts = [t for _, t in copies]
    _train(work, "target", size.target, size, family, tokenizer, texts, seed, progress)
    # References are trained on text of the same kind, but not on members.
    for n, name in enumerate(("small", "medium"), start=1):
        shape: Shape = getattr(size, name)
        texts = heldout["text"].tolist()
        _train(work, name, shape, size, family, tokenizer, texts, seed + n, progress)


def _train(
    work, name, shape: Shape, size: Size, family: Family, tokenizer, texts, seed, progress
) -> None:
    from auditor.finetuning.rows import Rows, encode_rows
    from auditor.finetuning.training import Recipe, train
    from auditor.models.tiny_gpt2 import save_model

    network = family.network(
        tokenizer,
        n_layer=shape.n_layer,
        width=shape.width,
        n_head=shape.n_head,
        context=size.context,
        seed=seed,
    )
    # Train on the first context of each document only; extraction starts there.
    rows = Rows.of([pieces[0] for pieces in encode_rows(tokenizer, texts, size.context)])
    # With only about a thousand steps, AdamW needs a lower beta2 than the default.
    recipe = Recipe(
        rate=size.rate,
        batch=size.batch,
        epochs=shape.epochs * family.epochs,
        seed=seed,
        beta2=0.98,
    )
    train(
        network,
        rows,
        recipe,
        collate=family.collate(tokenizer, seed),
        progress=lambda step, n: progress(f"training {name}", step, n),
    )
    save_model(network, tokenizer, work / name)


def cut(n_documents: int, chars: int) -> list[str]:
    """Documents of at most `chars` characters from Python's documentation, split between lines.

    Duplicates are removed, so that the numbers of repeats are exact.
    """
    topics = importlib.import_module("pydoc_data.topics").topics
    documents, seen = [], set()
    for name in sorted(topics):
        piece = ""
        for line in [*topics[name].splitlines(keepends=True), None]:
            if line is None or len(piece) + len(line) > chars:
                text = piece.strip("\n")
                if len(text) > chars // 2 and text not in seen:
                    seen.add(text)
                    documents.append(text)
                piece = ""
            piece += line or ""
    # Spread over all topics for any `n_documents`.
    keep = np.linspace(0, len(documents) - 1, min(n_documents, len(documents))).astype(int)
    return [documents[i] for i in keep]


def plan(documents: Sequence[str], size: Size, seed: int) -> pd.DataFrame:
    """The truth: membership, repeats and canaries, one row per document.

    Each number of repeats gets about the same share of the training text, so there are 16 times as
    many documents with 1 repeat as with 16.
    """
    rng = np.random.default_rng([seed, 1])
    n_members = len(documents) // 2
    shares = np.array([1 / r for r in REPEATS])
    counts = np.maximum(2, np.floor(n_members * shares / shares.sum())).astype(int)
    counts[0] = n_members - counts[1:].sum()
    repeats = np.concatenate(
        [np.repeat(REPEATS, counts), np.zeros(len(documents) - n_members, int)]
    )
    rows = [
        {"doc_id": f"doc-{i:04}", "kind": "text", "repeats": int(r), "secret": None, "text": text}
        for i, (text, r) in enumerate(zip(documents, rng.permutation(repeats), strict=True))
    ]
    # As many held-out canaries as trained ones.
    planned = [r for r in REPEATS for _ in range(size.canaries_each)]
    for i, r in enumerate([*planned, *[0] * len(planned)]):
        rows.append(_canary(i, r, size.secret_digits, rng))
    frame = pd.DataFrame(rows)
    frame.insert(2, "member", frame["repeats"] > 0)
    return frame


def _canary(i: int, repeats: int, n_digits: int, rng: np.random.Generator) -> dict:
    """A sentence with a random secret: groups of three digits, the last one longer if need be."""
    digits = "".join(map(str, rng.integers(0, 10, n_digits)))
    ends = [*range(3, n_digits - 3, 3), n_digits]
    secret = " ".join(digits[a:b] for a, b in itertools.pairwise([0, *ends]))
    text = f"Canary {i:02}. The code that opens the vault number {i:02} is {secret}, and no other."
    row = {"doc_id": f"canary-{i:02}", "kind": "canary", "repeats": repeats}
    return {**row, "secret": secret, "text": text}


def _write_jsonl(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    with path.open("w", encoding="utf-8") as sink:
        for doc_id, text in rows:
            sink.write(json.dumps({"id": doc_id, "text": text}, ensure_ascii=False) + "\n")


def _text_digest() -> str:
    """Digest of the text and sizes: Python's documentation differs between versions."""
    topics = importlib.import_module("pydoc_data.topics").topics
    parts = json.dumps([sorted(topics.items()), {k: asdict(v) for k, v in SIZES.items()}])
    return hashlib.sha256(parts.encode()).hexdigest()[:16]
