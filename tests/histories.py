"""Handmade runs with known results, and an audit that takes a second."""

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa

from auditor.config.audit import make_config
from auditor.runs.manifest import MANIFEST
from auditor.runs.result_folder import write_json
from auditor.runs.run import load_run
from auditor.runs.writer import open_for_writing

TABLE = pa.table({"sample_id": ["a", "b"], "n_tokens": [1, 2]})
WORDS = "the quick brown fox jumps over the lazy dog and runs away from all of them"


def asked(**settings):
    """The config of a run that is never executed."""
    return make_config({"model": "gpt2", "samples": 4, **settings})


def passage(number, *, doc=None):
    """The row of a candidate with one verbatim passage of training text."""
    text = f"passage {number} " + WORDS
    return {
        "text": text,
        "verdict": "verbatim",
        "best_rank": 1,
        "match_start": 0,
        "match_end": len(text),
        "match_n_tokens": 40,
        "doc_id": doc or f"d{number}",
        "doc_offset": 0,
    }


def nothing(verdict="not found", **changes):
    """The row of a candidate without training text."""
    row = {**passage(0), "verdict": verdict, "text": "", "doc_id": None, "doc_offset": None}
    return {**row, "match_start": None, "match_end": None, "match_n_tokens": None, **changes}


def lists(*rows):
    """A summary from (strategy, score, n_verbatim, n_chosen) of each shortlist."""
    frame = pd.DataFrame(rows, columns=["strategy", "score", "n_verbatim", "n_chosen"])
    share = frame["n_verbatim"] / frame["n_chosen"]
    return frame.assign(precision=share, precision_low=share / 2, precision_high=share)


def planted_run(folder, candidates, summary=None, *, when="2026-11-24T03:00+00:00", **settings):
    """A complete run with these candidates, of the occasion `when`.

    `settings` are of the config, except `exposure` (a table) and `manifest` (further entries).
    """
    more = settings.pop("manifest", {})
    frames = {"exposure": settings.pop("exposure", None)}
    config = make_config({"model": "gpt2", "samples": 100, "corpus": ["texts"], **settings})
    frame = pd.DataFrame(candidates, columns=list(passage(0)) if not candidates else None)
    whole = ("best_rank", "match_start", "match_end", "match_n_tokens", "doc_offset")
    with open_for_writing(Path(folder), config) as run:
        run.write("candidates.parquet", frame.astype(dict.fromkeys(whole, "Int64")))
        run.write("summary.parquet", lists() if summary is None else summary)
        for name, some in frames.items():
            if some is not None:
                run.write(f"{name}.parquet", some)
        run.manifest.begun = run.manifest.occasion = when
        run.manifest.complete = True
        write_json(run.path / MANIFEST, run.manifest.model_dump() | more)
    return load_run(folder)


def small_audit(folder, *, gates="", **settings):
    """Write an audit file for a random model; `know` makes its samples its training text."""
    from tests.tiny import save_tiny_model

    if not (folder / "model").exists():
        save_tiny_model(folder / "model")
        (folder / "texts.txt").write_text(WORDS)
    given = {
        "model": str(folder / "model"),
        "corpus": [str(folder / "texts.txt")],
        "samples": 8,
        "shard_size": 4,
        "min_match_tokens": 10,
        "out": str(folder / "runs" / "audit"),
        **settings,
    }
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in given.items())
    file = folder / "audit.toml"
    file.write_text(f"{lines}\n[strategy.top-n]\nmax_new_tokens = 16\n\n{gates}")
    return file


def know(folder, texts):
    """Set the training text of a small audit."""
    (folder / "texts.txt").write_text("\n\n".join([WORDS, *texts]), errors="replace")
