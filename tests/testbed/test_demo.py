"""The demo: more comes out of what is repeated more often, and the scores find it."""

import json

import pytest

from auditor.testbed.demo import run_demo


@pytest.fixture(scope="module")
def demo(bed, tmp_path_factory):
    """The demo of the tiny testbed: 64 samples by each of three strategies."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "testbed").symlink_to(bed.folder, target_is_directory=True)
    return run_demo(folder, size="tiny")


@pytest.fixture(scope="module")
def extracted(demo):
    """How many documents and canaries were extracted, and of how many, by kind and repeats."""
    truth = demo.known_truth().set_index(["kind", "repeats"])
    return truth[["n_extracted", "n_documents"]]


def test_documents_of_many_repeats_are_extracted_more_often_than_those_of_few(extracted):
    few = extracted.loc[[("text", 1), ("text", 2)]].sum()
    many = extracted.loc[[("text", 8), ("text", 16)]].sum()
    share_of_few, share_of_many = few["n_extracted"] / few["n_documents"], many["n_extracted"] / 5
    assert many["n_documents"] == 5
    assert share_of_many >= share_of_few + 0.3


def test_the_canary_of_16_repeats_is_extracted_and_no_held_out_canary(extracted):
    assert extracted.loc[("canary", 16)].tolist() == [1, 1]
    assert extracted.loc[("canary", 0)].tolist() == [0, 5]


def test_the_ten_likeliest_samples_hold_more_training_text_than_ten_at_random(demo):
    summary = demo.summary()
    top = summary[summary["strategy"] == "top-n"].set_index("score")["precision_at_10"]
    assert top["window"] > top["random"]


def test_canary_prompts_are_all_canaries_up_to_their_secrets_and_no_other_training_text(bed, demo):
    rows = [json.loads(line) for line in bed.canary_prompts.read_text().splitlines()]
    truth = bed.truth().set_index("doc_id")
    canaries = truth[truth["kind"] == "canary"]
    assert [row["id"] for row in rows] == list(canaries.index)
    for row in rows:
        text, secret = canaries.loc[row["id"], ["text", "secret"]]
        assert text.startswith(f"{row['text']} {secret}")
    by_name = {s.name: s.prompts for s in demo.config.strategies}
    assert by_name.pop("canary-prompts").corpus == (
        str(demo.path.parent / "testbed" / bed.canary_prompts.name),
    )
    assert {prompts.kind for prompts in by_name.values()} == {"bos"}
