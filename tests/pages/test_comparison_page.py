"""Figures and tables of the comparison page show the given values."""

import numpy as np
import pandas as pd
import pytest

from auditor.canaries.canaries import make_canaries
from auditor.comparison.output import save_runs
from auditor.comparison.runs import compare_runs
from auditor.comparison.tables import changes_shown, largest_increases_shown
from reports.figures.comparison import change_figure, exposure_by_step, training_figure
from tests.histories import lists as listed
from tests.histories import passage, planted_run


def probes(exposures, repeats, gaps):
    """Rows of a probe, a step each ten."""
    return pd.DataFrame(
        {
            "step": 10 * np.arange(len(gaps)),
            "exposure": exposures,
            "repeats": [repeats] * len(gaps),
            "exposure_most": 3.0 if repeats else float("nan"),
            "loss_gap": gaps,
        }
    )


WATCHED = probes([[0.0, 1.0, 1.0], [0.5, 1.5, 2.5], [1.0, 2.0, 3.0]], [1, 4, 1], [0.0, 0.2, 0.5])


def lines(panel):
    """What a panel's lines go through, those with more than two points."""
    return [line.get_ydata().tolist() for line in panel.lines if len(line.get_ydata()) > 2]


def test_exposure_is_a_mean_over_the_canaries_of_one_number_of_repeats():
    assert exposure_by_step(WATCHED).to_dict("list") == {
        "step": [0, 10, 20], "1x": [0.5, 1.5, 2.0], "4x": [1.0, 1.5, 2.0],
    }  # fmt: skip
    assert exposure_by_step(probes([[]] * 2, [], [0.0, 0.1])).empty


def test_a_line_for_each_number_of_repeats_and_one_for_the_gap():
    exposure, gap = training_figure(WATCHED, expected=1.17).axes
    assert lines(exposure) == [[0.5, 1.5, 2.0], [1.0, 1.5, 2.0]]
    assert lines(gap) == [[0.0, 0.2, 0.5]]
    told = {text.get_text(): text.xy[1] for text in exposure.texts}
    assert told["mean of untrained secrets: 1.17"] == 1.17
    assert told["maximum: 3.00"] == 3.0
    assert told["4x"] > told["1x"]  # both end at 2.0: their names are moved apart


def test_without_canaries_there_is_no_panel_of_exposure():
    (panel,) = training_figure(probes([[]] * 3, [], [0.0, 0.1, 0.2]), expected=float("nan")).axes
    assert lines(panel) == [[0.0, 0.1, 0.2]]


def test_every_finite_change_is_a_point_and_the_bar_is_their_mean():
    texts = pd.DataFrame(
        {"member": [True, True, False, False], "zlib_change": [1.0, 3.0, -1.0, np.nan]}
    )
    (panel,) = change_figure(texts, [("zlib", "bits a nat")]).axes
    drawn = [sorted(points.get_offsets()[:, 0]) for points in panel.collections]
    assert drawn == [[-1.0], [1.0, 3.0]]
    assert [line.get_xdata()[0] for line in panel.lines][:2] == [-1.0, 2.0]


@pytest.mark.parametrize("n_undefined", [0, 3])
def test_intervals_stand_beside_their_values_and_what_is_unknown_is_a_dash(n_undefined):
    row = {"figure": "zlib", "n_undefined": n_undefined, "p_members": 0.0123, "p_difference": 0.5}
    row |= {"members": 1.5, "members_low": -0.25, "members_high": 2.0}
    row |= dict.fromkeys(["heldout", "heldout_low", "heldout_high"], float("nan"))
    row |= {"difference": 1e-4, "difference_low": 0.0, "difference_high": 2e-4}
    shown = changes_shown(pd.DataFrame([row])).iloc[0].to_dict()
    assert shown.pop("texts excluded", None) == (str(n_undefined) if n_undefined else None)
    assert shown == {
        "figure": "zlib",
        "members": "+1.5 (-0.25 to +2)",
        "held out": "–",
        "difference": "+0.0001 (+0 to +0.0002)",
        "p, members": "0.012",
        "p, difference": "0.5",
    }


def test_long_texts_are_cut_and_unprobed_ones_are_no_failure():
    moved = pd.DataFrame({"doc_id": ["a", "b"], "member": [True, False], "n_tokens": [9, 12]})
    for name in ("likelihood", "log_p_z", "extracted"):
        moved[[f"{name}_base", f"{name}_tuned"]] = np.nan
    moved["text"] = ["short", "long " * 200]
    moved.loc[0, "extracted_tuned"] = 1.0
    shown = largest_increases_shown(moved)
    assert shown["extracted"].tolist() == ["yes", "–"]
    assert shown["excerpt"].iloc[0] == "short"
    assert shown["excerpt"].iloc[1] == ("long " * 64) + " …"


def test_personal_data_in_passages_is_masked_but_in_the_parquet(tmp_path):
    """Two runs found one passage, which ends in an address just where an excerpt may be cut."""
    row = passage(1)
    for pad in (0, 130, 150):
        text = f"passage {'x' * pad} by ann.lee@example.org"
        row |= {"text": text, "match_end": len(text)}
        runs = [planted_run(tmp_path / f"{name}{pad}", [row], one_list()) for name in "ab"]
        out = tmp_path / f"out{pad}"
        page = save_runs(compare_runs(*(run.path for run in runs)), out).read_text("utf-8")
        assert "ann.lee" not in page + (out / "passages.csv").read_text("utf-8")
        assert "a•••@•••.org" in (out / "passages.csv").read_text("utf-8")
        assert pd.read_parquet(out / "passages.parquet")["text"].tolist() == [text]


def one_list():
    return listed(("top-n", "zlib", 1, 1))


@pytest.mark.parametrize("reveal", [False, True])
def test_the_secrets_of_known_canaries_are_masked_unless_revealed(tmp_path, reveal):
    """One manifest is given, the other was measured by a run; a secret of four digits is masked
    only after its prefix, as it also occurs by chance."""
    long = make_canaries("The code of {n} is {digits:8}.", count=1, controls=2)
    short = make_canaries("Her PIN is {pin}.", count=1, controls=2)
    long.save(tmp_path / "long.json"), short.save(tmp_path / "short.json")
    pin = short.canaries[0].secret
    texts = [long.canaries[0].text, f"{short.canaries[0].text} In {pin} it rained."]
    rows = [passage(n) | {"text": t, "match_end": len(t)} for n, t in enumerate(texts)]
    of = [
        planted_run(tmp_path / name, rows, one_list(), canaries=str(tmp_path / "short.json"))
        for name in "ab"
    ]
    out = tmp_path / "out"
    saved = {"canaries": [tmp_path / "long.json"], "reveal": reveal}
    page = save_runs(compare_runs(*(run.path for run in of)), out, **saved).read_text("utf-8")
    for shown in (page, (out / "passages.csv").read_text("utf-8")):
        assert (long.canaries[0].secret in shown) == reveal
        assert ("The code of 1 is ••••••••." in shown) != reveal
        assert (f"Her PIN is {pin}." in shown) == reveal
        assert f"In {pin} it rained" in shown
    assert ("Sensitive" in page) == reveal
    assert sorted(pd.read_parquet(out / "passages.parquet")["text"]) == sorted(texts)


def test_a_manifest_that_is_gone_is_told(tmp_path):
    of = [
        planted_run(tmp_path / name, [passage(1)], one_list(), canaries=str(tmp_path / "gone.json"))
        for name in "ab"
    ]
    page = save_runs(compare_runs(*(run.path for run in of)), tmp_path / "out").read_text("utf-8")
    assert "gone.json, which names canaries, cannot be read, so their secrets are not" in page
