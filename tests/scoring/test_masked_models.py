"""Scores of texts under masked models, from the command to the table."""

import json

import numpy as np
import pandas as pd
import pytest

from auditor.comparison.models import compare_models
from auditor.errors import ModelError
from auditor.models.loading import load_model
from auditor.scoring.score_texts import score_texts
from tests.models.masked import save_bert
from tests.tiny import command, save_texts, save_tiny_model

TEXTS = ["the cat sat playing on the mat .", "Dogs ran", "un played the dog " * 12]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("masked")
    save_bert(made / "target")
    save_bert(made / "reference", seed=1)
    save_bert(made / "other", seed=2, words=["the", "cat", "dog", "[", "]"])
    save_tiny_model(made / "causal")
    save_texts(made / "texts.jsonl", TEXTS)
    return made


def scored(folder, **options):
    notes = {"device": "cpu", "progress": None}
    return score_texts([folder / "texts.jsonl"], model=str(folder / "target"), **notes, **options)


def test_every_score_of_a_masked_model_is_finite(folder):
    found = scored(folder, references={"r": str(folder / "reference")})
    names = ["loss", "reference:r", "reference_difference:r", "masked_reference:r", "zlib"]
    names += ["lowercase", "window", "min_k", "min_k_plus_plus"]
    assert set(names) <= set(found)
    assert np.isfinite(found[names].to_numpy()).all()


def test_the_loss_is_the_mean_pseudo_log_likelihood(folder):
    for pll in ("word-l2r", "original"):
        found = scored(folder, pll=pll)
        model = load_model(str(folder / "target"), device="cpu", pll=pll)
        stats = model.token_stats(model.vocabulary.encode_all(TEXTS), [[2]] * len(TEXTS))
        assert found["loss"].tolist() == pytest.approx((-stats.nll()).tolist())
    assert scored(folder)["loss"].tolist() != found["loss"].tolist()


def test_the_masked_reference_ratio_uses_the_same_masks_for_both_models(folder):
    same = scored(folder, references={"same": str(folder / "target")})
    assert same["masked_reference:same"].tolist() == [0.0] * len(TEXTS)
    found = scored(folder, references={"r": str(folder / "reference")})
    losses = []
    for name in ("reference", "target"):
        model = load_model(str(folder / name), device="cpu")
        losses.append(model.masked_losses(model.vocabulary.encode_all(TEXTS)))
    assert found["masked_reference:r"].tolist() == pytest.approx((losses[0] - losses[1]).tolist())


def test_without_a_reference_of_the_same_tokenizer_there_is_no_masked_ratio(folder):
    ended = command(
        *("score", folder / "texts.jsonl", "--model", folder / "target", "--device", "cpu"),
        *("--reference", f"o={folder}/other", "--out", folder / "s.csv"),
    )
    assert ended.code == 0
    assert "masked_reference is left out for o" in ended.err
    frame = pd.read_csv(folder / "s.csv")
    assert "reference:o" in frame
    assert "masked_reference:o" not in frame
    assert not [name for name in scored(folder) if name.startswith("masked_reference")]


def test_a_reference_of_another_kind_is_refused(folder):
    with pytest.raises(ModelError, match="must be a masked language model"):
        scored(folder, references={"r": str(folder / "causal")})


def test_an_audit_runs_from_command_to_report(folder, tmp_path):
    ended = command(
        *("audit", "--model", folder / "target", "--reference", f"r={folder}/reference"),
        *("--corpus", folder / "texts.jsonl", "--samples", 4, "--max-new-tokens", 6),
        *("--sweeps", 2, "--chain", "metropolis-hastings", "--out", tmp_path / "run"),
    )
    assert ended.code == 0, ended.err
    assert (tmp_path / "run" / "report.html").exists()
    chains = json.loads((tmp_path / "run/manifest.json").read_text())["stages"]["sample"]["chains"]
    assert chains["top-n"]["method"] == "metropolis-hastings"
    assert chains["top-n"]["burn_in"] == 2 * 6
    assert chains["top-n"]["proposed"] == 2 * 6 * 4
    assert chains["top-n"]["thinning"] == 0
    share = chains["top-n"]["accepted"] / chains["top-n"]["proposed"]
    assert chains["top-n"]["acceptance"] == pytest.approx(share, abs=1e-4)
    rows = pd.read_parquet(tmp_path / "run/samples/top-n-00000.parquet")
    model = load_model(str(folder / "target"), device="cpu")
    stats = model.token_stats(rows["token_ids"].tolist(), rows["prompt_token_ids"].tolist())
    assert np.concatenate(rows["logprob"]).tolist() == pytest.approx(stats.logprob.tolist())


def test_two_masked_models_are_compared_without_extraction(folder):
    made = {"device": "cpu", "progress": None, "texts": [folder / "texts.jsonl"]}
    found = compare_models(str(folder / "reference"), str(folder / "target"), **made)
    assert np.isfinite(found.texts["likelihood_change"]).all()
    assert found.texts["extracted_tuned"].isna().all()
    assert "masked models do not continue a prefix" in " ".join(found.notes)
    with pytest.raises(ModelError, match="must be of the same kind; got masked and causal"):
        compare_models(str(folder / "reference"), str(folder / "causal"), **made)
