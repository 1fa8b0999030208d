"""What goes to a worker and what comes back: plain data, so that it can cross machines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

SCRATCH = ".shard"  # how a worker's files end until they are whole


@dataclass(frozen=True)
class Settings:
    """What a worker is told when it starts.

    path : the run's folder, on a disk that every worker sees, or its URL
    config : the run's config, as plain data
    models : what the manifest knows of the models already, by name
    index : 0, 1, ...; on a machine of several GPUs each worker takes its own
    sharing : workers that share this worker's memory, itself included
    threads : of the worker's arithmetic; None leaves them to the machine
    """

    path: str
    config: dict[str, Any]
    models: dict[str, Any]
    index: int
    sharing: int
    threads: int | None = None


@dataclass(frozen=True)
class Task:
    """One shard's work at one stage; `plan` finds how many sequences fit into memory at once.

    first, last : the shard's sample numbers, from `first` to before `last`
    batch_size : sequences in flight, as the plan found
    needs : files that it reads, with what the manifest knows of them
    """

    stage: Literal["plan", "sample", "score"]
    strategy: str
    stem: str
    first: int
    last: int
    batch_size: int | None = None
    needs: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What became of a task.

    files : files that were written, with what the manifest is to know of them
    counts : what the stage adds up (`tokens`, `texts`)
    seconds : what the task took
    batch_size : sequences that fitted
    models, prompts : fingerprints of what was loaded
    notes : sentences for the user
    error : kind and sentence of an AuditError, if that is how it ended
    """

    task: Task
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    batch_size: int | None = None
    models: dict[str, Any] = field(default_factory=dict)
    prompts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    error: tuple[str, str] | None = None


class WorkerDiedError(Exception):
    """A worker is gone, and with it the shard that it was at; the message says how it ended."""


class SharesTasks(Protocol):
    """What stages need of the workers: `workers.pool.Workers` is one."""

    def share(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Have tasks done, in any order; each outcome as it comes."""

    def close(self) -> None:
        """End all workers."""
