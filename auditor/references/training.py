"""Train reference models on balanced random halves of a pool of texts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditor.config.fields import flag_of
from auditor.config.finetuning import FinetuneConfig
from auditor.config.keywords import with_keywords
from auditor.config.references import OF_TRAINING, ReferencesConfig
from auditor.corpus.reading import read_corpus
from auditor.errors import CorpusError, ModelError, RunError
from auditor.finetuning.checkpoints import MANIFEST as MODEL_MANIFEST
from auditor.finetuning.finetune import run_finetune
from auditor.models.loading import fingerprint, resolve
from auditor.runs import result_folder
from auditor.runs.result_folder import read_json, storable, write_json
from auditor.system.atomic_files import make_private, owned, write_atomically
from auditor.system.progress import NullProgress, progress_display

MANIFEST, POOL = "references.json", "pool.parquet"
_LEAST_TEXTS = 4


@dataclass(frozen=True, eq=False)
class References:
    """A folder of reference models.

    folder : path
    doc_id, text : lists of n str, the distinct texts of the pool
    is_in : bool array (n, N), whether a model was trained on a text
    base : spec of the model that all were trained from
    """

    folder: Path
    doc_id: list[str]
    text: list[str]
    is_in: NDArray[np.bool_]
    base: str

    def model(self, i: int) -> Path:
        """The folder of the i-th model."""
        return self.folder / "models" / f"{i:03}"

    def is_trained(self, i: int) -> bool:
        """Whether the i-th model is complete."""
        return bool((read_json(self.model(i) / MODEL_MANIFEST) or {}).get("complete"))


@with_keywords(ReferencesConfig, FinetuneConfig, only=OF_TRAINING)
def train_references(
    model: str,
    pool: str | Sequence[str],
    *,
    out: str | Path,
    progress: NullProgress | bool | None = True,
    **options: Any,
) -> References:
    """Train N models on balanced random halves of a pool; resume if interrupted.

    Parameters
    ----------
    model : spec of the model to start from
    pool : corpus spec, or several; repeats of a text are dropped
    out : folder for the pool, its halves and the models
    progress : a progress bar in a notebook and at a terminal; False or None = none
    options : the fields of ReferencesConfig, and of FinetuneConfig those of training

    Returns
    -------
    References

    Raises
    ------
    ConfigError, CorpusError, ModelError
        As `finetune`; CorpusError also for fewer than 4 distinct texts.
    RunError
        If `out` has anything but these references, or a worker fails.
    """
    training = {name: options.pop(name) for name in OF_TRAINING if name in options}
    specs = (pool,) if isinstance(pool, str) else tuple(map(str, pool))
    config = ReferencesConfig(model=model, pool=specs, **options)
    folder, shown = Path(out), progress_display(progress)
    FinetuneConfig(model=model, corpora=specs, **training)  # invalid options fail before reading
    found = _read_pool(config, shown)
    settings = {
        **config.model_dump(mode="json", exclude={"workers"}),
        "training": json.loads(json.dumps(training, default=str)),
        "base_fingerprint": fingerprint(resolve(model)),
        "texts": len(found),
    }
    there = read_json(folder / MANIFEST)
    result_folder.refuse_other(
        folder, MANIFEST, "a set of references", there and there.get("asked"), settings
    )
    with owned(folder):
        references = _begun(folder, config, found, settings)
        jobs = [i for i in range(config.models) if not references.is_trained(i)]
        with shown.stage("training references", config.models, "models") as bar:
            bar.advance(config.models - len(jobs))
            _train_all(references, jobs, config, training, bar, shown)
    return references


def open_references(folder: str | Path) -> References:
    """The references of a folder, whether or not all models are trained.

    Raises
    ------
    RunError
        If the folder has none.
    """
    path = Path(folder)
    manifest = read_json(path / MANIFEST)
    if manifest is None or not (path / POOL).is_file():
        raise RunError(
            f"{folder} has no reference models. Train them with: auditor references train --out "
            f"{folder}"
        )
    table = pd.read_parquet(path / POOL)
    is_in = table.drop(columns=["doc_id", "text"]).to_numpy(bool)
    return References(
        path, table["doc_id"].tolist(), table["text"].tolist(), is_in, manifest["asked"]["model"]
    )


def halves(n_texts: int, n_models: int, seed: int) -> NDArray[np.bool_]:
    """Which model is trained on which text: bool (n_texts, n_models).

    Models 2k and 2k + 1 share the texts between them.

    >>> halves(4, 4, 0).sum(axis=1).tolist()
    [2, 2, 2, 2]
    """
    rng = np.random.default_rng([seed, 11])
    first = [rng.permutation(n_texts) < n_texts // 2 for _ in range(n_models // 2)]
    return np.array([half for one in first for half in (one, ~one)]).T


def _read_pool(config: ReferencesConfig, progress: NullProgress) -> dict[str, str]:
    """Distinct texts, each with the id of its first copy."""
    corpus = read_corpus(list(config.pool), text_field=config.text_field)
    found: dict[str, str] = {}
    n = 0
    for document in corpus:
        n += 1
        if document.text.strip():
            found.setdefault(document.text, document.doc_id)
    if len(found) < _LEAST_TEXTS:
        raise CorpusError(
            f"--pool must hold at least {_LEAST_TEXTS} distinct texts; got {len(found)}. Add texts."
        )
    if n > len(found):
        progress.note(f"{n - len(found):,} of {n:,} texts of the pool repeat another or are empty.")
    return found


def _begun(
    folder: Path, config: ReferencesConfig, found: Mapping[str, str], settings: dict[str, Any]
) -> References:
    """Write the pool and the texts of each half, if they are not there."""
    text, doc_id = [storable(t) for t in found], [storable(d) for d in found.values()]
    is_in = halves(len(text), config.models, config.seed)
    references = References(folder, doc_id, text, is_in, config.model)
    if (folder / MANIFEST).is_file():
        known = open_references(folder)
        if known.text != text:
            raise RunError(
                f"The pool of {folder} has changed since its models were begun. Restore the texts, "
                "or choose another --out."
            )
        return references
    make_private(folder)
    columns = {f"in_{i:03}": is_in[:, i] for i in range(config.models)}
    pd.DataFrame({"doc_id": doc_id, "text": text, **columns}).to_parquet(folder / POOL, index=False)
    write_json(folder / MANIFEST, {"format": 1, "asked": settings})
    return references


def _train_all(references, jobs, config, training, bar, progress: NullProgress) -> None:
    def one(i: int) -> None:
        given = _job(references, i, config, training)
        if config.workers == 1:
            run_finetune(FinetuneConfig(**given), out=references.model(i), progress=None)
        else:
            _in_process(given, references.model(i))

    if config.workers == 1:
        for i in jobs:
            one(i)
            bar.advance(1)
        return
    with ThreadPoolExecutor(config.workers) as pool:
        waiting = [pool.submit(one, i) for i in jobs]
        try:
            for done in as_completed(waiting):
                done.result()
                bar.advance(1)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _job(references: References, i: int, config: ReferencesConfig, training) -> dict[str, Any]:
    """The fine-tuning of one model: trained on its half, with the other half held out."""
    folder = references.folder / "halves"
    folder.mkdir(exist_ok=True, mode=0o700)
    specs = []
    for side, name in ((True, "in"), (False, "out")):
        path = folder / f"{i:03}-{name}.jsonl"
        if not path.exists():
            rows = [
                t
                for t, own in zip(references.text, references.is_in[:, i], strict=True)
                if own == side
            ]
            write_atomically(path, "".join(json.dumps({"text": t}) + "\n" for t in rows).encode())
        specs.append(str(path))
    return {
        "model": config.model,
        "corpora": (specs[0],),
        "heldout": (specs[1],),
        "seed": config.seed + i,
        **training,
    }


def _in_process(given: dict[str, Any], out: Path) -> None:
    """Fine-tune in a process of its own; ModelError with its last line if it fails."""
    command = [sys.executable, "-P", "-m", "auditor", "finetune", "--out", str(out), "--quiet"]
    for name, value in given.items():
        flag = flag_of(name, FinetuneConfig.model_fields[name])
        for item in value if isinstance(value, tuple) else (value,):
            command += (
                [flag] if item is True else [] if item in (None, False) else [flag, str(item)]
            )
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ModelError(f"A worker could not train {out}: {lines[-1]}")
