"""Collections of runs: found at any depth, combined tables, listing, and the card of a run."""

import inspect
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import auditor
from auditor.config.audit import make_config
from auditor.errors import RunError
from auditor.runs.collection import Runs, load_runs
from auditor.runs.run import Run, load_run
from auditor.runs.writer import open_for_writing
from tests.tiny import command


def candidates(verdicts, strategy="top-n"):
    n = len(verdicts)
    return pd.DataFrame(
        {
            "sample_id": [f"{strategy}-{i:06}" for i in range(n)],
            "strategy": strategy,
            "text": "text",
            "best_rank": pd.array([*range(1, n), None], "Int64"),
            "verdict": verdicts,
            "match_n_tokens": pd.array([None] * n, "Int64"),
            "n_documents": pd.array([None] * n, "Int64"),
        }
    )


def write(path, begun, verdicts=None, **settings):
    """A run's folder without a model: its candidates, if it has come so far."""
    config = make_config({"model": "gpt2", "samples": 4, **settings})
    with open_for_writing(path, config) as run:
        run.manifest.begun = begun
        shard = f"samples/{config.strategies[0].name}-00000.parquet"
        run.write(shard, pd.DataFrame({"sample_id": ["a", "b"]}))
        if verdicts is not None:
            frame = candidates(verdicts, config.strategies[0].name)
            run.write("candidates.parquet", frame)
            row = {"strategy": "top-n", "score": "zlib", "precision": np.nan, "n_verbatim": 0}
            run.write("summary.parquet", pd.DataFrame([row]))
            run.manifest.complete = True
        run.save()
    return path


@pytest.fixture
def runs(tmp_path):
    """Three runs, begun in another order than that of their names; the last is not finished."""
    write(tmp_path / "b", "2026-01-02T00:00:00+00:00", ["verbatim", "not found", "verbatim"])
    write(tmp_path / "deep" / "a", "2026-01-01T23:30:00-02:00", ["not checked"] * 2, seed=7)
    write(tmp_path / "c", "2026-01-03T00:00:00+00:00")
    return tmp_path


def test_runs_are_found_at_any_depth_in_the_order_they_were_begun(runs):
    found = load_runs(runs)
    assert found.names == ["b", "deep/a", "c"]
    assert [run.path.name for run in found] == ["b", "a", "c"]
    assert found["deep/a"].config.seed == 7
    assert found[1:].names == ["deep/a", "c"]
    with pytest.raises(KeyError, match="no run 'z'; it has b, deep/a, c"):
        found["z"]
    assert auditor.load_runs.__wrapped__ is load_runs


def test_frames_are_stacked_with_their_run_and_keep_their_categories(runs):
    with pytest.warns(UserWarning, match=r"skipped.*has no candidates yet"):
        frame = load_runs(runs).candidates(["sample_id", "verdict"])
    assert list(frame.columns) == ["run", "sample_id", "verdict"]
    assert frame["run"].tolist() == ["b"] * 3 + ["deep/a"] * 2
    assert frame["run"].cat.categories.tolist() == ["b", "deep/a"]
    assert frame["verdict"].cat.categories.tolist()[0] == "verbatim"


def test_categories_that_differ_between_runs_are_united(tmp_path):
    write(tmp_path / "a", "2026-01-01", ["verbatim"], strategies=["temperature"])
    write(tmp_path / "b", "2026-01-02", ["verbatim"], strategies=["top-n"])
    got = load_runs(tmp_path).candidates()["strategy"]
    assert got.tolist() == ["temperature", "top-n"]
    assert got.cat.categories.tolist() == ["temperature", "top-n"]


def test_the_overview_counts_what_was_checked_with_its_interval(runs):
    frame = load_runs(runs).overview().set_index("run")
    # Of b's three candidates the last is on no score's list; of the other two one is verbatim.
    # Clopper-Pearson of 1 in 2: the ends solve 1 - (1 - p)^2 = 0.025 and 1 - p^2 = 0.025.
    b = frame.loc["b"]
    assert (b["n_samples"], b["n_candidates"], b["n_verbatim"]) == (2, 2, 1)
    assert b["share"] == 0.5
    np.testing.assert_allclose([b["low"], b["high"]], [1 - 0.975**0.5, 0.975**0.5])
    for name in ("deep/a", "c"):
        assert frame.loc[name, "n_candidates"] is pd.NA
        assert np.isnan(frame.loc[name, "share"])
    assert frame["complete"].tolist() == [True, True, False]
    assert frame.loc["deep/a", "begun"] == pd.Timestamp("2026-01-02T01:30:00Z")


def test_a_damaged_folder_is_left_out_with_a_warning(runs):
    (runs / "c" / "manifest.json").write_text("{")
    with pytest.warns(UserWarning, match="skipped.*damaged"):
        assert load_runs(runs).names == ["b", "deep/a"]


def test_a_folder_without_runs_is_reported(tmp_path):
    with pytest.raises(RunError, match=r"no such folder\. Give the folder that contains your runs"):
        load_runs(tmp_path / "none")
    with pytest.raises(RunError, match="contains no run"):
        load_runs(tmp_path)


def test_an_empty_frame_of_all_is_the_first_reason(tmp_path):
    write(tmp_path / "a", "2026-01-01")
    with pytest.raises(RunError, match="no summary yet"):
        load_runs(tmp_path).summary()


def test_many_runs_show_as_a_table_that_is_escaped(tmp_path):
    write(tmp_path / "a", "2026-01-01", ["verbatim"], model="<script>x</script>")
    shown = load_runs(tmp_path)._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;x" in shown


# -------------------------------------------------------------------------------- the card
def test_a_card_shows_the_verdict_counts_and_links(runs):
    card = load_run(runs / "b")._repr_html_()
    assert "Memorization audit of gpt2" in card
    assert "Of 2 candidates checked" in card
    assert "1 is verbatim (50.0 %, 95 % interval 1.3–98.7, Clopper–Pearson" in card
    assert "2 of 4 (top-n)" in card
    assert "report.html" not in card  # this run has none
    assert "· complete" in card


def test_a_card_links_to_what_is_there_from_where_the_notebook_runs(runs, monkeypatch):
    with open_for_writing(runs / "b", load_run(runs / "b").config) as run:
        run.write_bytes("report.html", b"page")
    monkeypatch.chdir(runs)
    assert '<a href="b/report.html">report</a>' in load_run("b")._repr_html_()


def test_a_card_of_a_run_that_is_not_finished_says_how_to_finish_it(runs):
    card = load_run(runs / "c")._repr_html_()
    assert "· incomplete" in card
    assert "auditor audit --resume" in card


def test_a_card_of_a_damaged_run_says_so_and_raises_nothing(runs):
    file = runs / "b" / "candidates.parquet"
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    assert "Delete that file" in load_run(runs / "b")._repr_html_()


def test_what_stands_in_a_card_is_escaped_and_hidden_characters_are_shown(tmp_path):
    hostile = '</div><img src=x onerror="alert(1)">\u202e'
    write(tmp_path / "run <b>", "2026-01-01", ["verbatim"] * 2, model=hostile, corpus=[hostile])
    card = load_run(tmp_path / "run <b>")._repr_html_()
    assert "<img" not in card
    assert "<b>" not in card
    assert "\u202e" not in card
    assert "&lt;img src=x onerror=" in card


# ------------------------------------------------------------------------- one listing
def test_every_listing_of_runs_names_the_same_runs_in_the_same_order(runs):
    ended = command("runs", runs, "--json")
    listed = [Path(row["run"]).relative_to(runs).as_posix() for row in json.loads(ended.out)]
    assert listed == load_runs(runs).names == ["b", "deep/a", "c"]


def test_a_config_is_validated_once(runs, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "auditor.runs.manifest.make_config", lambda given: calls.append(1) or make_config(given)
    )
    run = load_run(runs / "b")
    assert run.config is run.config
    assert len(calls) == 1


def test_a_run_that_gets_another_config_has_that_one(runs):
    run = load_run(runs / "b")
    assert run.config.seed == 0
    run.manifest.config = run.config.model_copy(update={"seed": 5})
    assert run.config.seed == 5


def test_every_table_of_a_run_is_there_of_all_runs(runs):
    tables = {
        name
        for name, method in inspect.getmembers(Run, inspect.isfunction)
        if method.__annotations__.get("return") == "pd.DataFrame"
    }
    assert tables >= {"samples", "matches", "strategies", "known_truth", "exposure"}
    found = load_runs(runs)
    for name in tables:
        assert getattr(Runs, name).__doc__ == getattr(Run, name).__doc__
        if name not in ("samples", "candidates", "summary"):
            with pytest.raises(RunError, match=f"has no {name}"):
                getattr(found, name)()


def test_exposure_is_stacked_and_takes_columns(tmp_path):
    for name in ("a", "b"):
        config = make_config({"model": "gpt2", "samples": 4, "canaries": "canaries.json"})
        with open_for_writing(tmp_path / name, config) as run:
            frame = pd.DataFrame({"canary_id": [name], "exposure": [3.0], "exposure_low": [1.0]})
            run.write("exposure.parquet", frame)
            run.save()
    frame = load_runs(tmp_path).exposure(columns=["canary_id", "*_low"])
    assert frame.columns.tolist() == ["run", "canary_id", "exposure_low"]
    assert frame["canary_id"].tolist() == frame["run"].tolist() == ["a", "b"]
