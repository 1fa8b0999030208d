"""Unit files for systemd, cron and GitHub are valid."""

import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from auditor.scheduling.cron import parse_cron
from auditor.scheduling.unit_files import unit

FOLDER = Path("/srv/100% audits")
COMMAND = [sys.executable, "-P", "-m", "auditor", "schedule", "my audit.toml", "--once"]


def made(kind, line="0 3 * * 1", zone="UTC", more=()):
    return unit(kind, "my audit.toml", parse_cron(line, zone), folder=FOLDER, more=more)


def test_a_cron_line_gives_the_shell_the_command_in_its_folder():
    zone, line = made("cron", zone="Europe/Berlin").splitlines()[-2:]
    assert zone == "CRON_TZ=Europe/Berlin"
    assert line.startswith("0 3 * * 1 ")
    # cron takes \% for a percent sign; the rest is the shell's.
    words = shlex.split(line.removeprefix("0 3 * * 1 ").replace("\\%", "%"))
    assert words[:3] == ["cd", str(FOLDER), "&&"]
    told = [*COMMAND, "--cron", "0 3 * * 1", "--timezone", "Europe/Berlin"]
    assert words[3:] == [*told, ">>", "auditor-my-audit.log", "2>&1"]


def test_systemd_gets_the_command_and_makes_up_for_missed_runs():
    text = made("systemd")
    assert "WorkingDirectory=/srv/100%% audits" in text
    assert "Persistent=true" in text
    service, timer = text.partition("# ---- auditor-my-audit.timer\n")[::2]
    assert "OnCalendar=Mon *-*-* 03:00:00 UTC\n" in timer
    (start,) = (line for line in service.splitlines() if line.startswith("ExecStart="))
    words = shlex.split(start.removeprefix("ExecStart="))
    assert words == [*COMMAND, "--cron", "0 3 * * 1", "--timezone", "UTC"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="NOT TESTED: no systemd here")
@pytest.mark.parametrize("line", ["0 3 * * 1", "*/20 8-18 * 1,7 *", "30 6 1,15 * 5", "0 0 * * 0"])
def test_systemd_reads_the_same_times_as_cron(line):
    cron = parse_cron(line, "UTC")
    nexts = []
    for event in cron.calendars():
        command = ["systemd-analyze", "calendar", "--base-time=2026-02-20 00:00:00 UTC", event]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        (elapse,) = (row for row in told.splitlines() if "Next elapse" in row)
        nexts.append(datetime.strptime(elapse.split(": ")[1].strip(), "%a %Y-%m-%d %H:%M:%S %Z"))
    assert min(nexts).replace(tzinfo=UTC) == cron.after(datetime(2026, 2, 20, tzinfo=UTC))


def test_a_workflow_is_yaml_that_runs_the_command_in_utc_and_keeps_the_history():
    text = made("github-actions", zone="Europe/Berlin", more=("--seed", "new"))
    flow = yaml.safe_load(text)
    # YAML 1.1 reads the key `on` as true; GitHub does not.
    assert flow[True]["schedule"] == [{"cron": "0 3 * * 1"}]
    steps = flow["jobs"]["audit"]["steps"]
    (run,) = (s["run"] for s in steps if s.get("run", "").startswith("auditor"))
    told = ["schedule", "my audit.toml", "--once", "--cron", "0 3 * * 1", "--seed", "new"]
    assert shlex.split(run) == ["auditor", *told, "--timezone", "UTC"]
    kept = [s for s in steps if "cache/save" in s.get("uses", "")]
    assert [s["if"] for s in kept] == ["always()"]
    assert "written for Europe/Berlin" in text
    assert "written for" not in made("github-actions")
