"""A gate that warns: on every surface, and never as a failure."""

import json
import re
import sys

from auditor.gates.history import read_history
from auditor.runs.run import load_run
from tests.histories import know, lists, nothing, passage, planted_run, small_audit
from tests.tiny import command

SAVES = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + '\\n')"
DECISION = {"gate": "max_verified", "limit": 2, "passed": True, "sentence": "3 of 10; allowed 2"}
DECISION |= {"value": 3.0, "low": 0.7, "high": 6.5}


def tables(folder, *gates):
    """[gates] with these lines, and a notification of trouble that adds to the file `told`."""
    told = [sys.executable, "-c", SAVES, str(folder / "told")]
    notify = f'[notify]\ncommand = {json.dumps(told)}\nwhen = "trouble"\n'
    return "\n".join(["[gates]", *gates, "", notify])


def told(folder):
    file = folder / "told"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_a_warning_is_exit_code_0_and_told_on_every_surface_once(tmp_path):
    file = small_audit(tmp_path)
    assert command("audit", file, "--out", tmp_path / "first").code == 0
    know(tmp_path, load_run(tmp_path / "first").samples(["text"])["text"].tolist()[:4])
    small_audit(tmp_path, gates=tables(tmp_path, "max_verified = 8"))
    assert command("audit", file).code == 0
    path = tmp_path / "runs" / "audit"
    n = load_run(path).headline()["n_verbatim"]
    assert n >= 4
    assert told(tmp_path) == []  # the gate passed: no trouble
    small_audit(
        tmp_path, gates=tables(tmp_path, f"max_verified = {n - 1}", 'decide_by = "interval"')
    )
    ended = command("audit", file)
    assert ended.code == 0
    (line,) = [line for line in ended.out.splitlines() if line.startswith("Gate max_verified")]
    assert line.startswith(f"Gate max_verified warns: {n} of ")
    assert line.endswith(f"; allowed {n - 1}, which the interval does not exclude.")
    (summary,) = told(tmp_path)
    assert summary["state"] == "gate warning"
    assert f". Gate max_verified warns: {n} of " in summary["text"]
    assert [(g["state"], g["passed"]) for g in summary["gates"]] == [("warn", True)]
    again = json.loads(command("audit", file, "--json").out)
    assert again["gates"] == summary["gates"]
    assert len(told(tmp_path)) == 1
    html = (path / "report.html").read_text(encoding="utf-8")
    (section,) = re.findall(r'<section class="outcome.*?</section>', html, re.DOTALL)
    assert 'class="outcome warned"' in section
    assert '<li class="warned">' in section
    assert "The gate warns" in section
    assert "**max\\_verified warns: " in (path / "report.md").read_text(encoding="utf-8")
    (entry,) = read_history(tmp_path / "runs")
    assert entry.gate == "warning: max_verified"
    assert "warning: max_verified" in command("runs", tmp_path / "runs").out
    # Without the interval the same figure fails.
    small_audit(tmp_path, gates=tables(tmp_path, f"max_verified = {n - 1}"))
    ended = command("audit", file)
    assert ended.code == 3
    assert ended.err.splitlines()[-1].startswith("auditor: Gate max_verified failed: ")
    assert [one["state"] for one in told(tmp_path)] == ["gate warning", "gate failed"]


def test_the_trend_page_counts_warnings_apart_from_failures(tmp_path):
    gates = (
        [DECISION],
        [DECISION | {"gate": "max_precision"}, DECISION | {"passed": False}],
        [DECISION],
    )
    for i, decisions in enumerate(gates):
        rows = [passage(k) for k in range(3)] + [nothing()] * 7
        when = f"2026-11-{10 + 7 * i}T03:00+00:00"
        manifest = {"judged": {"gates": decisions}}
        summary = lists(("top-n", "zlib", 3, 10))
        planted_run(tmp_path / f"a{i}", rows, summary, when=when, manifest=manifest)
    assert [entry.gate for entry in read_history(tmp_path)] == [
        "warning: max_verified",
        "failed: max_verified; warning: max_precision",
        "warning: max_verified",
    ]
    assert command("runs", tmp_path, "--html").code == 0
    html = (tmp_path / "trend.html").read_text(encoding="utf-8")
    assert (
        "1 of 3 runs failed a gate; 3 of 3 runs had a gate warning; the last run got a warning for "
        "max_verified."
    ) in html
