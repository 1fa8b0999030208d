"""Messages to and from workers: plain data, so that they can cross machines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from auditor.runs.manifest import FileEntry, ModelEntry

SCRATCH = ".shard"  # suffix of a worker's partial files


@dataclass(frozen=True)
class Settings:
    """The settings that a worker starts with.

    path : the run's folder, on a disk that every worker sees, or its URL
    config : the run's config, as plain data
    models : the manifest's entries for models already loaded, by name
    index : 0, 1, ...; selects the GPU on a machine with several
    sharing : number of workers that share this worker's memory, itself included
    threads : CPU threads of the worker; None = the machine's default
    """

    path: str
    config: dict[str, Any]
    models: dict[str, ModelEntry]
    index: int
    sharing: int
    threads: int | None = None


@dataclass(frozen=True)
class Task:
    """One stage of one shard.

    `plan` measures the batch size that fits into memory, `probe` the speed.

    first, last : the shard's sample numbers, `last` excluded
    batch_size : batch size that the plan measured
    n_tokens : tokens that the run samples, for the probe
    needs : input files, with their entries in the manifest
    """

    stage: Literal["plan", "probe", "sample", "score"]
    strategy: str
    stem: str
    first: int
    last: int
    batch_size: int | None = None
    n_tokens: int = 0
    needs: dict[str, FileEntry] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """The result of a task.

    files : files written, with their entries for the manifest
    counts : tokens and milliseconds of a sampled shard, texts of a scored one, speed of a probe
    batch_size : batch size that fits
    models, prompts : fingerprints of what was loaded
    notes : sentences for the user
    error : kind and message of an AuditError, if the task failed with one
    """

    task: Task
    files: dict[str, FileEntry] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    batch_size: int | None = None
    models: dict[str, ModelEntry] = field(default_factory=dict)
    prompts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    error: tuple[str, str] | None = None


class WorkerDiedError(Exception):
    """A worker died, and its current shard is lost; the message says how."""


class SharesTasks(Protocol):
    """The interface that stages use; `workers.pool.Workers` implements it."""

    @property
    def size(self) -> int:
        """Number of workers."""

    def share(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Run tasks in any order; yields each outcome."""

    def close(self) -> None:
        """Stop all workers."""
