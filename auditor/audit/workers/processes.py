"""A worker as a local process: `python -P -m auditor.audit.workers.processes FD`."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path

from auditor.audit.workers.tasks import Outcome, Settings, Task, WorkerDiedError
from auditor.system.interrupts import interruptible

_PR_SET_PDEATHSIG = 1
_PATIENCE = 120.0  # seconds for a worker to keep what it has done


class ProcessWorker:
    """A `pool.Worker` in a process on this machine.

    It is started as a new interpreter, not forked: a fork would share the caller's threads and
    GPUs; and the caller's script must not run again.
    """

    def __init__(self, settings: Settings):
        self.pipe, inner = Pipe()
        environment = dict(os.environ)
        if settings.threads is not None:
            environment.setdefault("OMP_NUM_THREADS", str(settings.threads))
        root = str(Path(__file__).parents[3])
        environment["PYTHONPATH"] = os.pathsep.join(
            [root, *filter(None, [environment.get("PYTHONPATH")])]
        )
        module = "auditor.audit.workers.processes"
        command = [sys.executable, "-P", "-m", module, str(inner.fileno())]
        self.process = subprocess.Popen(  # noqa: S603
            command,
            pass_fds=[inner.fileno()],
            env=environment,
            stdin=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C goes to the parent process only
        )
        inner.close()
        self.task: Task | None = None
        self.is_ending = False
        self._send(settings)

    def give(self, task: Task) -> None:
        self.task = task
        self._send(task)

    def receive(self) -> Outcome | None:
        try:
            message = self.pipe.recv()
        except (EOFError, OSError):
            code = self.process.wait()
            name = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise WorkerDiedError(f"its process ended with {name}") from None
        self.task = None
        return message

    def interrupt(self) -> None:
        if self.task is not None:
            with suppress(OSError):
                self.process.terminate()
            self.is_ending = True

    def stop(self) -> None:
        if self.is_ending:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_PATIENCE)
        with suppress(OSError):
            self.process.kill()
        self.process.wait()
        self.pipe.close()

    def _send(self, what: object) -> None:
        with suppress(OSError):  # the process died: receive() reports it
            self.pipe.send(what)


class ProcessTeam:
    """`size` worker processes on this machine; one that dies is replaced."""

    replaces = True

    def __init__(self, size: int):
        self.size = size

    def sharing(self) -> int:
        return self.size

    def threads(self) -> int | None:
        """Threads per worker, so that together they use all cores; None = as configured."""
        if os.environ.get("OMP_NUM_THREADS"):
            return None
        return max(1, len(os.sched_getaffinity(0)) // self.size)

    def start(self, settings: Settings) -> ProcessWorker:
        return ProcessWorker(settings)

    def ready(self, workers: Sequence[ProcessWorker]) -> list[ProcessWorker]:
        pipes = {worker.pipe: worker for worker in workers}
        return [pipes[pipe] for pipe in wait(list(pipes))]  # type: ignore[index]

    def close(self) -> None:
        """Nothing to release."""


def main(descriptor: int) -> None:
    """The worker process: read the settings, then run tasks until the pipe closes."""
    with suppress(OSError, AttributeError):  # Linux: die with the parent process
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    pipe = Connection(descriptor)
    with suppress(EOFError, OSError, KeyboardInterrupt), interruptible():
        settings = pipe.recv()
        from auditor.audit.workers.shard_worker import ShardWorker

        worker = ShardWorker(settings)
        pipe.send(None)
        while True:
            pipe.send(worker.do(pipe.recv()))


if __name__ == "__main__":
    main(int(sys.argv[1]))
