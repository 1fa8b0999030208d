"""The progress of an audit: how much is drawn, scored, shortlisted and verified."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from auditor.audit.partial import PARTIAL
from auditor.audit.shortlist import COUNTS, LISTS, SAMPLES
from auditor.audit.verification import MATCHES
from auditor.runs.run import Run
from reports.number_text import count


@dataclass(frozen=True)
class Status:
    """Samples requested, drawn and scored, and which later stages are done."""

    n_requested: int
    n_drawn: int
    n_scored: int
    is_listed: bool
    is_verified: bool

    @property
    def is_complete(self) -> bool:
        """Whether the report covers the whole audit."""
        return self.is_scored and self.is_listed and self.is_verified

    @property
    def is_scored(self) -> bool:
        """Whether every sample is drawn and scored."""
        return min(self.n_drawn, self.n_scored) >= self.n_requested

    def sentences(self, path: Path) -> list[str]:
        """What is missing, for the top of a report; empty if complete.

        >>> for sentence in Status(96, 80, 40, False, False).sentences(Path("runs/x")):
        ...     print(sentence)
        This audit is not complete: 80 of 96 samples are drawn and 40 scored; the shortlists are
        provisional; the training text was not searched.
        All figures cover this part only. To finish, run: auditor audit --resume runs/x
        """
        if self.is_complete:
            return []
        missing, resume = [], f"auditor audit --resume {path}"
        if not self.is_scored:
            missing.append(
                f"{self.n_drawn:,} of {self.n_requested:,} samples are drawn and "
                f"{self.n_scored:,} scored"
            )
        if not self.is_listed:
            missing.append("the shortlists are provisional")
        if not self.is_verified:
            missing.append("the training text was not searched")
        return [
            f"This audit is not complete: {'; '.join(missing)}.",
            f"All figures cover this part only. To finish, run: {resume}",
        ]


def status_of(run: Run) -> Status:
    """The progress of a run, by the intact files in its manifest."""
    config, shards = run.config, run.manifest.shards

    def rows(stage: str) -> int:
        names = [name for name in shards if name.startswith(stage) and run.has(name)]
        return sum(shards[name].rows for name in names)

    return Status(
        n_requested=config.samples * len(config.strategies),
        n_drawn=rows("samples/"),
        n_scored=rows("scores/"),
        is_listed=all(run.has(name) for name in (LISTS, COUNTS, SAMPLES)),
        is_verified=run.has(MATCHES) or not config.has_training_text,
    )


def kept_sentence(run: Run) -> str:
    """What an interrupted run has kept, and how to resume it."""
    status = status_of(run)
    n_partial = len(list((run.path / PARTIAL).glob("*.npz")))
    partial = f" and unfinished work on {count(n_partial, 'shard')}" if n_partial else ""
    return (
        f"Kept in {run.path}: {status.n_drawn:,} of {status.n_requested:,} samples drawn, "
        f"{status.n_scored:,} scored{partial}. To resume, run: auditor audit --resume {run.path}"
    )
