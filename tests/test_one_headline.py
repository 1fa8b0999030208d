"""One run has one headline: every surface gives the numbers that its candidates.csv gives.

The expected numbers are counted here, from the rows of candidates.csv, without the code of the
project.
"""

import csv
import json
import re
import sys
from types import SimpleNamespace

import pytest
import tomli_w

import auditor
from auditor.runs.run import load_run
from tests.audits import copied, settings
from tests.tiny import command

LIMIT = 10_000  # of a gate that passes; its sentence names the figure


def numbers(folder):
    """The counts of a run, from the text of candidates.csv."""
    with (folder / "candidates.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = [row for row in rows if row["is_control"] == "False"]
    assert {row["is_control"] for row in rows} == {"True", "False"}
    # Only samples of the control have no rank on any score's list.
    for row in rows:
        ranks = [v for k, v in row.items() if k.startswith("rank:") and k != "rank:random" and v]
        assert (row["is_control"] == "True") == (not ranks)
    verdicts = [row["verdict"] for row in chosen]
    n_verbatim, n = verdicts.count("verbatim"), len(chosen)
    assert 0 < n_verbatim < sum(row["verdict"] == "verbatim" for row in rows)  # or nothing is shown
    return SimpleNamespace(
        n=n,
        n_verbatim=n_verbatim,
        n_rows=len(rows),
        verdicts={name: verdicts.count(name) for name in set(verdicts)},
        found=f"Of {n} candidates checked against",
        verbatim=f"{n_verbatim} are verbatim",
    )


@pytest.fixture(scope="module")
def audit(bed, tmp_path_factory):
    """An audit file with three strategies, a gate and a notification, and its finished run."""
    folder = tmp_path_factory.mktemp("audit")
    saves = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + '\\n')"
    hook = [sys.executable, "-c", saves, str(folder / "told")]
    given = settings(bed, folder / "runs" / "one")
    given |= {"gates": {"max_verified": LIMIT}, "notify": {"command": hook}}
    (folder / "audit.toml").write_text(tomli_w.dumps(given), encoding="utf-8")
    ended = command("audit", folder / "audit.toml")
    assert ended.code == 0, ended.err
    return SimpleNamespace(
        file=folder / "audit.toml",
        run=folder / "runs" / "one",
        out=ended.out,
        told=folder / "told",
    )


def plain(html):
    """The words of a page, tags and entities removed."""
    text = re.sub(
        r"<script.*?</script>|<style.*?</style>|<svg.*?</svg>", " ", html, flags=re.DOTALL
    )
    return " ".join(re.sub("<[^>]*>", " ", text).replace("\u00a0", " ").split())


def check_surfaces(run, expected, printed):
    """Ask every surface of one run for its numbers."""
    for text in (
        printed,
        (run.path / "report.md").read_text(encoding="utf-8"),
        plain((run.path / "report.html").read_text(encoding="utf-8")),
        plain(run._repr_html_()),
    ):
        assert expected.found in text
        assert expected.verbatim in text
    frame = run.candidates()
    assert len(frame) == expected.n_rows
    assert frame["is_control"].dtype == bool
    chosen = frame[~frame["is_control"]]
    assert len(chosen) == expected.n
    assert (chosen["verdict"] == "verbatim").sum() == expected.n_verbatim
    overview = auditor.load_runs(run.path.parent).overview().iloc[0]
    assert (overview["n_verbatim"], overview["n_candidates"]) == (expected.n_verbatim, expected.n)
    assert overview["share"] == pytest.approx(expected.n_verbatim / expected.n)
    listing = command("runs", run.path.parent)
    assert f" {expected.n_verbatim} of {expected.n} " in listing.out
    (row,) = json.loads(command("runs", run.path.parent, "--json").out)
    assert (row["verified"], row["checked"]) == (expected.n_verbatim, expected.n)
    assert command("runs", run.path.parent, "--html").code == 0
    trends = plain((run.path.parent / "trend.html").read_text(encoding="utf-8"))
    assert f"{expected.n_verbatim} of {expected.n} candidates are verbatim" in trends


def check_json(told, run, expected):
    """The JSON of a command or of a notification."""
    assert told["candidates"] == expected.verdicts
    headline = told["headline"]
    assert (headline["n_verbatim"], headline["n_candidates"]) == (expected.n_verbatim, expected.n)
    overview = auditor.load_runs(run.path.parent).overview().iloc[0]
    for name in ("share", "low", "high", "n_passages", "n_documents"):
        assert headline[name] == pytest.approx(overview[name])
    lists = run.summary().query("score != 'random'")
    assert [row["n_verbatim"] for row in told["summary"]] == lists["n_verbatim"].tolist()
    assert [row["n_chosen"] for row in told["summary"]] == lists["n_chosen"].tolist()
    assert "random" not in {row["score"] for row in told["summary"]}


def compared(run, tmp_path, expected):
    """The run beside a copy of itself."""
    other = copied(run, tmp_path)
    told = json.loads(command("compare", run.path, other, "--json").out)
    row = told["differences"][0]
    for side in "ab":
        found = row[f"n_verbatim_{side}"], row[f"n_{side}"]
        assert found == (expected.n_verbatim, expected.n)
    assert {row["score"] for row in told["differences"]}.isdisjoint({"random"})
    frame = run.candidates()
    outside = set(frame.loc[frame["is_control"] & (frame["verdict"] == "verbatim"), "doc_id"])
    assert outside  # of the control alone; its passages are no passages of the run
    said = command("compare", run.path, other, "--out", tmp_path / "page").out
    words = f"Of all candidates, {expected.n_verbatim} of {expected.n} are verbatim in A and"
    assert words in said
    assert words in plain((tmp_path / "page" / "comparison.html").read_text(encoding="utf-8"))
    # Every verbatim candidate shows one passage.
    passages = auditor.compare_runs(run.path, other).passages
    assert passages["n_a"].sum() == passages["n_b"].sum() == expected.n_verbatim


def test_every_surface_of_an_audit_has_the_same_numbers(audit, tmp_path):
    run, expected = load_run(audit.run), numbers(audit.run)
    check_surfaces(run, expected, audit.out)
    gate = f"{expected.n_verbatim} of {expected.n} candidates are verbatim"
    assert f"Gate max_verified holds: {gate}" in audit.out
    assert gate in plain((audit.run / "report.html").read_text(encoding="utf-8"))
    assert run.manifest.judged.gates[0].value == expected.n_verbatim
    (told,) = [json.loads(line) for line in audit.told.read_text().splitlines()]
    check_json(told, run, expected)
    assert gate in told["gates"][0]["sentence"]
    check_json(json.loads(command("audit", audit.file, "--json").out), run, expected)
    assert len(audit.told.read_text().splitlines()) == 1  # the same outcome is told once
    compared(run, tmp_path, expected)


def test_every_surface_has_the_same_numbers_after_a_report_with_a_false_discovery_rate(
    audit, tmp_path
):
    before = numbers(audit.run)
    path = copied(load_run(audit.run), tmp_path / "runs")
    told = json.loads(command("report", path, "--fdr", "0.2", "--json").out)
    run, expected = load_run(path), numbers(path)
    assert (expected.n_verbatim, expected.n) == (before.n_verbatim, before.n)
    assert len(run.calibration())
    check_json(told, run, expected)
    check_surfaces(run, expected, command("report", path).out)
    compared(run, tmp_path, expected)


def test_every_surface_has_the_same_numbers_after_another_verification(audit, tmp_path):
    path = copied(load_run(audit.run), tmp_path / "runs")
    told = json.loads(command("verify", path, "--min-match-tokens", "40", "--json").out)
    run, expected = load_run(path), numbers(path)
    check_json(told, run, expected)
    check_surfaces(run, expected, command("report", path).out)


def test_a_run_of_an_earlier_version_knows_its_control(audit, tmp_path):
    import pyarrow.parquet as pq

    from auditor.runs.writer import open_for_writing

    expected = numbers(audit.run)
    path = copied(load_run(audit.run), tmp_path / "runs")
    with open_for_writing(path, load_run(path).config.model_copy(update={"out": path})) as writer:
        table = pq.read_table(path / "candidates.parquet").drop_columns(["is_control"])
        writer.write("candidates.parquet", table)
    old, new = load_run(path).candidates(), load_run(audit.run).candidates()
    assert list(old.columns) == list(new.columns)
    assert (old["is_control"] == new["is_control"]).all()
    assert int((~load_run(path).candidates(["is_control"])["is_control"]).sum()) == expected.n
