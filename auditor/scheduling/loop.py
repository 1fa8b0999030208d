"""A schedule run in the foreground: one audit at a time, until the process is asked to end."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from auditor.errors import AuditError
from auditor.gates.gated_audit import Judged
from auditor.scheduling.cron import Cron
from auditor.scheduling.plan import Plan
from auditor.system.progress import NullProgress

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
        progress: NullProgress | None = None,
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
        stop = _EndSignal()
        was_interrupted = False

        with stop.listening():
            # If nothing is due, the first run is at the next time that the cron line gives.
            if self.plan.due(self.clock(), since=self.begun):
                next_time = self.clock()
            else:
                next_time = cron.after(self.clock())
                self._tell_next(cron)
            while not stop.is_asked:
                seconds = (next_time - self.clock()).total_seconds()
                if seconds > 0:
                    with suppress(KeyboardInterrupt), stop.raising():
                        self.wait(min(_LONGEST_WAIT, seconds))
                    continue
                # Set before the run: times that pass during it are made up once, after it.
                next_time = cron.after(self.clock())
                try:
                    with stop.raising():
                        self.run_due(since=self.begun)
                    self._tell_next(cron)
                except KeyboardInterrupt:
                    was_interrupted = True
                except OSError as error:  # in reading the history; the schedule goes on
                    self.tell(f"auditor: {error.filename or 'a file'}: {error.strerror or error}.")
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


class _EndSignal:
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
    stop = _EndSignal()
    with stop.listening(), stop.raising():
        yield
