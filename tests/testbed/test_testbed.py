"""The testbed: its truth is the truth of its files, and its model remembers by repeats."""

import json

import numpy as np
import pytest

from auditor.errors import ConfigError, RunError
from auditor.models.loading import load_model
from auditor.testbed.testbed import REPEATS, SIZES, Shape, Size, build_testbed, cut, plan


def _rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_corpus_holds_each_member_as_often_as_truth_says(bed):
    counts = {}
    for row in _rows(bed.corpus):
        counts[row["text"]] = counts.get(row["text"], 0) + 1
    truth = bed.truth()
    members = truth[truth["member"]]
    assert counts == dict(zip(members["text"], members["repeats"], strict=True))


def test_no_heldout_text_or_control_secret_is_in_the_training_text(bed):
    training = "\n".join(row["text"] for row in _rows(bed.corpus))
    truth = bed.truth()
    outside = truth[~truth["member"]]
    assert len(outside) > 40
    assert not any(text in training for text in outside["text"])
    assert not any(secret in training for secret in outside["secret"].dropna())


def test_secrets_of_inserted_canaries_are_in_the_training_text(bed):
    training = "\n".join(row["text"] for row in _rows(bed.corpus))
    truth = bed.truth()
    inside = truth[truth["member"] & (truth["kind"] == "canary")]
    assert sorted(inside["repeats"]) == list(REPEATS)
    assert all(secret in training for secret in inside["secret"])


def test_target_finds_often_repeated_text_likelier(bed):
    """The planted truth itself: mean nats fall with every doubling of the repeats."""
    model = load_model(bed.target)
    truth = bed.truth()
    texts = truth[truth["kind"] == "text"]
    nll = model.token_stats([model.vocabulary.encode(t) for t in texts["text"]]).nll()
    means = [nll[(texts["repeats"] == r).to_numpy()].mean() for r in (0, *REPEATS)]
    assert (np.diff(means) < 0).all()
    assert means[-1] < 0.5 < means[0]


def test_references_do_not_know_members_better_than_heldout_text(bed):
    truth = bed.truth()
    texts = truth[truth["kind"] == "text"]
    for spec in bed.references.values():
        model = load_model(spec)
        nll = model.token_stats([model.vocabulary.encode(t) for t in texts["text"]]).nll()
        is_member = texts["member"].to_numpy(bool)
        assert nll[is_member].mean() > nll[~is_member].mean() - 0.05


def test_same_seed_same_plan_and_another_seed_another():
    documents = cut(40, 420)
    size = SIZES["tiny"]
    assert plan(documents, size, 3).equals(plan(documents, size, 3))
    assert not plan(documents, size, 3).equals(plan(documents, size, 4))


def test_cut_documents_differ_and_keep_to_their_length():
    documents = cut(200, 420)
    assert len(set(documents)) == len(documents)
    # A single line may be longer than the limit; all else keeps to it.
    assert all(len(d) <= 420 or "\n" not in d for d in documents)


def test_made_again_with_the_same_settings_it_is_opened(bed):
    before = bed.truth_file.stat().st_mtime_ns
    assert build_testbed(bed.folder, size="tiny").truth_file.stat().st_mtime_ns == before


def test_another_seed_into_the_same_folder_is_refused(bed):
    with pytest.raises(RunError, match=r"another testbed: seed is 0 stored, 1 requested"):
        build_testbed(bed.folder, size="tiny", seed=1)


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "letters.txt").write_text("mine")
    with pytest.raises(RunError, match="is not a testbed's folder"):
        build_testbed(tmp_path, size="tiny")
    assert (tmp_path / "letters.txt").read_text() == "mine"


def test_unknown_size_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"tiny, small; got 'huge'"):
        build_testbed(tmp_path / "x", size="huge")


def test_a_masked_testbed_finds_repeated_text_likelier(tmp_path, monkeypatch):
    small = Size(
        n_documents=24,
        document_chars=120,
        n_vocab=300,
        context=96,
        canaries_each=1,
        secret_digits=10,
        batch=8,
        rate=5e-3,
        target=Shape(1, 48, 2, 8),
        small=Shape(1, 16, 2, 1),
        medium=Shape(1, 16, 2, 1),
    )
    monkeypatch.setitem(SIZES, "smaller", small)
    bed = build_testbed(tmp_path / "bed", size="smaller", family="bert")
    assert [load_model(spec).kind for spec in (bed.target, *bed.references.values())] == (
        ["masked"] * 3
    )
    model = load_model(bed.target)
    texts = bed.truth().query("kind == 'text'")
    nll = model.token_stats([model.vocabulary.encode(t) for t in texts["text"]]).nll()
    often = (texts["repeats"] >= 8).to_numpy()
    assert nll[often].max() < nll[~texts["member"].to_numpy()].min()
    # The text is kept exactly, so that matches can be verified.
    assert all(model.vocabulary.decode(model.vocabulary.encode(t)) == t for t in texts["text"])
    with pytest.raises(RunError, match="family"):
        build_testbed(tmp_path / "bed", size="smaller")


def test_an_unknown_family_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="family must be one of gpt2, bert, t5; got 'gpt3'"):
        build_testbed(tmp_path / "x", family="gpt3")
