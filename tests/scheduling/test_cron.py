"""Cron lines fire when cron would: against a slow reading of every minute, and by hand."""

from datetime import UTC, datetime, timedelta

import pytest

from auditor.errors import ConfigError
from auditor.scheduling.cron import parse_cron


def slow_firings(line, start, n_minutes):
    """Minutes at which a line of numbers, lists, ranges and steps fires, tried one by one."""
    limits = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
    sets = [wide(field, *limit) for field, limit in zip(line.split(), limits, strict=True)]
    star = [field.startswith("*") for field in line.split()]
    for i in range(n_minutes):
        at = start + timedelta(minutes=i)
        week = {at.isoweekday(), at.isoweekday() % 7} & sets[4]
        days = (at.day in sets[2], bool(week))
        on_day = all(days) if star[2] or star[4] else any(days)
        if at.minute in sets[0] and at.hour in sets[1] and at.month in sets[3] and on_day:
            yield at


def wide(field, least, most):
    out = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        low, high = (least, most) if span == "*" else (int(first), int(last or first))
        out |= set(range(low, high + 1, int(step or 1)))
    return out


@pytest.mark.parametrize(
    "line",
    [
        "0 3 * * 1",  # Mondays, not Tuesdays
        "0 3 * * 0",
        "0 3 * * 7",
        "*/20 * * * *",
        "5,35 9-17/4 * * 1-5",
        "30 6 1,15 * 5",  # the 1st, the 15th, and Fridays: either
        "0 0 */10 * *",
        "0 12 28 2 *",
    ],
)
def test_the_schedule_fires_when_cron_would(line):
    start = datetime(2026, 2, 20, tzinfo=UTC)
    expected = list(slow_firings(line, start, 60 * 24 * 40))
    cron, at, got = parse_cron(line, "UTC"), start - timedelta(minutes=1), []
    for _ in expected:
        at = cron.after(at)
        got.append(at)
    assert expected
    assert got == expected
    assert cron.latest(expected[-1]) == expected[-1]
    assert cron.latest(expected[-1] + timedelta(seconds=1)) == expected[-1]
    if len(expected) > 1:
        assert cron.latest(expected[-1] - timedelta(microseconds=1)) == expected[-2]


def test_a_zones_own_clock_is_read():
    cron = parse_cron("0 3 * * *", "Europe/Berlin")
    summer, winter = (datetime(2026, month, 10, tzinfo=UTC) for month in (7, 12))
    assert cron.after(summer) == summer + timedelta(hours=1)
    assert cron.after(winter) == winter + timedelta(hours=2)


def test_a_time_that_there_is_twice_fires_once_and_a_missing_one_fires_late():
    cron = parse_cron("30 2 * * *", "Europe/Berlin")
    back = cron.after(datetime(2026, 10, 24, 12, tzinfo=UTC))
    assert (back.day, cron.after(back).day) == (25, 26)
    forward = cron.after(datetime(2026, 3, 28, 12, tzinfo=UTC))
    assert (forward.day, forward.hour) == (29, 3)


def test_nicknames_are_lines():
    assert parse_cron("@weekly", "UTC").line == "0 0 * * 0"


@pytest.mark.parametrize(
    ("line", "zone", "says"),
    [
        ("0 3 * *", "UTC", r"five fields: minute.*got '0 3 \* \*', which has 4\. Write five"),
        ("0 0 3 * * 1", "UTC", "which has 6"),
        ("", "UTC", "which has 0"),
        ("61 3 * * 1", "UTC", "minute must be within 0–59; got '61'"),
        ("0 24 * * 1", "UTC", "hour must be within 0–23; got '24'"),
        ("0 3 0 * 1", "UTC", "day-of-month must be within 1–31; got '0'"),
        ("0 3 * 13 1", "UTC", "month must be within 1–12 or jan–dec; got '13'"),
        ("0 3 * * fun", "UTC", "day-of-week must be within 0–7 or sun–sat; got 'fun'"),
        ("*/0 3 * * 1", "UTC", "minute must be"),
        ("0 3 31 2 *", "UTC", "month 2 has no day 31"),
        ("@weakly", "UTC", "one of @hourly, .*@weekly.*got '@weakly'"),
        ("0 3 L * *", "UTC", "not supported"),
        ("0 3 * * 1#2", "UTC", "not supported"),
        ("0 3 * * 1", "Europe/Berln", "IANA name, such as Europe/Berlin.*got 'Europe/Berln'"),
        ("0 3 * * 1", "../x", "IANA name"),
    ],
)
def test_a_bad_line_is_a_one_line_error_with_its_field(line, zone, says):
    with pytest.raises(ConfigError, match=says) as raised:
        parse_cron(line, zone)
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == 2
