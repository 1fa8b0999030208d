"""Audit the testbed: three strategies, six scores, all candidates verified, truth known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from auditor.audit.pipeline import run_audit
from auditor.models.loading import load_vocabulary
from auditor.runs.run import Run
from auditor.system.progress import NullProgress
from auditor.testbed.testbed import Testbed, build_with_progress

_SAMPLES = {"tiny": 64, "small": 4000}
_NEW_TOKENS = 96
_SECRET_TOKENS = {"tiny": 16, "small": 56}  # a canary from its secret on


def run_demo(
    folder: str | Path = "demo",
    *,
    size: str = "small",
    samples: int | None = None,
    progress: NullProgress | None = None,
) -> Run:
    """Build the testbed in FOLDER/testbed and audit it into FOLDER/run.

    `samples` is the number per strategy; by default 4,000, or 64 of the testbed "tiny".
    """
    progress = progress or NullProgress()
    folder = Path(folder)
    bed = build_with_progress(folder / "testbed", size=size, progress=progress)
    return run_audit(
        model=bed.target,
        references=bed.references,
        strategy=strategies(bed, _SECRET_TOKENS[size]),
        decoding={"max_new_tokens": _NEW_TOKENS},
        samples=_SAMPLES[size] if samples is None else samples,
        corpus=[str(bed.corpus)],
        truth=str(bed.truth_file),
        out=str(folder / "run"),
        progress=progress,
    )


def strategies(bed: Testbed, n_secret_tokens: int) -> dict[str, dict[str, Any]]:
    """The demo's strategies, as the `strategy` tables of an audit file.

    `canary-prompts` continues the sentences of the canaries, trained and held-out, up to their
    secret: whoever places canaries knows these. No other strategy uses training text.
    """
    vocabulary = load_vocabulary(bed.target)
    prompts = pd.read_json(bed.canary_prompts, lines=True)["text"]
    n_tokens = [len(ids) for ids in vocabulary.encode_all(list(prompts))]
    return {
        "top-n": {},
        # A small model does not recover from the decay of the paper, from 10 over 20 tokens.
        "temperature": {"temperature_start": 10.0, "temperature_steps": 2, "top_k": 40},
        "canary-prompts": {
            "preset": "internet",
            "corpus": [str(bed.canary_prompts)],
            "min_tokens": min(n_tokens),
            "max_tokens": max(n_tokens),
            "max_new_tokens": n_secret_tokens,
        },
    }
