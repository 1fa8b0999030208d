"""Cron lines: when an audit is due."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from auditor.config.fields import cut
from auditor.errors import ConfigError

NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")


@dataclass(frozen=True)
class Cron:
    """A cron line in a timezone; made by `parse_cron`.

    line : five fields
    zone : tzinfo in which the line is read
    zone_name : its IANA name; "" = the machine's own
    """

    line: str
    zone: tzinfo
    zone_name: str = ""

    def after(self, moment: datetime) -> datetime:
        """The first time after a moment, in the line's zone.

        The Monday after Tuesday, 24 November 2026:

        >>> parse_cron("0 3 * * 1", "UTC").after(datetime(2026, 11, 24, tzinfo=UTC)).isoformat()
        '2026-11-30T03:00:00+00:00'
        """
        return next(_simulation(self.line, moment.astimezone(self.zone)))

    def latest(self, moment: datetime) -> datetime:
        """The last time at or before a moment, in the line's zone.

        >>> parse_cron("0 3 * * 1", "UTC").latest(datetime(2026, 11, 24, tzinfo=UTC)).isoformat()
        '2026-11-23T03:00:00+00:00'
        """
        just_after = moment.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)
        return next(_simulation(self.line, just_after.astimezone(self.zone), reverse=True))

    def calendars(self) -> list[str]:
        """The line as systemd calendar events; if there are two, it fires at either.

        >>> parse_cron("30 3 1,15 * 1-5", "UTC").calendars()
        ['*-*-1,15 03:30:00 UTC', 'Mon,Tue,Wed,Thu,Fri *-*-* 03:30:00 UTC']
        >>> parse_cron("*/15 * * * *", "UTC").calendars()
        ['*-*-* *:00,15,30,45:00 UTC']
        """
        cron = _simulation(self.line, datetime.now(UTC))
        months, days = _values(cron.months, 12), _values(cron.days, 31)
        weekdays = {int(day) % 7 for day in cron.weekdays}
        # Monday first, as systemd writes a week.
        names = ",".join(_DAYS[d % 7] for d in range(1, 8) if d % 7 in weekdays)
        week = f"{names} " if len(weekdays) < 7 else ""
        clock = f"{_values(cron.hours, 24, width=2)}:{_values(cron.minutes, 60, width=2)}:00"
        zone = f" {self.zone_name}" if self.zone_name else ""
        if cron.day_and:
            return [f"{week}*-{months}-{days} {clock}{zone}"]
        # Cron's rule: if both kinds of day are restricted, either fires.
        return [f"*-{months}-{days} {clock}{zone}", f"{week}*-{months}-* {clock}{zone}"]


def _values(values: set[int], n_all: int, *, width: int = 1) -> str:
    return "*" if len(values) == n_all else ",".join(f"{v:0{width}}" for v in sorted(values))


def parse_cron(line: str, timezone: str | None = None) -> Cron:
    """Parse a cron line: five fields, or a shortcut such as @daily.

    If both kinds of day are restricted, the line fires on either, as in cron. `timezone` is an IANA
    name, by default the machine's. When clocks change, a repeated time fires once, and a skipped
    time fires at the next valid time.

    >>> parse_cron("@daily", "UTC").line
    '0 0 * * *'
    """
    fields = NICKNAMES.get(line.strip().lower(), line).split()
    example = 'as in "0 3 * * 1" (Mondays at 3:00)'
    if line.strip().startswith("@") and len(fields) == 1:
        raise ConfigError(
            f"A cron shortcut must be one of {', '.join(NICKNAMES)}; got {cut(line)}. "
            f"Choose one, or write five fields, {example}."
        )
    if len(fields) != 5:
        raise ConfigError(
            "A cron line must have five fields: minute, hour, day of the month, month, day of the "
            f"week; got {cut(line)}, which has {len(fields)}. Write five, {example}."
        )
    zone = _zone(timezone)
    plain = " ".join(fields)
    trouble = _trouble(plain)
    if trouble:
        raise ConfigError(
            f"The cron line {cut(line)} is invalid: {trouble}. Correct it, {example}."
        )
    return Cron(plain, zone, timezone or "")


def _trouble(line: str) -> str:
    """What is wrong with five fields; "" if they are valid."""
    from cronsim import CronSimError

    names = ("minute", "hour", "day-of-month", "month", "day-of-week")
    ranges = ("0–59", "0–23", "1–31", "1–12 or jan–dec", "0–7 or sun–sat")
    try:
        cron = _simulation(line, datetime.now(UTC))
        extended = [v for v in (*cron.days, *cron.weekdays) if not isinstance(v, int) or v < 0]
        if extended:
            return "L, W and # are not supported"
        next(cron)
    except CronSimError as error:
        at = next((i for i, name in enumerate(names) if str(error).endswith(name)), None)
        if at is None:
            return str(error)
        got = line.split()[at]
        if at == 2 and got.isdigit() and 1 <= int(got) <= 31:  # 31 February
            return f"month {line.split()[3]} has no day {got}"
        return f"{names[at]} must be within {ranges[at]}; got {got!r}"
    except StopIteration:
        return "it matches no date"
    return ""


def _simulation(line: str, moment: datetime, *, reverse: bool = False):
    from cronsim import CronSim

    return CronSim(line, moment, reverse=reverse)


def _zone(name: str | None) -> tzinfo:
    from zoneinfo import ZoneInfo

    from tzlocal import get_localzone

    if name is None:
        return get_localzone()
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise ConfigError(
            f"timezone must be an IANA name, such as Europe/Berlin or UTC; got {cut(name)}. "
            "Correct it, or leave it out to use this machine's."
        ) from None
