"""The history: its listing, and a trend page without external resources."""

import json
import re
from datetime import UTC, datetime

import pandas as pd
import pytest

from attacks.statistics.intervals import clopper_pearson
from auditor.config.audit import make_config
from auditor.gates.history import read_history
from auditor.gates.trends import read_trends, series_titles
from auditor.scheduling.plan import Plan
from reports.pages.trend_page import Trend, TrendPage, lead, render_trends, sentences
from tests.histories import lists, nothing, passage, planted_run
from tests.tiny import command

GATE = {"gate": "max_verified", "limit": 2, "passed": False, "sentence": "s"}
GATE |= {"value": 1.0, "low": 0.0, "high": 5.0}
SINCE = {"run": "r", "when": "", "new": 2, "gone": 1, "unchanged": 1}
SINCE |= {"same_seed": True, "same_weights": True}


@pytest.fixture
def runs(tmp_path):
    """Three runs of one audit, the last past a gate; one of another; a halved and a broken one."""
    folder = tmp_path / "runs"
    for i, n in enumerate((1, 2, 4)):
        judged = {"gates": [GATE | {"passed": n < 4}], "since": SINCE if i else None}
        candidates = [passage(k) for k in range(n)] + [nothing()] * (10 - n)
        summary = lists(("top-n", "zlib", n, 10), ("top-n", "window", 0, 10))
        when = f"2026-11-{10 + 7 * i}T03:00+00:00"
        planted_run(folder / f"a{i}", candidates, summary, when=when, manifest={"judged": judged})
    planted_run(folder / "other", [nothing("not checked")], corpus=[], model="gpt2-xl")
    planted_run(folder / "halved", [nothing()], manifest={"complete": False})
    (folder / "broken").mkdir()
    (folder / "broken" / "manifest.json").write_text("{")
    return folder


def test_runs_are_listed_in_time_with_model_verified_and_gate(runs):
    ended = command("runs", runs)
    assert ended.code == 0
    head, *rows = [
        [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]
        for line in ended.out.splitlines()
        if line.startswith(("│", "┃"))
    ]
    assert head == [
        "Run", "Date (UTC)", "State", "Model", "Strategies", "Verbatim", "Gates",
    ]  # fmt: skip
    lines = {row[0]: row[1:] for row in rows}
    assert [name for name in lines if name.startswith("a")] == ["a0", "a1", "a2"]
    when = "2026-11-24 03:00"
    assert lines["a2"][:5] == [when, "complete", "gpt2", "top-n", "4 of 10"]
    assert lines["a2"][-1] == "failed: max_verified"
    assert lines["a0"][-1] == "passed"
    assert lines["other"][2:5] == ["gpt2-xl", "top-n", "not checked"]
    assert lines["halved"][1] == "incomplete"
    assert lines["broken"][1] == "unreadable"
    assert f"To resume:\n  auditor audit --resume {runs / 'halved'}\n" in ended.out
    assert "manifest.json" in ended.err
    told = {row["run"]: row for row in json.loads(command("runs", runs, "--json").out)}
    row = told[str(runs / "a2")]
    assert (row["verified"], row["checked"], row["gate"]) == (4, 10, "failed: max_verified")
    assert (row["since"]["new"], row["since"]["gone"]) == (2, 1)


def test_a_trend_has_every_figure_of_every_run_with_its_interval(runs):
    trends, notices = read_trends(read_history(runs))
    assert [len(t.runs) for t in trends] in ([3, 1], [1, 3])
    own = next(t for t in trends if len(t.runs) == 3)
    figures = own.figures[own.figures["figure"] == "verified"]
    assert figures["value"].tolist() == [1, 2, 4]
    low, high = clopper_pearson([1, 2, 4], [10, 10, 10])
    assert figures["low"].tolist() == pytest.approx(10 * low)
    assert figures["high"].tolist() == pytest.approx(10 * high)
    rates = own.figures[own.figures["of"] == "top-n\nzlib"]
    assert rates["value"].tolist() == [0.1, 0.2, 0.4]
    assert own.figures[own.figures["figure"] == "new"]["value"].tolist() == [2, 2]
    assert own.limits == {"max_verified": 2}
    assert {n.split(" ")[0] for n in notices} == {"halved", "broken"}


def test_the_page_is_one_file_that_draws_and_tells_them(runs):
    ended = command("runs", runs, "--html")
    assert ended.out == f"{runs / 'trend.html'}\n"
    html = (runs / "trend.html").read_text(encoding="utf-8")
    # Verified, passages, lists of the first audit; the other was never checked.
    assert html.count("<svg") == 3
    assert "3 runs, 2026-11-10 to 2026-11-24." in html
    assert "4 of 10 candidates are verbatim (40.0 %, 95 % interval 12.2–73.8, Clopper–" in html
    assert "1 of 3 runs failed a gate; the last run failed max_verified." in html
    assert "halved is left out: it is not complete." in html
    assert not re.search(r"<script|(src|href)=\"(?!#)|url\((?!#)|@import", html)
    assert "default-src 'none'" in html
    assert command("runs", runs, "--html").code == 0  # the page is no run
    assert (runs / "trend.html").read_text(encoding="utf-8") == html


def test_a_model_with_a_hostile_name_stays_text():
    runs = pd.DataFrame(
        {
            "when": pd.to_datetime(["2026-11-24"], utc=True),
            "run": "<script>x</script>",
            "verified": 1,
            "checked": 2,
            "low": 0.1,
            "high": 1.9,
            "new": None,
            "gone": None,
            "unchanged": None,
            "gate": "",
            "seed": 0,
            "weights": "ab",
        }
    )
    row = {"when": runs["when"][0], "figure": "precision", "value": 0.5, "low": 0.1, "high": 0.9}
    figures = pd.DataFrame([row | {"of": "<b>$x$\n</svg><script>1</script>"}])
    trend = Trend("<img src=x>", "\u202e</style>", runs, figures)
    html = render_trends(TrendPage("<i>", [trend], ["<u>"]))
    for tag in ("<script", "<img", "<i>", "<u>", "<b>", "\u202e"):
        assert tag not in html


@pytest.mark.parametrize(
    "harm",
    [
        {"judged": {"gates": [{"gate": 3}, 4], "since": []}},
        {"judged": [], "occasion": "yesterday"},
        {"occasion": "2026-11-24T03:00", "begun": ""},
        {"judged": {"gates": [GATE | {"limit": []}], "since": SINCE | {"new": "many"}}},
    ],
)
def test_a_manifest_that_somebody_changed_is_listed_all_the_same(tmp_path, harm):
    planted_run(tmp_path / "run", [passage(1)], lists(("top-n", "zlib", 1, 1)), manifest=harm)
    (row,) = json.loads(command("runs", tmp_path, "--json").out)
    assert (row["state"], row["gate"], row["since"]) == ("complete", "", None)
    assert command("runs", tmp_path, "--html").code in (0, 1)
    plan = Plan(make_config({"model": "gpt2", "samples": 100, "out": str(tmp_path / "x")}))
    assert len(plan.due(datetime(2026, 11, 30, tzinfo=UTC))) == 1


@pytest.mark.parametrize("models", [[], {"target": 3}])
def test_a_manifest_that_is_none_of_ours_is_listed_with_the_reason(tmp_path, models):
    run = planted_run(tmp_path / "run", [passage(1)], lists(("top-n", "zlib", 1, 1)))
    manifest = {**run.manifest.model_dump(), "models": models}
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest))
    (row,) = json.loads(command("runs", tmp_path, "--json").out)
    assert row["state"] == "unreadable"
    assert "is not valid: models" in row["why"]


def test_changed_weights_are_said():
    runs = pd.DataFrame(
        {
            "when": pd.to_datetime(["2026-11-17", "2026-11-24"], utc=True),
            "run": ["a", "b"],
            "verified": 1,
            "checked": 2,
            "low": 0.1,
            "high": 1.9,
            "new": [None, 1],
            "gone": [None, 0],
            "unchanged": [None, 3],
            "gate": "",
            "seed": 0,
            "weights": ["ab", "cd"],
        }
    )
    told = sentences(Trend("m", "", runs, pd.DataFrame()))
    assert "Since the previous run, 1 passage is new, 0 gone, 3 unchanged." in told
    assert told[-1] == "The runs used 2 different sets of weights."


def test_a_folder_without_a_complete_run_has_nothing_to_draw(tmp_path):
    ended = command("runs", tmp_path, "--html")
    assert (ended.code, ended.out) == (1, "")
    assert "no complete run" in ended.err
    assert command("runs", tmp_path / "none").code == 1


def test_audits_are_named_by_what_tells_them_apart():
    one = {"model": "gpt2", "samples": 100, "corpus": ["a/texts"]}
    other = one | {"strategies": ["top-n", "temperature"], "corpus": ["b/books.txt"]}
    third = one | {"model": "gpt2-xl"}
    assert series_titles([make_config(c) for c in (one, other, third)]) == [
        "gpt2, top-n, texts", "gpt2, top-n + temperature, books.txt", "gpt2-xl, top-n, texts",
    ]  # fmt: skip
    assert series_titles([make_config(one)]) == ["gpt2"]
    assert series_titles([make_config(one), make_config(one | {"top": 7})]) == [
        "gpt2, top 100", "gpt2, top 7",
    ]  # fmt: skip


def test_scheduled_audits_come_first_and_failures_in_the_headline(runs):
    """The audit without a schedule is the latest; the scheduled one failed its gate."""
    late = "2026-12-20T03:00+00:00"
    manifest = {"begun": late, "occasion": ""}
    planted_run(runs / "late", [nothing()], lists(("top-n", "zlib", 0, 1)), manifest=manifest,
                samples=7)  # fmt: skip
    trends, _ = read_trends(read_history(runs))
    assert [t.is_scheduled for t in trends] == [True, True, False]
    assert trends[-1].title.endswith(", 7 samples")
    told = lead(trends)
    failed = next(t.title for t in trends if len(t.runs) == 3)
    assert told[0] == f"1 of 3 audits failed a gate in the last run: {failed} (max_verified)."
    assert told[1].startswith(f"The last run, of {trends[-1].title} on 20\u00a0December")
