"""Files beside the report page: figures and Markdown; reports of partial audits."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from attacks.statistics.intervals import clopper_pearson
from auditor.audit.pipeline import report_again, run_audit
from auditor.errors import RunError
from auditor.runs.run import load_run
from reports.figures.figure_files import figure_files
from reports.figures.precision_at_rank import precision_at_rank, precision_at_rank_figure
from reports.pages.gates_section import ShownGate, ShownOutcome
from reports.pages.markdown import escape, render_markdown
from reports.pages.page_content import draw_figures
from reports.privacy import Item
from tests.audit.test_pipeline import settings
from tests.pages.test_audit_page import HOSTILE, Page, report_of
from tests.tiny import command

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


# ------------------------------------------------------------------------ precision at rank
def ranked():
    """Three on zlib's list, the second and third verbatim; two in the draw, none verbatim."""
    return pd.DataFrame(
        {
            "strategy": "top-n",
            "verdict": ["verbatim", "not found", "verbatim", "not found", "fuzzy"],
            "rank:zlib": pd.array([3, 1, 2, None, None], dtype="Int64"),
            "rank:random": pd.array([None, None, None, 2, 1], dtype="Int64"),
        }
    )


def test_precision_at_each_rank_counts_the_first_k():
    table = precision_at_rank(ranked())
    zlib = table[table["score"] == "zlib"]
    assert zlib["n_verbatim"].tolist() == [0, 1, 2]
    assert zlib["precision"].tolist() == [0, 1 / 2, 2 / 3]
    low, high = clopper_pearson(1, 2)
    assert (zlib["low"].iloc[1], zlib["high"].iloc[1]) == (low, high)
    assert table.loc[table["score"] == "random", "precision"].tolist() == [0, 0]


def test_a_list_that_was_not_checked_has_no_precision():
    unchecked = ranked().assign(verdict="not checked")
    assert precision_at_rank(unchecked).empty


def test_there_is_a_panel_for_each_strategy_and_score():
    both = pd.concat([ranked(), ranked().assign(strategy="internet")])
    figure = precision_at_rank_figure(precision_at_rank(both))
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["zlib", ""]
    line = figure.axes[0].lines[1]
    assert np.allclose(line.get_ydata(), [0, 50, 200 / 3])


# ----------------------------------------------------------------------------------- files
def test_figures_are_files_of_their_format_and_always_the_same():
    files = figure_files(draw_figures(report_of(["a", "b"])))
    assert set(files) == {f"{n}.{k}" for n in ("figure3", "precision", "ranks") for k in KINDS}
    for name, raw in files.items():
        assert raw.lstrip().startswith(KINDS[name[-3:]])
    assert figure_files(draw_figures(report_of(["a", "b"]))) == files


KINDS = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}


def test_markdown_holds_counts_and_no_candidate():
    text = render_markdown(
        report_of(
            ["secret words"],
            **{n: ["plain"] for n in ("headline", "not_claimed", "notices")},
            title="Audit",
            outcome=ShownOutcome(
                [ShownGate("max_verified", "fail", "failed", "9 of 9; allowed 3.")],
                "Since <x>: 1 passage new.",
            ),
            about=[("Model", "m")],
            command="auditor audit --word joe@abc.org",
            config_toml="",
        )
    )
    assert "secret words" not in text
    assert "**The gate failed.**\n\n- **max\\_verified failed: 9 of 9; allowed 3.**" in text
    assert "Since \\<x\\>: 1 passage new." in text
    assert "| zlib | 1 of 1, 50.0 % (20.0–80.0) |" in text
    assert "j•••@•••.org" in text


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_user_or_a_model_named_is_no_markup(text):
    shown = escape(text)
    assert "\n" not in shown
    assert "@" not in shown
    for char in "<>|`*_[]":
        assert shown.count(char) == shown.count("\\" + char)


# ------------------------------------------------------------------------------ whole runs
@pytest.fixture(scope="module")
def whole(bed, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    small = {"samples": 24, "top": 8, "shard_size": 8, "decoding": {"max_new_tokens": 48}}
    return run_audit(**settings(bed, out, strategies=["top-n"], **small))


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole.path, tmp_path / "run")


def cut_short(folder):
    """The folder as it is if the process is killed after two of three shards were scored."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in list(manifest["shards"]):
        if name == "scores/top-n-00002.parquet" or not name.startswith(("samples/", "scores/")):
            del manifest["shards"][name]
            (folder / name).unlink()
    manifest["complete"] = False
    del manifest["corpus"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_a_run_leaves_its_report_in_every_form(whole):
    assert whole.complete
    assert (whole.path / "report.md").read_text().startswith("## Memorization audit of")
    names = {path.name for path in (whole.path / "figures").iterdir()}
    assert {"figure3.svg", "ranks.png", "precision.pdf", "truth.svg"} <= names
    assert (whole.path / "figures").stat().st_mode & 0o077 == 0
    found = whole.candidates()
    assert (found["n_personal"] >= found["n_personal_verbatim"]).all()


def test_a_report_of_an_audit_cut_short_says_so_first(copy):
    ended = command("report", cut_short(copy))
    assert ended.code == 0, ended.err
    run = load_run(copy)
    assert not run.complete
    text = run.report.read_text()
    said = " ".join(" ".join(Page(text[: text.index("<nav")]).words).split())
    assert "24 of 24 samples are drawn and 16 scored" in said
    assert "The training text has not been searched yet" in said
    assert set(run.candidates()["verdict"]) == {"not checked"}
    assert "not complete" in (copy / "report.md").read_text()


def test_a_partial_audit_resumes_to_the_same_bytes(copy, whole):
    report_again(cut_short(copy))
    again = run_audit(load_run(copy).config.model_copy(update={"out": str(copy)}))
    assert again.complete
    assert (copy / "candidates.csv").read_bytes() == (whole.path / "candidates.csv").read_bytes()
    assert "not complete" not in again.report.read_text()


def test_an_audit_that_has_scored_nothing_has_no_report(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["shards"] = {}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match="has no scores yet: stage 'score' has not run"):
        report_again(copy)


def test_a_shard_that_was_cut_off_is_named_by_its_hash(copy, whole):
    shard = copy / "samples" / "top-n-00001.parquet"
    n = shard.stat().st_size
    shard.write_bytes(shard.read_bytes()[:100])
    ended = command("report", copy)
    assert ended.code == 1
    known = whole.manifest.shards["samples/top-n-00001.parquet"].sha256[:12]
    assert f"sha256 {known}…" in ended.err
    assert f"cut off after 100 of {n:,} bytes" in ended.err
    assert len(ended.err.strip().splitlines()) == 1


def test_a_folder_of_another_version_is_refused_in_a_sentence(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "format": 0}))
    ended = command("report", copy)
    assert ended.code == 1
    assert "was written by another version of auditor (format 0; this version reads 1)" in ended.err


def test_reveal_shows_and_the_next_report_masks_again(copy, monkeypatch):
    """The first word of the first candidate stands for a piece of personal data."""
    word = load_run(copy).candidates()["text"].iloc[0].split()[0]
    monkeypatch.setattr(
        "reports.privacy.candidates.find_personal", lambda text, more=(): planted(text, word)
    )
    for reveal in (True, False):
        run = report_again(copy, reveal=reveal)
        assert run.manifest.revealed is reveal
        assert ("Sensitive: this report" in run.report.read_text()) is reveal
        first = pd.read_csv(copy / "candidates.csv")["text"].iloc[0]
        dots = "".join("•" if char.isalnum() else char for char in word)
        assert first.lstrip("'\\n ").startswith(word if reveal else dots)
        assert run.candidates()["text"].iloc[0].split()[0] == word


def planted(text, word):
    at = text.find(word)
    return [] if at < 0 else [Item(at, at + len(word), "name")]
