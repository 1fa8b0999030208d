"""Workers on a Ray cluster: one actor a GPU, or a node's share of cores where there are none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from auditor.audit.workers.tasks import Outcome, Settings, Task, WorkerDiedError
from auditor.errors import ConfigError, RunError
from auditor.system.import_path import forget_folder

_PATIENCE = 300.0  # seconds that a cluster may take to start or to finish anything at all


class RayWorker:
    """The handle of an actor."""

    def __init__(self, actor: Any):
        self.actor = actor
        self.task: Task | None = None
        self.reference = actor.ready.remote()

    def give(self, task: Task) -> None:
        """Begin a task."""
        self.task = task
        self.reference = self.actor.do.remote(task)

    def receive(self) -> Outcome | None:
        """What it has to say: an outcome, or None when it is ready for its first task.

        Raises
        ------
        WorkerDiedError
        """
        import ray

        try:
            told = ray.get(self.reference)
        except ray.exceptions.RayError as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise WorkerDiedError(first) from None
        self.task = None
        return told

    def stop(self) -> None:
        """End it at once."""
        import ray

        ray.kill(self.actor)


class RayTeam:
    """Workers of a cluster, as many as it has GPUs (without any: nodes), or as was asked for.

    One that dies is not replaced while others are left: its node's resources may be gone, and the
    others take its shard.
    """

    replaces = False

    def __init__(self, address: str, size: int | None = None):
        ray = _ray()
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # where it starts a cluster itself
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
                f"--ray {address}: no Ray cluster answers there ({first}). Start one with "
                "`ray start --head`, or give --ray local."
            ) from None
        nodes = [node for node in ray.nodes() if node["Alive"]]
        self.n_nodes = max(1, len(nodes))
        n_gpus = int(ray.cluster_resources().get("GPU", 0))
        self.size = size or n_gpus or self.n_nodes
        self.needs = {"num_gpus": 1, "num_cpus": 1} if n_gpus else {"num_cpus": 1}

    def sharing(self) -> int:
        """How many workers share a machine's memory."""
        return -(-self.size // self.n_nodes)

    def threads(self) -> int | None:
        """As the cluster's nodes are set up."""
        return None

    def start(self, settings: Settings) -> RayWorker:
        """One more worker; it waits for its place in the cluster."""
        ray = _ray()
        kind = ray.remote(_Actor).options(
            max_restarts=0, scheduling_strategy="SPREAD", **self.needs
        )
        return RayWorker(kind.remote(settings, os.getcwd()))

    def ready(self, workers: Sequence[RayWorker]) -> list[RayWorker]:
        """Those that have something to say; waits until there is one."""
        ray = _ray()
        references = {worker.reference: worker for worker in workers}
        while True:
            done, _ = ray.wait(list(references), num_returns=1, timeout=_PATIENCE)
            if done:
                return [references[reference] for reference in done]
            if not any(worker.task for worker in workers):
                raise RunError(
                    f"The Ray cluster gave no worker a place within {_PATIENCE:.0f} s. Ask for "
                    "fewer with --workers, or add nodes; what was finished before is kept."
                )

    def close(self) -> None:
        """Leave the cluster."""
        _ray().shutdown()


class _Actor:
    """A ShardWorker on a node of the cluster."""

    def __init__(self, settings: Settings, folder: str):
        # Ray puts the working directory of the process that started the run first in `sys.path`.
        forget_folder(folder)
        from auditor.audit.workers.shard_worker import ShardWorker

        self.worker = ShardWorker(settings)

    def ready(self) -> None:
        """Answers once the worker is there."""

    def do(self, task: Task) -> Outcome:
        """One task."""
        return self.worker.do(task)


def _ray():
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "--ray needs the package ray, which is not installed. Install it with: pip install "
            "'memorization-auditor[ray]'."
        ) from None
    return ray
