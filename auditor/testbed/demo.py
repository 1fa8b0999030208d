"""Audit the testbed: three strategies, six scores, all candidates verified, truth known."""

from __future__ import annotations

from pathlib import Path

from auditor.audit.pipeline import run_audit
from auditor.runs.run import Run
from auditor.system.progress import NullProgress
from auditor.testbed.testbed import build_with_progress

_SAMPLES = {"tiny": 64, "small": 320}
_NEW_TOKENS = {"tiny": 128, "small": 256}


def run_demo(
    folder: str | Path = "demo",
    *,
    size: str = "small",
    samples: int | None = None,
    progress: NullProgress | None = None,
) -> Run:
    """Build the testbed in FOLDER/testbed and audit it into FOLDER/run.

    `samples` is the number per strategy; the default takes about a minute.
    """
    progress = progress or NullProgress()
    folder = Path(folder)
    bed = build_with_progress(folder / "testbed", size=size, progress=progress)
    samples = _SAMPLES[size] if samples is None else samples
    return run_audit(
        model=bed.target,
        references=bed.references,
        strategies=["top-n", "temperature", "internet"],
        prompts={"corpus": [str(bed.heldout)]},
        decoding={"max_new_tokens": _NEW_TOKENS[size]},
        samples=samples,
        corpus=[str(bed.corpus)],
        truth=str(bed.truth_file),
        out=str(folder / "run"),
        progress=progress,
    )
