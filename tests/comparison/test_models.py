"""Comparisons: changes are tuned minus base, and runs are joined by passage."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch

from attacks.statistics.resampling import newcombe, paired_proportions
from auditor.cli.command import VERBS
from auditor.comparison.models import compare_models, figure_names
from auditor.comparison.output import model_headline, save_models, save_runs
from auditor.comparison.runs import _candidates, _passages, compare_runs
from auditor.errors import AuditError, ConfigError, ModelError, RunError
from auditor.models.loading import load_model
from reports.pages.comparison_page import ComparisonPage, render_comparison
from tests.tiny import command

WIDTHS = {"prefix_tokens": 20, "suffix_tokens": 20}


@pytest.fixture(scope="module")
def found(bed):
    """The testbed's small reference, which saw no member, against the target, which saw all."""
    return compare_models(
        bed.references["small"], bed.target, texts=[str(bed.corpus)], heldout=[str(bed.heldout)],
        **WIDTHS,
    )  # fmt: skip


def test_every_change_is_tuned_minus_base(found):
    names = figure_names(found.texts)
    assert {"likelihood", "zlib", "lowercase", "window", "log_p_z", "extracted"} == set(names)
    for name in names:
        base, tuned, change = (
            found.texts[f"{name}_{when}"].to_numpy() for when in ("base", "tuned", "change")
        )
        assert np.array_equal(change, tuned - base, equal_nan=True)


def test_each_distinct_text_is_scored_once_with_its_side(bed, found):
    truth = bed.truth().set_index("text")
    assert found.texts["text"].is_unique
    assert len(found.texts) == len(set(truth.index[truth["kind"] == "text"])) + 5  # canaries
    assert (found.texts["member"] == truth.loc[found.texts["text"], "member"].to_numpy()).all()


def test_figures_are_those_of_one_text_at_a_time(bed, found):
    model = load_model(bed.target, dtype="float32")
    fits = found.texts["member"] & found.texts["n_tokens"].between(60, 150)
    row = found.texts[fits].iloc[3]
    ids = model.vocabulary.encode(row["text"])
    with torch.no_grad():
        logits = model.network(torch.tensor([[0, *ids]])).logits[0].double().log_softmax(-1)
    nats = [float(logits[t][i]) for t, i in enumerate(ids)]
    assert row["likelihood_tuned"] == pytest.approx(np.mean(nats), abs=1e-5)
    assert row["log_p_z_tuned"] == pytest.approx(sum(nats[20:40]), abs=1e-3)
    first = [int(logits[t].argmax()) == ids[t] for t in range(20, 40)]
    assert row["extracted_tuned"] == all(first)


def test_known_members_gain_more_than_held_out_text(found):
    row = found.tests.set_index("figure").loc["likelihood"]
    assert row["members_low"] > 0
    assert row["difference_low"] > 0
    assert row["p_difference"] < 0.001
    own = found.texts[found.texts["member"]]["likelihood_change"]
    assert row["members"] == pytest.approx(own.mean())
    rates = found.extraction.set_index(["group", "model"])
    assert rates.loc[("members", "base"), "n_extracted"] == 0
    assert rates.loc[("members", "tuned"), "n_extracted"] > 3
    assert rates.loc[("heldout", "tuned"), "n_extracted"] == 0


def test_the_change_of_extraction_has_the_interval_of_paired_proportions(found):
    row = found.tests.set_index("figure").loc["extracted"]
    parts = []
    for who, texts in (("members", found.texts["member"]), ("heldout", ~found.texts["member"])):
        change = found.texts.loc[texts, "extracted_change"].dropna()
        own = paired_proportions(int((change > 0).sum()), int((change < 0).sum()), len(change))
        assert (row[who], row[f"{who}_low"], row[f"{who}_high"]) == pytest.approx(
            (change.mean(), own.low, own.high)
        )
        parts.append(own)
    a, b = parts
    apart = a.value - b.value
    assert row["difference_low"] == pytest.approx(
        apart - np.hypot(a.value - a.low, b.high - b.value)
    )
    assert row["heldout_low"] < 0 < row["heldout_high"]  # none changed, which is no certainty


def test_the_most_changed_texts_come_first(found):
    moved = found.largest_increases(5)["likelihood_change"].tolist()
    assert moved == sorted(found.texts["likelihood_change"], reverse=True)[:5]


def test_texts_that_are_too_short_have_no_p_z_and_are_reported(bed, tmp_path):
    short = tmp_path / "a.jsonl"
    short.write_text(json.dumps({"text": "too short"}) + "\n")
    one = compare_models(bed.references["small"], bed.target, texts=[str(short)])
    assert one.texts["log_p_z_change"].isna().all()
    assert one.extraction["n_texts"].tolist() == [0, 0, 0, 0]
    assert "1 of 1 text too short" in one.notes[0]
    assert any("No held-out text was given" in s for s in model_headline(one))


def test_text_on_both_sides_is_left_out_of_both(bed, tmp_path):
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    a.write_text("".join(json.dumps({"text": t}) + "\n" for t in ("one", "two")))
    b.write_text("".join(json.dumps({"text": t}) + "\n" for t in ("two", "three")))
    one = compare_models(bed.references["small"], bed.target, texts=[str(a)], heldout=[str(b)])
    assert one.texts[["text", "member"]].to_numpy().tolist() == [["one", True], ["three", False]]
    with pytest.raises(ConfigError, match="must differ"):
        compare_models(bed.references["small"], bed.target, texts=[str(a)], heldout=[str(a)])


def test_the_same_model_twice_is_refused(bed):
    with pytest.raises(ModelError, match="must be two models; got the same weights"):
        compare_models(bed.target, str(bed.folder / "target"), texts=[str(bed.corpus)])


def test_models_of_two_vocabularies_are_refused(bed, tmp_path):
    from tests.tiny import save_tiny_model

    other = save_tiny_model(tmp_path / "model")
    with pytest.raises(ModelError, match="must split every text into the same tokens"):
        compare_models(bed.target, str(other), texts=[str(bed.corpus)])


def test_no_texts_are_refused(bed, tmp_path):
    with pytest.raises(AuditError, match="got none"):
        compare_models(bed.references["small"], bed.target, texts=[])
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    with pytest.raises(AuditError, match="no documents"):
        compare_models(bed.references["small"], bed.target, texts=[str(empty)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"examples": 0}, "--examples must be at least 1; got 0"),
        ({"seed": -1}, "--seed must be at least 0; got -1"),
        ({"sufix_tokens": 3}, "Did you mean 'suffix_tokens'?"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        compare_models("base", "tuned", texts=["text.txt"], **options)


def test_a_window_past_the_context_is_refused(bed):
    with pytest.raises(ConfigError, match="at most 192 tokens together"):
        compare_models(
            bed.references["small"], bed.target, texts=[str(bed.corpus)], prefix_tokens=190
        )


def test_tables_read_back_and_another_comparison_is_refused(found, tmp_path):
    page = save_models(found, tmp_path / "out")
    pd.testing.assert_frame_equal(pd.read_parquet(page.parent / "tests.parquet"), found.tests)
    assert len(pd.read_csv(page.parent / "texts.csv")) == len(found.texts)
    before = page.read_bytes()
    assert save_models(found, tmp_path / "out").read_bytes() == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_text("x")
    with pytest.raises(RunError, match="is not a comparison's folder"):
        save_models(found, tmp_path / "mine")


def test_the_page_has_no_script_and_no_requests(found, tmp_path):
    html = save_models(found, tmp_path / "out").read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html).group(1)
    assert "default-src 'none'" in policy.replace("&#39;", "'")
    assert "script-src" not in policy
    assert "<script" not in html
    assert ' style="' not in html
    assert not re.search(r'(src|href)="(?!#|data:)', html)
    assert html.count("<svg") == 1


def test_the_page_escapes_what_texts_say():
    frame = pd.DataFrame({"text": ["<script>alert(1)</script>\u202e"]})
    page = ComparisonPage("a", ["<img src=x>"], [("<b>", "</style>")], [("c", frame)])
    html = render_comparison(page)
    assert "<script" not in html
    assert "<img" not in html
    assert html.count("</style>") == 1
    assert "\u202e" not in html


def candidates(rows):
    """A candidate a row: text, where its match begins, where in which document that stands."""
    frame = pd.DataFrame(rows, columns=["text", "match_start", "doc_id", "doc_offset"])
    frame["match_end"] = frame["text"].str.len()
    frame["match_n_tokens"] = 9
    return frame.assign(verdict="verbatim")


def test_passages_are_joined_by_text_and_by_place():
    document = "abcdefghijklmnopqrstuvwxyz"
    a = candidates([
        ("--abcdefgh", 2, "d", 0),      # the same text as in B
        (document[10:20], 0, "d", 10),  # B has 14 to 24: six of ten in common
        ("zzz only here", 0, "e", 0),
    ])  # fmt: skip
    b = candidates([
        ("abcdefgh", 0, "other", 7),
        (document[14:24], 0, "d", 14),
        ("and this is B's own", 0, "f", 0),
        ("this is B's", 0, "g", 5),     # held by the one above
    ])  # fmt: skip
    frame = _passages(a, b).set_index("text")
    assert dict(zip(frame.index, frame["where"], strict=True)) == {
        "abcdefgh": "both",
        document[10:20]: "both",
        "zzz only here": "only A",
        "and this is B's own": "only B",
    }
    assert frame.loc["and this is B's own", ["n_a", "n_b"]].tolist() == [0, 2]


def test_neighbours_that_share_less_than_half_are_two_passages():
    document = "abcdefghijklmnopqrstuvwxyz"
    a, b = candidates([(document[:10], 0, "d", 0)]), candidates([(document[6:16], 0, "d", 6)])
    assert _passages(a, b)["where"].tolist() == ["only A", "only B"]


@pytest.fixture(scope="module")
def runs(bed, tmp_path_factory):
    from auditor.audit.pipeline import run_audit

    folder = tmp_path_factory.mktemp("runs")
    return [
        run_audit(
            model=bed.target, samples=24, decoding={"max_new_tokens": 48}, corpus=[str(bed.corpus)],
            top=8, seed=seed, out=str(folder / str(seed)), min_match_tokens=12, min_match_chars=30,
        )
        for seed in (1, 2)
    ]  # fmt: skip


def cluster_sizes(frame):
    """Verbatim candidates by stretches of a document that overlap; each other one by itself."""
    sizes, doc, reached = [], None, 0
    verbatim = frame[frame["verdict"] == "verbatim"].sort_values(["doc_id", "doc_offset"])
    for row in verbatim.itertuples():
        if row.doc_id == doc and row.doc_offset < reached:
            sizes[-1] += 1
        else:
            sizes.append(1)
            doc, reached = row.doc_id, 0
        reached = max(reached, row.doc_offset + row.match_n_chars)
    return sizes + [1] * (len(frame) - len(verbatim))


def test_runs_are_counted_and_their_precision_compared(runs, tmp_path):
    found = compare_runs(runs[0].path, runs[1].path)
    frames = [run.candidates().query("not is_control") for run in runs]
    k, n = [int((f["verdict"] == "verbatim").sum()) for f in frames], [len(f) for f in frames]
    row = found.differences.iloc[0]
    worth = [len(f) ** 2 / sum(size**2 for size in cluster_sizes(f)) for f in frames]
    a, b = ((k[i] * worth[i] / n[i], worth[i]) for i in (0, 1))
    expected = newcombe(*b, *a)
    assert (row["difference"], row["low"], row["high"]) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )
    assert row["difference"] == pytest.approx(k[1] / n[1] - k[0] / n[0])
    assert found.passages["n_a"].sum() == k[0] > 0
    assert found.passages["n_b"].sum() == k[1]
    assert sum(found.counts().values()) == len(found.passages)
    assert found.notes == ["The runs differ: seed is 1 in A, 2 in B."]
    assert len(found.differences) == 1 + len(runs[0].summary().query("score != 'random'"))
    assert "<script" not in save_runs(found, tmp_path / "out").read_text(encoding="utf-8")


def test_a_run_against_itself_and_one_unchecked_are_refused(bed, runs):
    with pytest.raises(ConfigError, match="twice"):
        compare_runs(runs[0].path, runs[0].path)

    class Unchecked:
        path = "runs/x"

        def candidates(self):
            return pd.DataFrame({"verdict": ["not checked"], "best_rank": [1]})

    with pytest.raises(ConfigError, match="auditor verify runs/x --corpus"):
        _candidates(Unchecked())


def test_the_command_compares_models_and_runs(bed, runs, tmp_path, monkeypatch):
    monkeypatch.setitem(VERBS, "compare", ("auditor.cli.compare", ""))
    ended = command(
        "compare", "--base", bed.references["small"], "--tuned", bed.target, "--texts", bed.corpus,
        "--heldout", bed.heldout, "--out", tmp_path / "out", "--prefix-tokens", 20,
        "--suffix-tokens", 20,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "Extraction before and after" in ended.out
    assert (tmp_path / "out" / "comparison.html").is_file()
    ended = command("compare", runs[0].path, runs[1].path, "--json")
    assert set(json.loads(ended.out)["passages"]) == {"only A", "only B", "both"}
    assert command("compare", runs[0].path).code == 2
    assert command("compare").code == 2
    assert command("compare", runs[0].path, runs[1].path, "--base", "x").code == 2
