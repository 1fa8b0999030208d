"""What holds lists at a false discovery rate: which controls were asked for, and what they need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

VERIFIED = ("verified",)  # controls that are the checked half of the run's own short lists
USUAL_FDR = 0.05


def with_usual(given: dict[str, Any]) -> dict[str, Any]:
    """Settings with the rate that controls have, and the controls that a rate has, by default."""
    has_text = bool(given.get("corpus")) or given.get("index") is not None
    if given.get("fdr") is not None and not given["controls"] and has_text:
        return {**given, "controls": VERIFIED}
    if given["controls"] and given.get("fdr") is None:
        return {**given, "fdr": USUAL_FDR}
    return given


def check_rate(fdr: float | None, controls: Sequence[str], *, has_text: bool) -> None:
    """Refuse a rate that nothing holds, and controls that nothing makes.

    Raises
    ------
    ValueError
        In one sentence.
    """
    if fdr is not None and not controls:
        raise ValueError(
            f"--fdr {fdr:g} needs controls to hold it; got none. Add --corpus PATH with training "
            "text, in which half of each list is checked, or --controls PATH with text of the "
            "same kind that the model was not trained on"
        )
    if VERIFIED[0] not in controls:
        return
    if len(controls) > 1:
        raise ValueError(
            f"--controls is held-out text or `verified`; got both ({', '.join(controls)}). Leave "
            "one out; a file of that name is ./verified"
        )
    if not has_text:
        raise ValueError(
            "--controls verified checks half of each list in the training text; got none. Add "
            "--corpus PATH or --index DIR"
        )
