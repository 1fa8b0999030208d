"""Measure the exposure of the audit's canaries."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from auditor.audit.context import TARGET, Context
from auditor.audit.shortlist import INEXACT
from auditor.canaries.canaries import Canaries, load_canaries
from auditor.config.audit import AuditConfig
from auditor.errors import TooLargeError

if TYPE_CHECKING:
    from auditor.models.language_model import LanguageModel

EXPOSURE = "exposure.parquet"


def check_canaries(config: AuditConfig) -> Canaries | None:
    """Load the canaries of an audit, so that an invalid manifest fails before sampling."""
    return None if config.canaries is None else load_canaries(config.canaries)


def expose(context: Context) -> None:
    """Write exposure.parquet: one row per canary and control, scored in float32."""
    run = context.run
    canaries = check_canaries(context.config)
    if canaries is None or run.has(EXPOSURE):
        return
    from auditor.canaries.exposure import measure_canaries

    with context.timed("canaries"):
        try:
            model = context.model(TARGET, dtype="float32")
        except TooLargeError:
            context.note(INEXACT)
            model = context.model(TARGET)
        # Keep secrets out of the run folder; the canary manifest has them.
        frame = measure_canaries(cast("LanguageModel", model), canaries, progress=context.progress)
        run.write(EXPOSURE, frame.drop(columns=["prefix", "secret"]))
