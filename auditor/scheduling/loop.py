"""A schedule run in the foreground: one audit at a time, until the process is asked to end."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from apscheduler.executors.debug import DebugExecutor
from apscheduler.schedulers.blocking import BlockingScheduler
from apscheduler.triggers.base import BaseTrigger

from auditor.errors import AuditError
from auditor.gates.gated_audit import Judged
from auditor.scheduling.cron import Cron
from auditor.scheduling.plan import Plan
from auditor.system.progress import Quiet

# A machine that slept, or whose clock was set, is noticed within so many seconds.
_LONGEST_WAIT = 60.0


class Foreground:
    """A plan at work in this process.

    `run_due` does what is due now and returns; `run_forever` blocks. Both say what they do, a line
    at a time, through `tell`. A run that fails is told, and the next occasion still comes.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        tell: Callable[[str], None],
        show: Callable[[Judged], None],
        progress: Quiet | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        wait: Callable[[float], None] = time.sleep,
    ):
        self.plan, self.tell, self.show, self.progress = plan, tell, show, progress
        self.clock, self.wait, self.begun = clock, wait, clock()
        self.errors: list[AuditError] = []

    def run_due(self, *, since: datetime | None = None) -> int:
        """Run every occasion that is due, and say how many; what fails is kept in `errors`."""
        now = self.clock()
        if (n := self.plan.missed(now)) > 1:
            self.tell(f"{n:,} occasions have passed since the last run; they are made up once.")
        due = self.plan.due(now, since=since)
        for occasion in due:
            self._run(occasion)
        return len(due)

    def run_forever(self, cron: Cron) -> bool:
        """Run occasions as they come, until SIGTERM or SIGINT.

        Parameters
        ----------
        cron : the plan's cron line

        Returns
        -------
        bool : whether it was ended in the middle of a run, which the next start goes on with.
        """
        stop = Stop()
        was_interrupted = False

        def job() -> None:
            nonlocal was_interrupted
            try:
                with stop.raising():
                    self.run_due(since=self.begun)
                self._tell_next(cron)
            except KeyboardInterrupt:
                was_interrupted = True
            except OSError as error:  # of reading what has run; the next occasion still comes
                self.tell(f"auditor: {error.filename or 'a file'}: {error.strerror or error}.")

        # Jobs run in this thread, so that a signal reaches the audit as Ctrl-C does, and one has
        # to end before the next begins. Late is better than never, and however late, once.
        options: dict[str, Any] = {"coalesce": True, "misfire_grace_time": None}
        if self.plan.due(self.clock(), since=self.begun):
            options["next_run_time"] = self.clock()
        else:
            self._tell_next(cron)
        scheduler = _Scheduler(stop, self.wait)
        scheduler.add_job(job, _CronTrigger(cron), **options)
        with stop.listening():
            scheduler.start()
        return was_interrupted

    def _tell_next(self, cron: Cron) -> None:
        self.tell(f"Next: {_shown(cron.after(self.clock()))}. Ctrl-C or SIGTERM ends it.")

    def _run(self, occasion: datetime) -> None:
        self.tell(f"Occasion {_shown(occasion)}: {self.plan.of_occasion(occasion).out}")
        try:
            judged = self.plan.run(occasion, progress=self.progress)
            self.show(judged)
            judged.check()
        except AuditError as error:
            self.errors.append(error)
            self.tell(f"auditor: {error}")


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M %Z}"


class _CronTrigger(BaseTrigger):
    """A cron line as APScheduler asks for it.

    APScheduler's own counts days of the week from Monday = 0, and where both kinds of day are
    limited it wants both at once; cron does neither.
    """

    def __init__(self, cron: Cron):
        self.cron = cron

    def get_next_fire_time(self, previous_fire_time, now):
        return self.cron.after(previous_fire_time or now)


class _Scheduler(BlockingScheduler):
    """APScheduler in this thread, which waits in pieces and can be asked to end at any moment."""

    def __init__(self, stop: Stop, wait: Callable[[float], None]):
        super().__init__(timezone=UTC, executors={"default": DebugExecutor()})
        self._stop, self._wait = stop, wait

    def _main_loop(self):
        try:
            while not self._stop.is_asked:
                seconds = self._process_jobs()
                with self._stop.raising():
                    self._wait(min(_LONGEST_WAIT, seconds or 0.0))
        except KeyboardInterrupt:  # while it waited
            pass
        finally:
            self.shutdown(wait=False)


class Stop:
    """Whether the process was asked to end, by SIGTERM or SIGINT."""

    def __init__(self) -> None:
        self.is_asked, self._may_raise = False, False

    def _asked(self, number: int, frame: object) -> None:
        self.is_asked = True
        if self._may_raise:
            self._may_raise = False  # a second signal must not cut the tidying up short
            raise KeyboardInterrupt

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Within it, a signal (one that came just before, too) raises KeyboardInterrupt."""
        try:
            self._may_raise = True
            if self.is_asked:
                raise KeyboardInterrupt
            yield
        finally:
            self._may_raise = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within it, signals come here; in a thread beside the main one there are none."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGTERM, signal.SIGINT)
        before = [signal.signal(number, self._asked) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)


@contextmanager
def interruptible() -> Iterator[None]:
    """Within it, SIGTERM means what Ctrl-C does: KeyboardInterrupt; what is written is whole."""
    stop = Stop()
    with stop.listening(), stop.raising():
        yield
