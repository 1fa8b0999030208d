"""Lists against controls: p-values by hand, the rate by simulation, and when a list is withheld."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from auditor.audit.controls import control_pieces
from auditor.audit.pipeline import report_again, run_audit
from auditor.config.audit import make_config
from auditor.corpus.reading import Document
from auditor.errors import ConfigError, CorpusError
from auditor.runs.run import load_run
from reports.analysis import schema
from reports.analysis.calibration import calibrate, no_calibration
from reports.pages.calibration_section import calibration_section, shown_calibration


def scores_of(values, strategy="s"):
    ids = [f"{strategy}-{i:04}" for i in range(len(values))]
    return pd.DataFrame({"sample_id": ids, "strategy": strategy, "zlib": np.asarray(values, float)})


def controls_of(values):
    return pd.DataFrame({"zlib": np.asarray(values, float)})


def test_p_values_count_the_controls_above_and_q_values_rise_by_rank():
    """Of 19 controls from 1 to 19: above 99 none, above 18.5 one, above 0 all."""
    made = calibrate(scores_of([18.5, 99, 0]), {"s": controls_of(range(1, 20))}, fdr=0.2)
    assert made.samples["p_value:zlib"].tolist() == [2 / 20, 1 / 20, 1]
    assert made.samples["q_value:zlib"].tolist() == pytest.approx([3 / 20, 3 / 20, 1])
    row = made.table.iloc[0]
    assert (row["n_samples"], row["n_controls"], row["n_listed"], row["withheld"]) == (3, 19, 2, "")
    schema.check(made.table, schema.CALIBRATION)


def test_at_5_percent_at_most_6_percent_of_lists_are_false_on_average():
    """200 runs: 30 of 200 samples are memorized, the rest score as 300 controls do."""
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(200):
        values = np.concatenate([rng.normal(4, 1, 30), rng.normal(0, 1, 170)])
        scores = scores_of(values)
        made = calibrate(scores, {"s": controls_of(rng.normal(0, 1, 300))}, fdr=0.05)
        listed = (made.samples["q_value:zlib"] <= 0.05 * (1 + 1e-12)).to_numpy()
        assert listed.sum() == made.table.iloc[0]["n_listed"]
        shares.append(listed[30:].sum() / max(1, listed.sum()))
    assert np.mean(shares) <= 0.06
    assert np.mean(shares) > 0  # it lists something, false ones among it


def checked(values, controls, n_verbatim):
    """The first samples were found verbatim, all were looked up."""
    scores = scores_of(values)
    ids = scores["sample_id"]
    verbatim, looked_up = set(ids[:n_verbatim]), set(ids)
    return calibrate(
        scores, {"s": controls_of(controls)}, fdr=0.05, verbatim=verbatim, looked_up=looked_up
    )


def test_a_list_is_withheld_where_samples_that_were_not_found_score_above_the_controls():
    rng = np.random.default_rng(2)
    made = checked(rng.normal(3, 1, 100), rng.normal(0, 1, 100), 5)
    row = made.table.iloc[0]
    assert "samples that were not found score above the controls (AUC 0.9" in row["withheld"]
    assert pd.isna(row["n_listed"])
    assert np.isnan(row["estimated_false"])
    assert made.samples["q_value:zlib"].isna().all()
    assert made.samples["p_value:zlib"].notna().all()
    assert "withheld: samples" in shown_calibration(made.table).loc[0, "Listed"]


def test_a_list_is_withheld_where_too_much_of_it_was_not_found():
    """12 of 15 found, all 15 above the controls: 3 or more of 15 at 5 % have a chance of 3.6 %."""
    made = checked([99.0] * 15 + [0.5] * 60, np.linspace(0, 1, 400), 12).table.iloc[0]
    assert (made["withheld"], made["n_listed"], made["n_listed_verbatim"]) == ("", 15, 12)
    made = checked([99.0] * 15 + [0.5] * 60, np.linspace(0, 1, 400), 10).table.iloc[0]
    assert made["withheld"] == "5 of 15 listed were not found, more than a rate of 5 % allows"
    assert pd.isna(made["n_listed"])


def test_a_list_is_kept_if_scores_agree_and_its_false_entries_are_counted():
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.normal(9, 1, 20), rng.normal(0, 1, 80), [99.0]])
    row = checked(values, rng.normal(0, 1, 200), 20).table.iloc[0]
    assert row["withheld"] == ""
    assert row["auc_low"] <= 0.5 <= row["auc_high"]
    assert row["n_listed"] >= 21
    assert row["n_listed_looked_up"] == row["n_listed"]
    assert row["n_listed_verbatim"] == 20
    assert 0 < row["estimated_false"] <= 0.05 * row["n_listed"]


def test_a_withheld_list_shows_its_reason():
    few = calibrate(scores_of([1, 2]), {"s": controls_of([1] * 18)}, fdr=0.05).table.iloc[0]
    assert few["withheld"] == "needs 19 controls, got 18"
    nan = calibrate(scores_of([np.nan]), {"s": controls_of([1.0] * 30)}, fdr=0.05).table.iloc[0]
    assert (nan["withheld"], nan["n_undefined"]) == ("the score is undefined", 1)
    none = calibrate(scores_of([1.0]), {}, fdr=0.05, reasons={"s": "why not"}).table.iloc[0]
    assert (none["withheld"], none["n_controls"]) == ("why not", 0)


def test_without_controls_there_is_no_section():
    assert calibration_section(no_calibration()) is None
    schema.check(no_calibration(), schema.CALIBRATION)


class Letters:
    """A vocabulary of bytes; EOS is 0."""

    eos_id = 0
    token_bytes = tuple(bytes([i]) for i in range(256))

    def encode(self, text):
        return list(text.encode())


def pieces_of(texts, n_tokens, most=99):
    documents = [Document(str(i), text, "") for i, text in enumerate(texts)]
    found = control_pieces(documents, Letters(), n_tokens=n_tokens, most=most)
    return [bytes(piece).decode() for piece in found]


def test_a_control_begins_with_a_text_or_a_line_and_none_overlap():
    assert pieces_of(["abcdefgh\nijklmnop", "qrstuv"], 4) == ["abcd", "ijkl", "qrst"]


def test_a_short_text_is_joined_to_the_next_with_eos():
    assert pieces_of(["ab", "cd", "ef"], 4) == ["ab\0c"]
    assert pieces_of(["ab", "c\nde", "fg"], 4) == ["ab\0c", "de\0f"]


def test_a_text_that_completes_a_control_does_not_shorten_the_next():
    assert pieces_of(["abc", "defg\nhijk"], 4) == ["abc\0", "defg", "hijk"]


def test_no_more_controls_than_requested():
    assert len(pieces_of(["abcd"] * 9, 4, most=3)) == 3


@pytest.fixture(scope="module")
def run(bed, tmp_path_factory):
    return run_audit(
        model=bed.target,
        references={"small": bed.references["small"]},
        strategies=["top-n", "internet", "few-shot"],
        strategy={"internet": {"corpus": [str(bed.heldout)]}},
        decoding={"max_new_tokens": 32},
        samples=40,
        top=10,
        corpus=[str(bed.corpus)],
        controls=[str(bed.heldout)],
        fdr=0.2,
        out=str(tmp_path_factory.mktemp("run") / "run"),
    )


def test_an_audit_counts_controls_above_each_candidate(run):
    schema.check(run.candidates(), schema.CANDIDATES)
    schema.check(run.summary(), schema.SUMMARY)
    for strategy in ("top-n", "internet"):
        controls = run.read(f"controls/{strategy}.parquet").to_pandas()
        assert len(controls) > 20
        assert set(controls["n_tokens"]) == {32}
        own = run.scores().query("strategy == @strategy").set_index("sample_id")
        for row in run.candidates().query("strategy == @strategy").head(5).itertuples():
            n_above = (controls["zlib"] >= own.loc[row.sample_id, "zlib"]).sum()
            p = run.candidates().set_index("sample_id").loc[row.sample_id, "p_value:zlib"]
            assert p == pytest.approx((1 + n_above) / (1 + len(controls)))
    found = run.calibration().set_index(["strategy", "score"])
    assert "held-out text cannot follow" in found.loc[("few-shot", "zlib"), "withheld"]
    page = run.report.read_text(encoding="utf-8")
    assert "Lists calibrated on held-out text" in page
    assert "A sample that is not memorized scores like a control" in page


def test_held_out_controls_score_like_texts_scored_alone(run, bed):
    """The same pieces as a corpus of their own, judged by `auditor score`'s way of judging."""
    from auditor.scoring.score_texts import score_texts

    controls = run.read("controls/top-n.parquet").to_pandas().head(6)
    rows = [json.dumps({"id": str(i), "text": text}) for i, text in enumerate(controls["text"])]
    path = run.path.parent / "pieces.jsonl"
    path.write_text("\n".join(rows), encoding="utf-8")
    alone = score_texts([path], model=bed.target)
    same = alone["n_tokens"].to_numpy() == 32  # where the text has the same tokens again
    assert same.sum() > 2
    np.testing.assert_allclose(alone["nll"][same], controls["nll"][same], rtol=1e-4)


def test_changing_controls_or_fdr_does_not_resample(run, bed, tmp_path):
    before = (run.path / "samples" / "top-n-00000.parquet").stat().st_mtime_ns
    again = report_again(run.path, {"fdr": 0.5})
    assert set(again.calibration()["fdr"]) == {0.5}
    assert load_run(run.path).config.fdr == 0.5
    assert (run.path / "samples" / "top-n-00000.parquet").stat().st_mtime_ns == before
    with pytest.raises(CorpusError, match="nowhere"):
        report_again(run.path, {"controls": (str(tmp_path / "nowhere.txt"),)})
    assert len(load_run(run.path).calibration()) == len(again.calibration())


def test_half_of_each_list_is_checked_where_there_is_training_text(run, bed, tmp_path):
    """Configured by a rate alone or by name; values are counted from the overlaps."""
    path = tmp_path / "run"
    shutil.copytree(run.path, path)
    made = report_again(path, {"controls": ("verified",), "fdr": 0.5})
    schema.check(made.calibration(), schema.CALIBRATION)
    schema.check(made.candidates(), schema.CANDIDATES)
    candidates = made.candidates().set_index("sample_id")
    assert not any(name.startswith("p_value:") for name in candidates)
    found = set(made.read("matches/matches.parquet").to_pandas()["sample_id"])
    table = made.calibration().set_index(["strategy", "score"])
    assert set(table["controls"]) == {"checked half"}
    own = candidates[(candidates["strategy"] == "top-n") & candidates["rank:zlib"].notna()]
    row = table.loc[("top-n", "zlib")]
    assert row["n_samples"] + row["n_controls"] == len(own) == 10
    listed = own.index[own["q_value:zlib"] <= 0.5]
    assert row["n_listed"] == len(listed) > 0
    assert row["n_listed_verbatim"] == len(set(listed) & found)
    assert made.summary().set_index(["strategy", "score"]).loc[
        ("top-n", "zlib"), "n_listed"
    ] == len(listed)
    page = made.report.read_text(encoding="utf-8")
    assert "Lists calibrated on verified candidates" in page
    assert "A random half of each shortlist is verified" in page
    assert "Lists calibrated on verified candidates" in (path / "report.md").read_text("utf-8")


def test_a_rate_without_controls_uses_the_checked_half():
    asked = {"model": "x", "fdr": 0.1}
    assert make_config({**asked, "corpus": "text/"}).controls == ("verified",)
    assert make_config({**asked, "index": "index/"}).controls == ("verified",)
    assert make_config({**asked, "corpus": "t/", "controls": "h/"}).controls == ("h/",)
    assert make_config({"model": "x", "corpus": "t/", "controls": "verified"}).fdr == 0.05
    with pytest.raises(ConfigError, match="--controls verified checks half of each list in the"):
        make_config({**asked, "controls": "verified"})
    with pytest.raises(
        ConfigError, match=r"held-out text or `verified`; got both \(verified, h/\)"
    ):
        make_config({**asked, "corpus": "t/", "controls": ["verified", "h/"]})


def test_too_little_text_for_one_control_is_an_error(run, tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("Too short.")
    with pytest.raises(CorpusError, match=r"--controls must contain at least 32 tokens.*got fewer"):
        report_again(run.path, {"controls": (str(short),)})


def test_a_rate_needs_controls_and_lies_between_0_and_1(tmp_path):
    with pytest.raises(ConfigError, match=r"--fdr 0\.05 needs controls; got none"):
        run_audit(model="x", fdr=0.05, out=str(tmp_path / "run"))
    with pytest.raises(ConfigError, match=r"fdr must be below 1; got 1\.5"):
        run_audit(model="x", fdr=1.5, controls=["y"], out=str(tmp_path / "run"))
