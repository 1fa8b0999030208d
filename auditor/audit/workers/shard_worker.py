"""A worker: loads models once and processes shards one by one; each file is written atomically."""

from __future__ import annotations

import copy
import os
import uuid
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from auditor.audit.workers.tasks import SCRATCH, Outcome, Settings, Task
from auditor.config.audit import AuditConfig, make_config
from auditor.errors import AuditError
from auditor.runs.manifest import Manifest
from auditor.runs.remote import is_url, open_remote
from auditor.runs.writer import RunWriter
from auditor.system.atomic_files import write_atomically
from auditor.system.interrupts import deferred
from auditor.system.offline import offline
from auditor.system.progress import NullProgress


class ShardFolder(RunWriter):
    """A run's folder in a worker: it writes shards, but never the manifest."""

    def put(self, path: Path, raw: bytes) -> None:
        """Write to a name unique to this worker, then rename.

        A worker that was given up for dead may still be writing the same shard.
        """
        scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}{SCRATCH}")
        write_atomically(scratch, raw)
        os.replace(scratch, path)
        self.send(path)

    def save(self) -> None:
        """Does nothing: the main process writes the manifest."""


class ShardWorker:
    """Processes shards of one run. `do(task)` returns errors that a user can cause."""

    def __init__(self, settings: Settings):
        from auditor.audit.context import Context

        if settings.threads is not None:
            import torch

            torch.set_num_threads(settings.threads)
        config = make_config({**settings.config, "device": _device(settings)})
        self.sharing = settings.sharing
        self.models = copy.deepcopy(settings.models)
        there = open_remote(settings.path) if is_url(settings.path) else None
        folder = Path(settings.path) if there is None else there.here
        self.context = Context(
            config, ShardFolder(folder, _manifest(config), there), NullProgress()
        )
        self.sources: dict[str, Any] = {}

    def do(self, task: Task) -> Outcome:
        """Run one task; an AuditError or OSError is returned in the outcome's `error`."""
        manifest = self.context.run.manifest = _manifest(self.context.config)
        manifest.shards, manifest.models = dict(task.needs), self.models
        if task.batch_size:
            manifest.batch_size[task.strategy] = task.batch_size
        try:
            with offline() if self.context.config.offline else nullcontext():
                counts = self._work(task)
        except AuditError as error:
            return Outcome(task, error=(type(error).__name__, str(error)))
        except OSError as error:
            message = f"{error.filename or 'A file'} cannot be read or written ({error.strerror}). "
            message += "Check it, and repeat the command to resume."
            return Outcome(task, error=("RunError", message))
        return Outcome(
            task,
            files={k: v for k, v in manifest.shards.items() if k not in task.needs},
            counts=counts,
            batch_size=manifest.batch_size.get(task.strategy),
            models=copy.deepcopy(self.models),
            prompts=manifest.prompts,
            notes=[note.sentence for note in manifest.notes],
        )

    def _work(self, task: Task) -> dict[str, int]:
        from auditor.audit.partial import forget
        from auditor.audit.sampling import Sampler
        from auditor.audit.scoring import score_shard

        if task.stage == "score":
            return {"texts": score_shard(self.context, task.stem)}
        strategy = next(s for s in self.context.config.strategies if s.name == task.strategy)
        sampler = Sampler(self.context, self.sources, sharing=self.sharing)
        if task.stage == "plan":
            sampler.plan(strategy, range(task.first, task.last))
            return {}
        if task.stage == "probe":
            speed = sampler.probe(strategy, range(task.first, task.last), task.n_tokens)
            return {} if speed is None else speed.as_counts()
        shard = sampler.draw(strategy, task.stem, range(task.first, task.last))
        with deferred():
            self.context.run.write(f"samples/{task.stem}.parquet", shard.table())
            forget(self.context.run, f"sample-{task.stem}")
        made = {"tokens": shard.n_tokens, "milliseconds": round(1000 * shard.seconds)}
        drawn = shard.drawn
        chains = {"proposed": drawn.proposed, "accepted": drawn.accepted}
        return {**made, **chains} if drawn.proposed else made


def _manifest(config: AuditConfig) -> Manifest:
    return Manifest(config=config, shards={}, stages={})


def _device(settings: Settings) -> str:
    """A GPU per worker if the machine has several and the config names none."""
    device = str(settings.config.get("device", "auto"))
    if device not in ("auto", "cuda") or settings.sharing < 2:
        return device
    import torch

    n = torch.cuda.device_count()
    return f"cuda:{settings.index % n}" if n > 1 else device
