"""The run times of a schedule: which are due, and the folder of each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from auditor.audit.pipeline import default_folder
from auditor.config.audit import AuditConfig, make_config
from auditor.errors import RunError
from auditor.gates.gated_audit import GatedAudit, run_gated_audit
from auditor.gates.history import Entry, read_history
from auditor.runs.collection import moment_of
from auditor.scheduling.cron import Cron
from auditor.system.atomic_files import disk_trouble, locked
from auditor.system.progress import NullProgress


@dataclass(frozen=True)
class Plan:
    """One audit that runs repeatedly, each time into a new folder.

    config : the audit; each run's folder has the run time as a suffix:
        runs/NAME-DIGEST-2026-11-24T0300Z, or OUT-2026-11-24T0300Z
    cron : when; None = on every call
    """

    config: AuditConfig
    cron: Cron | None = None

    @property
    def base(self) -> Path:
        """Common prefix of the folders."""
        return Path(self.config.out or default_folder(self.config))

    def config_at(self, run_time: datetime) -> AuditConfig:
        """The config of one run, with its folder and, if configured, a new seed."""
        folder = self.base.with_name(f"{self.base.name}-{_stamp(run_time)}")
        changes: dict[str, object] = {"out": str(folder)}
        if self.config.schedule.seed == "new":
            # At most one run per minute, so seeds are distinct.
            minutes = int(run_time.timestamp()) // 60
            changes["seed"] = (self.config.seed + minutes) % 2**63
        return make_config({**self.config.model_dump(), **changes})

    def done(self) -> list[Entry]:
        """The existing runs of this schedule, the earliest first."""
        runs = read_history(self.base.parent, nested=False)
        series = self.config.series
        return [r for r in runs if r.series == series and moment_of(r.scheduled) is not None]

    def due(self, now: datetime, *, since: datetime | None = None) -> list[datetime]:
        """The run times that are due at a moment, in order.

        The last run's time if that run was interrupted, then the latest time that has not run; one
        run makes up for all missed times. If nothing has run yet, times up to `since` are ignored.
        """
        runs = self.done()
        last = moment_of(runs[-1].scheduled) if runs else None
        unfinished = [last] if last is not None and runs[-1].state == "incomplete" else []
        if self.cron is None:
            return unfinished or [now.replace(second=0, microsecond=0)]
        latest = self.cron.latest(now)
        known = last if last is not None else since
        return unfinished + ([latest] if known is None or latest > known else [])

    def missed(self, now: datetime) -> int:
        """Number of times the cron line fired since the last run, up to now; at most 1,000."""
        runs = self.done()
        if self.cron is None or not runs:
            return 0
        n, at = 0, self.cron.after(moment_of(runs[-1].scheduled) or now)
        while n < 1000 and at <= now:
            n, at = n + 1, self.cron.after(at)
        return n

    def run(self, run_time: datetime, *, progress: NullProgress | None = None) -> GatedAudit:
        """Run or resume the audit of one run time; see `run_gated_audit`."""
        when = run_time.astimezone(UTC).isoformat(timespec="minutes")
        return run_gated_audit(self.config_at(run_time), occasion=when, progress=progress)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the schedule for this process; the kernel releases the lock if the process dies."""
        folder = self.base.with_name(f".{self.base.name}.schedule")
        with disk_trouble(folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with ExitStack() as held:
            try:
                held.enter_context(locked(folder))
            except RunError:
                raise RunError(
                    f"Another process is already running the schedule of {self.base}. Stop it, or "
                    "choose another --out."
                ) from None
            yield


def _stamp(run_time: datetime) -> str:
    """2026-11-24T0300Z: sorts by time, and is a valid file name everywhere."""
    return run_time.astimezone(UTC).strftime("%Y-%m-%dT%H%MZ")
