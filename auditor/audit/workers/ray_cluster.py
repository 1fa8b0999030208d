"""Workers on a Ray cluster: one actor per GPU or, without GPUs, per node."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from auditor.audit.workers.tasks import Outcome, Settings, Task, WorkerDiedError
from auditor.errors import ConfigError, RunError, in_short
from auditor.system.import_path import forget_folder

_PATIENCE = 300.0  # seconds to wait for the cluster to start a worker


class RayWorker:
    """A `pool.Worker` in a Ray actor."""

    def __init__(self, actor: Any):
        self.actor = actor
        self.task: Task | None = None
        self.reference = actor.ready.remote()

    def give(self, task: Task) -> None:
        self.task = task
        self.reference = self.actor.do.remote(task)

    def receive(self) -> Outcome | None:
        import ray

        try:
            message = ray.get(self.reference)
        except ray.exceptions.RayError as error:
            raise WorkerDiedError(in_short(error)) from None
        self.task = None
        return message

    def interrupt(self) -> None:
        """Does nothing: the shard of an actor is started again."""

    def stop(self) -> None:
        import ray

        ray.kill(self.actor)


class RayTeam:
    """Workers of a cluster: `size`, or one per GPU (without GPUs, one per node).

    A worker that dies is not replaced while others are left, as its node may be gone; the others
    redo its shard.
    """

    replaces = False

    def __init__(self, address: str, size: int | None = None):
        ray = _ray()
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # for a cluster that it starts itself
        try:
            ray.init(
                address=address,
                log_to_driver=False,
                ignore_reinit_error=True,
                logging_level="error",
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            first = str(error).strip().splitlines()[0]
            raise RunError(
                f"--ray {address}: no Ray cluster responds ({first}). Start one with "
                "`ray start --head`, or give --ray local."
            ) from None
        nodes = [node for node in ray.nodes() if node["Alive"]]
        self.n_nodes = max(1, len(nodes))
        n_gpus = int(ray.cluster_resources().get("GPU", 0))
        self.size = size or n_gpus or self.n_nodes
        self.needs = {"num_gpus": 1, "num_cpus": 1} if n_gpus else {"num_cpus": 1}

    def sharing(self) -> int:
        return -(-self.size // self.n_nodes)

    def threads(self) -> int | None:
        """None: the cluster's nodes decide."""
        return None

    def start(self, settings: Settings) -> RayWorker:
        """Start one more worker; it waits for resources of the cluster."""
        ray = _ray()
        kind = ray.remote(_Actor).options(
            max_restarts=0, scheduling_strategy="SPREAD", **self.needs
        )
        return RayWorker(kind.remote(settings, os.getcwd()))

    def ready(self, workers: Sequence[RayWorker]) -> list[RayWorker]:
        ray = _ray()
        references = {worker.reference: worker for worker in workers}
        while True:
            done, _ = ray.wait(list(references), num_returns=1, timeout=_PATIENCE)
            if done:
                return [references[reference] for reference in done]
            if not any(worker.task for worker in workers):
                raise RunError(
                    f"The Ray cluster started no worker within {_PATIENCE:.0f} s. Lower --workers, "
                    "or add nodes. Finished work is kept."
                )

    def close(self) -> None:
        """Disconnect from the cluster."""
        _ray().shutdown()


class _Actor:
    """A ShardWorker on a node of the cluster."""

    def __init__(self, settings: Settings, folder: str):
        # Ray puts the working directory of the driver first in `sys.path`.
        forget_folder(folder)
        from auditor.audit.workers.shard_worker import ShardWorker

        self.worker = ShardWorker(settings)

    def ready(self) -> None:
        """Returns once the worker has started."""

    def do(self, task: Task) -> Outcome:
        return self.worker.do(task)


def _ray():
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "--ray needs the package ray, which is not installed. Install it with: pip install "
            "'.[ray]' in a checkout."
        ) from None
    return ray
