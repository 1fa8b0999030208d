"""Schedules: folders, due times, consecutive runs, and restarts."""

import json
import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from auditor.config.audit import make_config
from auditor.config.audit_file import load_toml
from auditor.errors import RunError
from auditor.gates.history import read_history
from auditor.runs.run import load_run
from auditor.scheduling.cron import parse_cron
from auditor.scheduling.loop import SchedulerLoop
from auditor.scheduling.plan import Plan
from auditor.system.atomic_files import write_atomically
from tests.histories import know, nothing, planted_run, small_audit
from tests.tiny import command

MONDAY = datetime(2026, 11, 23, 3, tzinfo=UTC)
WEEK = timedelta(days=7)
CRON = ("--cron", "0 3 * * 1", "--timezone", "UTC")


def plan(out, *, cron="0 3 * * 1", **settings):
    config = make_config({"model": "gpt2", "samples": 100, "out": str(out), **settings})
    return Plan(config, parse_cron(cron, "UTC") if cron else None)


def ran(out, run_time, **settings):
    """A finished run of the plan at a run time."""
    folder = plan(out).config_at(run_time).out
    return planted_run(folder, [nothing()], corpus=[], when=run_time.isoformat(), **settings)


# ------------------------------------------------------------------------- what is due
def test_each_scheduled_run_has_its_own_folder(tmp_path):
    one = plan(tmp_path / "runs" / "x").config_at(MONDAY)
    assert one.out == str(tmp_path / "runs" / "x-2026-11-23T0300Z")
    alone = make_config({"model": "gpt2"})
    folder = Plan(alone).config_at(MONDAY).out
    assert folder == f"runs/gpt2-{alone.digest}-2026-11-23T0300Z"


def test_the_seed_is_the_same_unless_each_run_is_to_have_a_new_one(tmp_path):
    same, new = (plan(tmp_path / "x", schedule={"seed": seed}) for seed in ("same", "new"))
    assert {same.config_at(MONDAY + i * WEEK).seed for i in range(3)} == {0}
    assert len({new.config_at(MONDAY + i * WEEK).seed for i in range(3)}) == 3
    assert new.config_at(MONDAY) == new.config_at(MONDAY)
    assert new.config_at(MONDAY).series == new.config.series


def test_without_runs_the_last_scheduled_time_is_due_or_the_next_awaited(tmp_path):
    now = MONDAY + timedelta(days=2)
    assert plan(tmp_path / "x").due(now) == [MONDAY]
    assert plan(tmp_path / "x").due(now, since=now) == []
    assert plan(tmp_path / "x").due(now + WEEK, since=now) == [MONDAY + WEEK]


def test_missed_runs_are_caught_up_once(tmp_path):
    ran(tmp_path / "x", MONDAY)
    later = plan(tmp_path / "x")
    assert later.due(MONDAY + timedelta(days=6)) == []
    assert later.due(MONDAY + 3 * WEEK + timedelta(hours=1)) == [MONDAY + 3 * WEEK]
    assert later.missed(MONDAY + 3 * WEEK) == 3


def test_a_stopped_run_is_resumed_unless_a_later_one_was_started(tmp_path):
    ran(tmp_path / "x", MONDAY, manifest={"complete": False})
    later = plan(tmp_path / "x")
    assert later.due(MONDAY + timedelta(hours=5)) == [MONDAY]
    assert later.due(MONDAY + WEEK) == [MONDAY, MONDAY + WEEK]
    ran(tmp_path / "x", MONDAY + WEEK)
    assert later.due(MONDAY + WEEK + timedelta(hours=5)) == []


def test_without_a_cron_line_every_call_is_a_run_unless_one_was_stopped(tmp_path):
    always = plan(tmp_path / "x", cron=None)
    now = MONDAY + timedelta(minutes=7, seconds=8, microseconds=9)
    assert always.due(now) == [MONDAY + timedelta(minutes=7)]
    ran(tmp_path / "x", MONDAY, manifest={"complete": False})
    assert always.due(now) == [MONDAY]


def test_runs_of_another_audit_are_ignored(tmp_path):
    ran(tmp_path / "x", MONDAY, samples=99)
    assert plan(tmp_path / "x").due(MONDAY) == [MONDAY]


def test_one_process_runs_a_schedule_and_a_dead_one_keeps_no_lock(tmp_path):
    mine = plan(tmp_path / "x")
    holder = (
        "import sys, time; from auditor.config.audit import make_config\n"
        "from auditor.scheduling.plan import Plan\n"
        f"config = make_config({{'model': 'gpt2', 'samples': 100, 'out': {str(mine.base)!r}}})\n"
        "with Plan(config).locked():\n    print('held', flush=True); sys.stdin.read()\n"
    )
    args = [sys.executable, "-c", holder]
    with subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        taken = pytest.raises(
            RunError, match=r"Another process is already running the schedule of .*x"
        )
        with taken, mine.locked():
            pass
        other.kill()
        other.wait()
        with mine.locked():
            pass


# ------------------------------------------------------------------- in the foreground
class Clock:
    """A clock that waiting moves; after `n_waits` the process is asked to end."""

    def __init__(self, now, n_waits):
        self.now, self.left = now, n_waits

    def __call__(self):
        return self.now

    def wait(self, seconds):
        assert 0 <= seconds <= 60
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGTERM)
        self.now += timedelta(seconds=max(seconds, 1e-6))


def at_work(plan, clock):
    told, shown = [], []
    return SchedulerLoop(plan, log=told.append, show=shown.append, clock=clock, wait=clock.wait), (
        told,
        shown,
    )


GATES = '[gates]\nmax_verified = 8\nno_new_passages_since = "last"\n'


def test_three_runs_in_a_row_and_what_changed_between_them(tmp_path):
    """Every 2 minutes; between the runs the training text grows, then shrinks."""
    file = small_audit(tmp_path, gates=GATES)
    mine = Plan(make_config(load_toml(file)), parse_cron("*/2 * * * *", "UTC"))
    clock = Clock(MONDAY - timedelta(seconds=30), 5)
    work, (told, shown) = at_work(mine, clock)

    def show(judged):
        shown.append(judged)
        texts = judged.run.samples(["text"])["text"].tolist()
        know(tmp_path, [texts[:3], texts[2:3]][len(shown) - 1 if len(shown) < 3 else 1])

    work.show = show
    before = signal.getsignal(signal.SIGTERM)
    assert work.run_forever(mine.cron) is False
    assert signal.getsignal(signal.SIGTERM) == before
    runs = read_history(tmp_path / "runs")
    stamps = ["2026-11-23T0300Z", "2026-11-23T0302Z", "2026-11-23T0304Z"]
    assert [r.path.name for r in runs] == [f"audit-{stamp}" for stamp in stamps]
    assert {r.state for r in runs} == {"complete"}
    # The same seed and weights draw the same samples, run after run.
    texts = [load_run(r.path).samples(["text"])["text"].tolist() for r in runs]
    assert texts[0] == texts[1] == texts[2]
    changes = [None if j.since is None else (j.since.new, j.since.gone) for j in shown]
    assert changes[0] is None
    assert changes[1][0] >= 2
    assert changes[1][1] == 0
    assert changes[2][0] == 0
    assert changes[2][1] == changes[1][0] - 1
    assert [r.gate for r in runs] == ["passed", "failed: no_new_passages_since", "passed"]
    assert sum("failed: " in line for line in told) == 1
    assert told[-1].startswith("Next run: 2026-11-23 03:06 UTC")


def test_a_failed_run_is_reported_and_the_schedule_continues(tmp_path):
    file = small_audit(tmp_path)
    (tmp_path / "texts.txt").rename(tmp_path / "gone.txt")
    mine = Plan(make_config(load_toml(file)), parse_cron("*/2 * * * *", "UTC"))
    clock = Clock(MONDAY - timedelta(seconds=30), 3)
    work, (told, shown) = at_work(mine, clock)
    work.log = lambda line: (
        told.append(line),
        line.startswith("auditor:") and (tmp_path / "gone.txt").rename(tmp_path / "texts.txt"),
    )
    work.run_forever(mine.cron)
    assert len(work.errors) == 1
    assert [r.path.name for r in read_history(tmp_path / "runs")] == ["audit-2026-11-23T0302Z"]
    assert len(shown) == 1


def test_times_missed_during_a_run_are_caught_up_once(tmp_path, monkeypatch):
    clock = Clock(MONDAY, 3)
    mine = plan(tmp_path / "x", cron="*/2 * * * *")
    ran(tmp_path / "x", MONDAY - timedelta(minutes=2))
    begun = []

    def long_run(self, run_time, progress=None):
        begun.append(run_time)
        ran(tmp_path / "x", run_time)
        clock.now += timedelta(minutes=7) if len(begun) == 1 else timedelta()
        raise RunError("told")

    monkeypatch.setattr(Plan, "run", long_run)
    work, _ = at_work(mine, clock)
    work.run_forever(mine.cron)
    # 3:02 and 3:04 passed while the run of 3:00 was at work until 3:07.
    assert begun[:2] == [MONDAY, MONDAY + timedelta(minutes=6)]


def test_a_signal_ends_a_run_cleanly_and_the_next_start_resumes_it(tmp_path, monkeypatch):
    file = small_audit(tmp_path)
    mine = Plan(make_config(load_toml(file)), parse_cron("*/2 * * * *", "UTC"))
    clock = Clock(MONDAY - timedelta(seconds=30), 5)
    work, (_told, shown) = at_work(mine, clock)
    with monkeypatch.context() as patch:
        ask_to_end_at_write(patch, 4)
        assert work.run_forever(mine.cron) is True
    (halved,) = read_history(tmp_path / "runs")
    assert halved.state == "incomplete"
    assert shown == []
    clock.left = 1
    work.run_forever(mine.cron)
    first = read_history(tmp_path / "runs")[0]
    assert (first.path, first.state) == (halved.path, "complete")
    assert list((tmp_path / "runs").rglob("*.part")) == []


def ask_to_end_at_write(patch, n):
    whole, calls = write_atomically, []

    def write(path, raw):
        calls.append(path)
        if len(calls) == n:
            os.kill(os.getpid(), signal.SIGTERM)
        whole(path, raw)

    patch.setattr("auditor.runs.writer.write_atomically", write)


# ------------------------------------------------------------------------- the command
_DYING = """
import os, signal, sys
from auditor.runs import writer as runs_writer
from auditor.cli.command import run

n, calls, whole = int(sys.argv[1]), [], runs_writer.write_atomically

def dying(path, raw):
    calls.append(path)
    if len(calls) == n:
        os.kill(os.getpid(), signal.SIGKILL)
    whole(path, raw)

runs_writer.write_atomically = dying
sys.exit(run(sys.argv[2:]))
"""


def test_a_killed_schedule_resumes_to_the_same_bytes(tmp_path):
    file = small_audit(tmp_path)
    args = ["schedule", str(file), "--once", *CRON]
    dead = subprocess.run([sys.executable, "-c", _DYING, "6", *args], capture_output=True)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    (halved,) = read_history(tmp_path / "runs")
    assert halved.state == "incomplete"
    ended = command(*args)
    assert ended.code == 0, ended.err
    (whole,) = read_history(tmp_path / "runs")
    assert (whole.path, whole.state) == (halved.path, "complete")
    assert command("audit", file, "--out", tmp_path / "alone").code == 0
    for name in ("candidates.csv", "summary.csv"):
        assert (whole.path / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    again = command(*args)
    assert again.code == 0
    assert "Nothing is due" in again.err
    assert len(read_history(tmp_path / "runs")) == 1


def test_sigterm_exits_with_130_without_loss(tmp_path, monkeypatch):
    file = small_audit(tmp_path)
    with monkeypatch.context() as patch:
        ask_to_end_at_write(patch, 5)
        ended = command("schedule", file, "--once", *CRON)
    assert ended.code == 130
    assert "To resume, run: auditor audit --resume" in ended.err
    assert command("schedule", file, "--once", *CRON).code == 0


def test_a_failed_gate_exits_with_3_now_and_when_repeated(tmp_path):
    file = small_audit(tmp_path)
    first = command("audit", file)
    assert first.code == 0
    texts = load_run(tmp_path / "runs" / "audit").samples(["text"])["text"].tolist()
    know(tmp_path, texts)
    small_audit(
        tmp_path, gates="[gates]\nmax_verified = 0\nmax_precision = 1.0\nmax_personal_data = 8\n"
    )
    for said in ("Gate max_verified failed: ", "Nothing is due"):
        ended = command("schedule", file, "--once", *CRON)
        assert ended.code == 3
        assert said in ended.err
        assert "max_verified failed" in ended.err.splitlines()[-1]
        assert "Traceback" not in ended.err
    audited = command("audit", file, "--out", tmp_path / "gated", "--json")
    assert audited.code == 3
    told = json.loads(audited.out)
    assert [(g["gate"], g["passed"]) for g in told["gates"]] == [
        ("max_verified", False),
        ("max_precision", True),
        ("max_personal_data", True),
    ]
    assert audited.err.splitlines()[-1].startswith("auditor: Gate max_verified failed: ")


def first_screen(folder):
    """The gates and the previous run on the page of a run."""
    (section,) = re.findall(
        r'<section class="outcome.*?</section>', (folder / "report.html").read_text(), re.DOTALL
    )
    return " ".join(re.sub("<[^>]*>", " ", section).split())


def test_the_page_shows_the_gates_and_the_previous_run(tmp_path):
    file = small_audit(tmp_path, gates='[gates]\nno_new_passages_since = "last"\n')
    first, second = tmp_path / "runs" / "first", tmp_path / "runs" / "second"
    assert command("audit", file, "--out", first).code == 0
    assert first_screen(first).startswith("The gate holds no_new_passages_since holds: there is no")
    set_back(first, "2026-01-01T03:00+00:00")
    know(tmp_path, load_run(first).samples(["text"])["text"].tolist()[:2])
    assert command("audit", file, "--out", second).code == 3
    new = load_run(second).manifest.judged.since.new
    said = (
        f"The gate failed no_new_passages_since failed: {new} passages are new since {first}; "
        f"allowed none. Since {first} (2026-01-01): {new} passages new, 0 gone, 0 unchanged."
    )
    assert new >= 2
    assert first_screen(second) == said
    assert "**The gate failed.**" in (second / "report.md").read_text()
    (second / "report.html").unlink()
    assert command("report", second).code == 0
    assert first_screen(second) == said
    # Looked up in other training text it is another finding, and nobody has judged it.
    assert command("verify", second, "--corpus", __file__).code == 0
    assert 'class="outcome' not in (second / "report.html").read_text()


def test_gates_that_cannot_be_decided_leave_a_whole_run_whose_page_says_why(tmp_path):
    file = small_audit(tmp_path, gates='[gates]\nno_new_passages_since = "last"\n')
    first, second = tmp_path / "runs" / "first", tmp_path / "runs" / "second"
    assert command("audit", file, "--out", first).code == 0
    set_back(first, "2026-01-01T03:00+00:00")
    (first / "candidates.parquet").write_bytes(b"")
    ended = command("audit", file, "--out", second)
    assert ended.code == 1
    assert load_run(second).complete
    assert first_screen(second).startswith("No comparison and no gate decision ")
    assert "candidates.parquet" in first_screen(second)


def set_back(folder, when):
    """Let a run have begun at another time."""
    file = folder / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "begun": when}))
