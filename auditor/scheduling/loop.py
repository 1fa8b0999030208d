"""Run a schedule in the foreground, one audit at a time, until a signal ends the process."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from auditor.errors import AuditError
from auditor.gates.gated_audit import GatedAudit
from auditor.scheduling.cron import Cron
from auditor.scheduling.plan import Plan
from auditor.system.interrupts import EndSignal
from auditor.system.progress import NullProgress

# Maximum sleep in seconds, so that suspend and clock changes are noticed.
_LONGEST_WAIT = 60.0


class SchedulerLoop:
    """Runs a plan in this process.

    `run_due` runs what is due now and returns; `run_forever` blocks. Messages go to `log`,
    one line at a time. A failed run is reported, and the schedule continues.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        log: Callable[[str], None],
        show: Callable[[GatedAudit], None],
        progress: NullProgress | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        wait: Callable[[float], None] = time.sleep,
    ):
        self.plan, self.log, self.show, self.progress = plan, log, show, progress
        self.clock, self.wait, self.begun = clock, wait, clock()
        self.errors: list[AuditError] = []

    def run_due(self, *, since: datetime | None = None) -> int:
        """Run all that is due and return the number of runs; errors are kept in `errors`."""
        now = self.clock()
        if (n := self.plan.missed(now)) > 1:
            self.log(f"{n:,} scheduled times have passed since the last run; running once.")
        due = self.plan.due(now, since=since)
        for run_time in due:
            self._run(run_time)
        return len(due)

    def run_forever(self, cron: Cron) -> bool:
        """Run audits as they come due, until SIGTERM or SIGINT.

        Returns whether a run was interrupted; the next start resumes it.
        """
        stop = EndSignal()
        was_interrupted = False

        with stop.listening():
            # If nothing is due, the first run is at the next time of the cron line.
            if self.plan.due(self.clock(), since=self.begun):
                next_time = self.clock()
            else:
                next_time = cron.after(self.clock())
                self._log_next(cron)
            while not stop.is_received:
                seconds = (next_time - self.clock()).total_seconds()
                if seconds > 0:
                    with suppress(KeyboardInterrupt), stop.raising():
                        self.wait(min(_LONGEST_WAIT, seconds))
                    continue
                # Set before the run: times missed during it are made up once, after it.
                next_time = cron.after(self.clock())
                try:
                    with stop.raising():
                        self.run_due(since=self.begun)
                    self._log_next(cron)
                except KeyboardInterrupt:
                    was_interrupted = True
                except OSError as error:  # while reading the history; the schedule continues
                    self.log(f"auditor: {error.filename or 'a file'}: {error.strerror or error}.")
        return was_interrupted

    def _log_next(self, cron: Cron) -> None:
        self.log(f"Next run: {_shown(cron.after(self.clock()))}. Stop with Ctrl-C or SIGTERM.")

    def _run(self, run_time: datetime) -> None:
        self.log(f"Run of {_shown(run_time)}: {self.plan.config_at(run_time).out}")
        try:
            gated = self.plan.run(run_time, progress=self.progress)
            self.show(gated)
            gated.check()
        except AuditError as error:
            self.errors.append(error)
            self.log(f"auditor: {error}")


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M %Z}"
