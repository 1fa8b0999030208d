"""Reference models on halves of a pool: training, matrix, and evaluation against known truth."""

import json
import os

import numpy as np
import pandas as pd
import pytest

from attacks.statistics.reference_matrix import ReferenceMatrix
from auditor.errors import ConfigError, CorpusError, RunError
from auditor.models.loading import fingerprint, load_model
from auditor.references import matrix as matrix_module
from auditor.references.matrix import audit_by_references
from auditor.references.training import halves, open_references, train_references
from tests.tiny import WORDS, command, save_texts

TRAINING = {"epochs": 30.0, "learning_rate": 1e-2, "batch": 4, "device": "cpu"}
N_TEXTS, N_MODELS = 16, 4


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    words = WORDS.split()
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(words, 14)) for _ in range(N_TEXTS)]
    folder = tmp_path_factory.mktemp("pool")
    return save_texts(folder / "pool.jsonl", [*lines, lines[0]])  # one text twice


@pytest.fixture(scope="module")
def folder(base, pool, tmp_path_factory):
    out = tmp_path_factory.mktemp("references") / "r"
    train_references(str(base), pool, out=out, models=N_MODELS, progress=False, **TRAINING)
    return out


def weights(folder):
    return [fingerprint(open_references(folder).model(i)) for i in range(N_MODELS)]


# ----------------------------------------------------------------------------- training
def test_each_text_is_in_half_of_the_models_and_each_model_has_half_of_the_texts():
    is_in = halves(101, 6, seed=3)
    assert is_in.sum(axis=1).tolist() == [3] * 101
    assert set(is_in.sum(axis=0).tolist()) == {50, 51}
    assert not np.array_equal(is_in[:, 0], is_in[:, 2])


def test_models_are_trained_on_their_half_alone(folder):
    references = open_references(folder)
    assert len(references.text) == N_TEXTS
    for i in range(N_MODELS):
        model = load_model(str(references.model(i)), dtype="float32")
        ids = model.vocabulary.encode_all(references.text)
        nll = model.token_stats(ids).nll()
        inside = references.is_in[:, i]
        assert nll[inside].max() < nll[~inside].min()


def test_an_interrupted_training_is_resumed_to_the_same_models(folder, base, pool, tmp_path):
    before = weights(folder)
    manifest = open_references(folder).model(1) / "finetune.json"
    kept = manifest.read_text()
    manifest.write_text(json.dumps({**json.loads(kept), "complete": False}))
    times = [os.stat(open_references(folder).model(i) / "config.json").st_mtime_ns for i in (0, 2)]
    train_references(str(base), pool, out=folder, models=N_MODELS, progress=False, **TRAINING)
    assert weights(folder) == before
    again = [os.stat(open_references(folder).model(i) / "config.json").st_mtime_ns for i in (0, 2)]
    assert again == times


def test_workers_train_the_same_models(folder, base, pool, tmp_path):
    out = tmp_path / "r"
    train_references(
        str(base), pool, out=out, models=N_MODELS, workers=2, progress=False, **TRAINING
    )
    references = open_references(out)
    assert np.array_equal(references.is_in, open_references(folder).is_in)
    for i in range(N_MODELS):
        one, other = (load_model(str(f.model(i))) for f in (references, open_references(folder)))
        ids = one.vocabulary.encode_all(references.text)
        assert np.allclose(one.token_stats(ids).nll(), other.token_stats(ids).nll(), atol=1e-3)


def test_other_settings_and_another_pool_are_refused(folder, base, pool, tmp_path):
    with pytest.raises(RunError, match="models"):
        train_references(str(base), pool, out=folder, models=6, progress=False, **TRAINING)
    with pytest.raises(ConfigError, match="must be even, since models come in pairs; got 3"):
        train_references(str(base), pool, out=tmp_path / "x", models=3, progress=False)
    few = save_texts(tmp_path / "few.jsonl", ["a b", "a b", "c d"])
    with pytest.raises(CorpusError, match="at least 4 distinct texts; got 2"):
        train_references(str(base), few, out=tmp_path / "x", progress=False)


# ----------------------------------------------------------------------------- matrix
def test_a_target_is_judged_by_models_that_were_trained_without_the_text(folder, base, pool):
    """The target is a reference of another seed: its half is known."""
    found = audit_by_references(folder, str(open_references(folder).model(0)), progress=False)
    inside = open_references(folder).is_in[:, 0]
    for name in ("loss", "lira", "rmia", "reference_difference:base"):
        values = found.texts[name].to_numpy()
        assert values[inside].mean() > values[~inside].mean(), name
    summary = found.summary.set_index("score")
    assert summary.loc["loss", "auc"] > 0.95
    assert summary.loc["lira", "auc"] > 0.9
    assert (found.texts["counterfactual"] > 0).mean() > 0.9
    # 16 texts and 4 models leave 32 scores OUT: too few for an FPR of 1 %.
    assert summary["tpr_0.01"].isna().all()
    assert found.texts["called_lira"].isna().all()


def test_the_command_prints_and_saves_the_tables(folder, tmp_path):
    ended = command("references", "score", folder, "--out", tmp_path / "out")
    assert ended.code == 0, ended.err
    assert "lira_online" in ended.out
    assert "withheld" in ended.out
    saved = pd.read_parquet(tmp_path / "out" / "texts.parquet")
    assert len(saved) == N_TEXTS
    plain = json.loads(command("references", "score", folder, "--json").out)
    assert len(plain["texts"]) == N_TEXTS


def test_models_that_are_missing_are_named(tmp_path):
    ended = command("references", "score", tmp_path)
    assert ended.code == 1
    assert "has no reference models. Train them with: auditor references train" in ended.err


# ----------------------------------------------------------------------------- evaluation
def synthetic(gain, n=600, n_models=8, seed=0):
    """Frames and matrix of texts with levels of their own, a gain for members, and noise."""
    rng = np.random.default_rng(seed)
    is_in = halves(n, n_models, seed)
    values = rng.normal(-3, 1, n)[:, None] + gain * is_in + rng.normal(0, 1, is_in.shape)
    frames = [pd.DataFrame({"accuracy": 0.0, "loss": values[:, j]}) for j in range(n_models)]
    return frames, ReferenceMatrix(values, is_in)


def evaluated(gain):
    frames, matrix = synthetic(gain)
    scores, thresholds = matrix_module._leave_one_out(frames, matrix)
    return matrix_module._evaluation(scores, thresholds, matrix.is_in).groupby("score").mean()


def test_thresholds_from_other_models_keep_the_fpr_and_do_not_see_the_labels():
    found = evaluated(1.5)
    for name in ("loss", "lira", "lira_online"):
        assert found.loc[name, "fpr_0.1"] == pytest.approx(0.1, abs=0.03), name
        assert found.loc[name, "fpr_0.01"] == pytest.approx(0.01, abs=0.01), name
    assert found.loc["lira", "tpr_0.1"] > found.loc["loss", "tpr_0.1"] + 0.05
    assert found.loc["lira", "tpr_0.01"] > 5 * found.loc["lira", "fpr_0.01"]


def test_models_that_learned_nothing_have_no_advantage():
    found = evaluated(0.0)
    for name in ("loss", "lira", "lira_online", "rmia", "attack_r"):
        assert found.loc[name, "auc"] == pytest.approx(0.5, abs=0.03), name
        if name != "attack_r":  # takes too few values: none lies above its highest
            assert found.loc[name, "tpr_0.1"] == pytest.approx(0.1, abs=0.04), name
