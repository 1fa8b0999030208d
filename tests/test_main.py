"""`python -m auditor` and its subprocesses, in a folder with packages of the same names."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from auditor.gates.history import read_history
from auditor.runs.run import load_run
from auditor.system.import_path import forget_folder
from auditor.version import __version__
from tests.histories import small_audit

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "auditor"]


@pytest.fixture
def folder(tmp_path):
    """A working directory with its own `reports`, `attacks` and `numpy`."""
    for name in ("reports", "attacks", "numpy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise ImportError('the other {name}')")
    return tmp_path


def run(folder, command):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_command_starts_where_packages_have_the_same_names(folder):
    assert __version__ in run(folder, [*COMMAND, "--version"])


def test_an_audit_with_worker_processes_runs_there(folder):
    small_audit(folder)
    run(folder, [*COMMAND, "audit", "audit.toml", "--workers", "2"])
    assert load_run(folder / "runs" / "audit").complete


def test_what_a_service_and_a_cron_line_start_runs_there(folder):
    small_audit(folder)
    schedule = [*COMMAND, "schedule", "audit.toml", "--cron", "0 3 * * *", "--timezone", "UTC"]
    service = run(folder, [*schedule, "--print", "systemd"])
    (start,) = (line for line in service.splitlines() if line.startswith("ExecStart="))
    run(folder, shlex.split(start.removeprefix("ExecStart=")))
    assert [entry.state for entry in read_history(folder / "runs")] == ["complete"]
    line = run(folder, [*schedule, "--print", "cron"]).splitlines()[-1]
    run("/", ["sh", "-c", line.removeprefix("0 3 * * * ")])
    assert "Nothing is due" in (folder / "auditor-audit.log").read_text()


def test_the_folder_of_the_auditor_itself_stays_on_the_path(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(ROOT)])
    for entry in (str(tmp_path), str(ROOT), "/not/there"):
        forget_folder(entry)
    assert sys.path == [str(ROOT)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    told = subprocess.run([*COMMAND, "--version"], cwd=ROOT, env=environment, capture_output=True)
    assert told.returncode == 0
