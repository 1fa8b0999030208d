"""Distribute shards to workers. If a worker dies, only its current shard is redone."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Protocol

from auditor import errors
from auditor.audit.workers.tasks import SCRATCH, Outcome, Settings, Task, WorkerDiedError
from auditor.config.audit import AuditConfig
from auditor.errors import RunError
from auditor.runs.writer import RunWriter
from auditor.system.offline import is_offline

_TRIES = 3


class Worker(Protocol):
    """The handle of a local or remote worker."""

    task: Task | None

    def give(self, task: Task) -> None:
        """Start a task."""

    def receive(self) -> Outcome | None:
        """The outcome of the task, or None when the worker is ready for its first task.

        Raises
        ------
        WorkerDiedError
        """

    def interrupt(self) -> None:
        """Ask a worker with a task to keep what it has done of it, and to end."""

    def stop(self) -> None:
        """End the worker: wait if it was interrupted, otherwise kill it."""


class Team(Protocol):
    """A source of workers. `replaces`: whether a worker that died is replaced at once."""

    size: int
    replaces: bool

    def sharing(self) -> int:
        """Number of workers that share a machine's memory."""

    def threads(self) -> int | None:
        """Threads per worker."""

    def start(self, settings: Settings) -> Any:
        """Start one more worker."""

    def ready(self, workers: Sequence[Any]) -> list[Any]:
        """Wait for the next messages; returns the workers that sent one."""

    def close(self) -> None:
        """Release the team's resources."""


class Workers:
    """The workers of one run. They start with the first tasks and stay until `close`."""

    def __init__(self, config: AuditConfig, run: RunWriter, team: Team | None = None):
        self.config, self.run = config, run
        self.team = team or make_team(config)
        self.workers: list[Worker] = []
        self.idle: list[Worker] = []  # ready, and without a task
        self.n_started = 0
        for stage in ("samples", "scores"):  # remove partial files of killed workers
            for scratch in (run.path / stage).glob(f".*{SCRATCH}*"):
                scratch.unlink(missing_ok=True)

    @property
    def size(self) -> int:
        return self.team.size

    def share(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Run tasks in any order; yields each outcome once its files are in the manifest.

        Raises
        ------
        AuditError
            The error of a worker; or a RunError if a shard failed three times.
        """
        todo, lost = deque(tasks), Counter[str]()
        while len(self.workers) < min(self.team.size, len(tasks)):
            self._start()
        n_open = len(tasks)
        while n_open:
            while todo and self.idle:
                self.idle.pop().give(todo.popleft())
            for worker in self.team.ready([w for w in self.workers if w not in self.idle]):
                task = worker.task
                try:
                    outcome = worker.receive()
                except WorkerDiedError as died:
                    self._drop(worker, task, died, lost)
                    if task is not None:
                        todo.appendleft(task)
                    continue
                self.idle.append(worker)
                if outcome is not None:
                    n_open -= 1
                    self._accept(outcome)
                    yield outcome
                    # Add the files after the caller's counts, so that both are saved together.
                    self.run.register(outcome.files)

    def close(self) -> None:
        """Stop all workers; one with a task keeps what it has done of it."""
        for worker in self.workers:
            worker.interrupt()
        for worker in self.workers:
            worker.stop()
        self.workers.clear()
        self.idle.clear()
        self.team.close()

    def _start(self) -> None:
        plain = {**self.config.model_dump(mode="json"), "workers": None, "ray": None}
        plain["offline"] = self.config.offline or is_offline()
        settings = Settings(
            path=self.run.remote.url if self.run.remote else str(self.run.path.resolve()),
            config=plain,
            models=self.run.manifest.models,
            index=self.n_started % self.team.size,
            sharing=self.team.sharing(),
            threads=self.team.threads(),
        )
        self.n_started += 1
        self.workers.append(self.team.start(settings))

    def _drop(self, worker: Worker, task: Task | None, died: Exception, lost: Counter) -> None:
        """Remove a dead worker; its shard is tried at most three times."""
        with suppress(Exception):  # the worker is already dead
            worker.stop()
        self.workers.remove(worker)
        what = "a worker's start" if task is None else f"{task.stage} of {task.stem}"
        lost[what] += 1
        if lost[what] >= _TRIES:
            raise RunError(
                f"{what} failed {_TRIES} times because its worker died ({died}). If memory ran "
                "out, lower --workers or --batch-size. Finished work is kept."
            )
        if self.team.replaces or not self.workers:
            self._start()

    def _accept(self, outcome: Outcome) -> None:
        """Raise a worker's error; check that all workers loaded the same files."""
        if outcome.error is not None:
            kind, sentence = outcome.error
            raise getattr(errors, kind)(sentence)
        manifest, strategy = self.run.manifest, outcome.task.strategy
        known = manifest.models
        for name, facts in outcome.models.items():
            entry = known.setdefault(name, facts)
            _same(entry.sha256, facts.sha256, f"model {name!r}")
            _same(entry.vocabulary_sha256, facts.vocabulary_sha256, f"tokenizer of model {name!r}")
            if facts.dtype not in ("", "float32"):  # record the lowest precision used
                entry.dtype = facts.dtype
        for name, digest in outcome.prompts.items():
            _same(manifest.prompts.setdefault(name, digest), digest, f"prompts of {name!r}")
        if outcome.batch_size is not None:
            sizes = manifest.batch_size
            sizes[strategy] = min(outcome.batch_size, sizes.get(strategy, outcome.batch_size))


def make_team(config: AuditConfig) -> Team:
    """The team that a config requests: local processes or actors of a Ray cluster."""
    if config.ray is not None:
        from auditor.audit.workers.ray_cluster import RayTeam

        return RayTeam(config.ray, config.workers)
    from auditor.audit.workers.processes import ProcessTeam

    return ProcessTeam(config.workers or 1)


def _same(first: str, now: str, what: str) -> None:
    if first != now:
        raise RunError(
            f"The {what} differs between workers (sha256 {first[:12]} and {now[:12]}). Give every "
            "machine the same files."
        )
