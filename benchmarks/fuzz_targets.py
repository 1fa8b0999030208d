"""What is fuzzed: every kind of file that the tool reads, each with valid files to start from.

A target reads one file's bytes as a user would have it read. Whatever they are, only an AuditError,
one sentence that a user can act on, may come out.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from auditor.errors import AuditError
from benchmarks.fuzz_corpora import as_parquet, corpora, saved
from benchmarks.fuzz_inputs import changed_json, changed_toml, edited, sealed
from benchmarks.fuzz_places import WORDS, Place, Target

# ------------------------------------------------------------------------------ what is asked
_AUDIT: dict[str, Any] = {
    "model": "gpt2",
    "references": {"small": "distilgpt2"},
    "strategies": ["top-n", "internet", "own"],
    "samples": 200,
    "seed": 3,
    "corpus": ["texts/"],
    "top": 20,
    "normalize": ["case"],
    "decoding": {"max_new_tokens": 32, "top_p": 0.9},
    "prompts": {"min_tokens": 2},
    "strategy": {
        "internet": {"corpus": ["x.txt"]},
        "own": {"preset": "pure", "top_k": 4, "decoding": {"temperature": 2.0}},
    },
}


def _read_audit(place: Place, raw: bytes) -> None:
    import tomllib

    from auditor.cli.options import config_from
    from auditor.config.audit import make_config
    from auditor.config.audit_file import to_toml

    config = config_from(str(place.file("audit.toml", raw)), {})
    if make_config(tomllib.loads(to_toml(config))).digest != config.digest:
        raise ValueError("the config is another one after it was written down")


def _read_keywords(place: Place, raw: bytes) -> None:
    from auditor.config.audit import make_config

    try:
        given = json.loads(raw)
    except ValueError:
        return  # keywords come from Python, which has no such tree
    make_config(given if isinstance(given, dict) else {"model": given})


def _read_few_shot(place: Place, raw: bytes) -> None:
    from auditor.config.audit import Prompts
    from auditor.sampling.few_shot import few_shot_texts

    table = place.file("table.csv", b"name,mail\na,b\nc,d\n")
    template = place.file("template.txt", b"{name}: {mail}\n")
    some = place.file("fuzzed", raw)
    for asked in ({"template": some, "examples": table}, {"template": template, "examples": some}):
        with suppress(AuditError):
            few_shot_texts(Prompts(kind="few-shot", **{k: str(v) for k, v in asked.items()}))


# ------------------------------------------------------------------------------ arrays
def _npy(array: Any) -> bytes:
    sink = io.BytesIO()
    np.save(sink, array)
    return sink.getvalue()


def _npys(place: Place) -> list[bytes]:
    archive = io.BytesIO()
    np.savez(archive, a=np.zeros(2))
    pickled = io.BytesIO()
    np.save(pickled, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    table = np.arange(60, dtype=np.uint16).reshape(6, 10)
    return [_npy(table), _npy(table.astype(np.int64)), archive.getvalue(), pickled.getvalue()]


def _read_npy(place: Place, raw: bytes) -> None:
    from auditor.extraction.benchmark_files import read_examples

    place.file("train_prefix.npy", raw)
    read_examples(place.folder)


# ------------------------------------------------------------------------------ folders of ours
def _frames(path: Path) -> None:
    """All that a reader can ask of a run."""
    from auditor.runs.run import load_run

    run = load_run(path)
    asked = (run.samples, run.scores, run.candidates, run.summary, run.matches, run.notes)
    for ask in (lambda: repr(run), lambda: run.config, *asked, run.undefined):
        with suppress(AuditError):
            ask()


def _read_run(place: Place, raw: bytes) -> None:
    from auditor.cli.runs import _row
    from auditor.gates.history import read_history

    with place.spoiled(place.run, {"manifest.json": raw}) as path:
        for entry in read_history(path.parent):
            json.dumps(_row(entry))
        _frames(path)


def _report_run(place: Place, raw: bytes) -> None:
    from auditor.audit.pipeline import run_audit
    from auditor.runs.run import load_run

    path = place.copy(place.run)
    (path / "manifest.json").write_bytes(raw)
    config = load_run(path).config.model_copy(update={"out": str(path), "model": str(place.model)})
    run_audit(config)


def _read_shard(place: Place, raw: bytes) -> None:
    """A shard of anything, which the manifest says is right."""
    import hashlib

    for name in ("samples/top-n-00000.parquet", "candidates.parquet"):
        manifest = json.loads((place.run / "manifest.json").read_text())
        digest = hashlib.sha256(raw).hexdigest()
        manifest["shards"][name] |= {"sha256": digest, "bytes": len(raw)}
        files = {name: raw, "manifest.json": json.dumps(manifest).encode()}
        with place.spoiled(place.run, files) as path:
            _frames(path)


def _json_of(made: Callable[[Place], Path]) -> Callable[[Place], Any]:
    return lambda place: json.loads(made(place).read_text(encoding="utf-8"))


_manifest = _json_of(lambda place: place.run / "manifest.json")


def _read_canaries(place: Place, raw: bytes) -> None:
    from auditor.canaries.canaries import load_canaries

    some = load_canaries(place.file("some-canaries.json", raw))
    some.frame()
    if not some.space_bits >= 0:
        raise ValueError("a space of no size")


def _seal_canaries(tree: Any) -> Any:
    import hashlib

    rest = {k: v for k, v in tree.items() if k not in ("sha256", "space_bits")}
    raw = json.dumps(rest, sort_keys=True, ensure_ascii=True).encode()
    return {**rest, "sha256": hashlib.sha256(raw).hexdigest()}


def _ask_index(path: Path) -> None:
    from auditor.matching.index import open_index

    index = open_index(path)
    for ask in (
        lambda: index.count("fox"),
        lambda: index.count_documents("the"),
        lambda: index.find("lazy dog"),
        lambda: index.longest("over the fox"),
        lambda: list(index),
        index.fingerprint,
    ):
        with suppress(AuditError):
            ask()


def _read_index(place: Place, raw: bytes) -> None:
    with place.spoiled(place.index, {"index.json": raw}) as path:
        _ask_index(path)


def _seal_index(tree: Any) -> Any:
    from auditor.matching.index.format import _seal

    rest = {k: v for k, v in tree.items() if k != "seal"}
    return {**rest, "seal": _seal(rest)}


def _index_shards(place: Place) -> list[bytes]:
    return [path.read_bytes() for path in sorted(place.index.glob("*.shard"))]


def _read_index_shard(place: Place, raw: bytes) -> None:
    name = next(place.index.glob("*.shard")).name
    with place.spoiled(place.index, {name: raw}) as path:
        _ask_index(path)


def _read_other_manifests(place: Place, raw: bytes) -> None:
    """The manifests of the other folders that a verb may be told to go on with."""
    from auditor.extraction.output import refuse_other_extraction
    from auditor.finetuning import checkpoints as finetuning
    from auditor.models.adapters import tuned_from

    path = place.folder / "other"
    path.mkdir(exist_ok=True)
    for name in ("extraction.json", "finetune.json", "adapter_config.json"):
        (path / name).write_bytes(raw)
    for ask in (
        lambda: refuse_other_extraction(path, {"model": "gpt2"}),
        lambda: finetuning.refuse_other(path, {"model": "gpt2"}),
        lambda: tuned_from(path),
    ):
        with suppress(AuditError):
            ask()


_OTHER = {"format": 1, "asked": {"model": "gpt2"}, "base": {"spec": "x", "fingerprint": "y"}}


# ------------------------------------------------------------------------------ models
def _read_parted(place: Place, raw: bytes) -> None:
    """A model whose weights are where its index says."""
    from auditor.models.loading import load_model

    path = place.copy(place.model)
    (path / "model.safetensors").rename(path / "part.safetensors")
    (path / "model.safetensors.index.json").write_bytes(raw)
    load_model(str(path), dtype="float32", device="cpu")


def _read_model(name: str, *, vocabulary_only: bool = False) -> Callable[[Place, bytes], None]:
    def read(place: Place, raw: bytes) -> None:
        from auditor.models.loading import load_model, load_vocabulary

        with place.spoiled(place.model, {name: raw}) as path, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if vocabulary_only:
                vocabulary = load_vocabulary(str(path))
                vocabulary.token_ends(vocabulary.encode(WORDS))
            else:
                model = load_model(str(path), dtype="float32", device="cpu")
                model.token_stats([[1, 2, 3]])

    return read


def _model_json(name: str) -> Callable[[Place], st.SearchStrategy[bytes]]:
    return lambda place: changed_json(json.loads((place.model / name).read_text(encoding="utf-8")))


def _weights(place: Place) -> list[bytes]:
    return [(place.model / "model.safetensors").read_bytes()]


def _weight_map(place: Place) -> st.SearchStrategy[bytes]:
    from safetensors import safe_open

    with safe_open(place.model / "model.safetensors", "pt") as weights:
        named = dict.fromkeys(weights.keys(), "part.safetensors")
    return changed_json({"metadata": {"total_size": 1}, "weight_map": named})


def targets() -> dict[str, Target]:
    """All targets by name."""
    found = [
        *corpora(),
        *saved(),
        Target("toml", 4, lambda place: changed_toml(_AUDIT), _read_audit),
        Target("keywords", 4, lambda place: changed_json(_AUDIT), _read_keywords),
        Target(
            "few-shot", 1, lambda place: edited(b"a,b\n1,2\n", b"{name} {mail}"), _read_few_shot
        ),
        Target("npy", 4, lambda place: edited(*_npys(place)), _read_npy, _npys),
        Target("run", 2, lambda place: changed_json(_manifest(place)), _read_run),
        Target("run-shard", 1, _run_shards, _read_shard),
        Target("run-report", 0.05, lambda place: changed_json(_manifest(place)), _report_run),
        Target("canaries", 1, _canary_files, _read_canaries),
        Target("index", 1, _index_files, _read_index),
        Target("index-shard", 1, lambda place: edited(*_index_shards(place)), _read_index_shard),
        Target("other", 1, lambda place: changed_json(_OTHER), _read_other_manifests),
        Target("config.json", 1, _model_json("config.json"), _read_model("config.json")),
        Target("safetensors", 1, lambda p: edited(*_weights(p)), _read_model("model.safetensors")),
        Target("weight-map", 0.5, _weight_map, _read_parted),
        Target(
            "tokenizer.json",
            1,
            _model_json("tokenizer.json"),
            _read_model("tokenizer.json", vocabulary_only=True),
        ),
        Target(
            "tokenizer_config.json",
            0.5,
            _model_json("tokenizer_config.json"),
            _read_model("tokenizer_config.json", vocabulary_only=True),
        ),
    ]
    return {target.name: target for target in found}


def _run_shards(place: Place) -> st.SearchStrategy[bytes]:
    other = as_parquet(pa.table({"sample_id": [1, None], "text": [["x"], []]}))
    names = ("samples/top-n-00000.parquet", "candidates.parquet")
    return edited(other, *((place.run / name).read_bytes() for name in names))


def _canary_files(place: Place) -> st.SearchStrategy[bytes]:
    whole = json.loads(place.canaries.read_text())
    return st.one_of(changed_json(whole), sealed(whole, _seal_canaries))


def _index_files(place: Place) -> st.SearchStrategy[bytes]:
    whole = json.loads((place.index / "index.json").read_text())
    return st.one_of(changed_json(whole), sealed(whole, _seal_index))
