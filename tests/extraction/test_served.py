"""Extraction from a served model: greedy continuation, and the control with other prefixes."""

import numpy as np
import pytest

from auditor.config.served import Served
from auditor.errors import ConfigError
from auditor.extraction.continuation import common_prefixes
from auditor.extraction.extract import extract
from tests.serving import NAME, save_served_model, serving
from tests.tiny import save_texts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_served_model(tmp_path_factory.mktemp("served") / "model")


def test_rows_agree_up_to_their_first_difference():
    given = common_prefixes(np.array([[1, 2, 3], [9, 2, 3]]), np.array([[1, 2, 3], [1, 2, 3]]))
    assert given.tolist() == [[True] * 3, [False] * 3]


def test_greedy_extraction_equals_that_of_the_same_weights(folder, tmp_path):
    from auditor.config.audit import Decoding
    from auditor.models.loading import load_model
    from auditor.sampling.generate import generate

    # Documents that the model continues exactly, and one that it does not.
    local = load_model(str(folder), dtype="float32")
    prompts = [[0, *local.vocabulary.encode(text)] for text in ("the", "dog", "fox")]
    drawn, _ = generate(
        local,
        prompts,
        range(3),
        seed=0,
        stream="s",
        decoding=Decoding(max_new_tokens=24, top_k=1),
        n_slots=3,
    )
    texts = [
        local.vocabulary.decode([*p[1:], *row.tolist()])
        for p, row in zip(prompts, drawn.token_ids, strict=True)
    ]
    corpus = save_texts(tmp_path / "c.jsonl", [*texts, "away from all of them " * 8])
    sizes = {"prefix_tokens": 4, "suffix_tokens": 5, "progress": False}
    with serving(folder) as fake:
        served = Served(served_model=NAME, tokenizer=str(folder))
        found = extract([fake.url], [corpus], served=served, **sizes)
    here = extract([str(folder)], [corpus], **sizes)
    assert found.examples["greedy"].tolist() == here.examples["greedy"].tolist()
    assert 0 < found.examples["greedy"].sum() < len(found.examples)
    assert not found.examples["greedy_unrelated"].any()
    assert found.examples["log_p_z"].isna().all()
    assert found.summary["outcome"].unique().tolist() == ["greedy", "greedy, unrelated prefix"]
    assert "after the prefix of another document, in 0.0 % (0.0–60.2; 0 of 4)" in found.headline[0]


def test_options_of_a_server_need_a_server(folder, tmp_path):
    corpus = save_texts(tmp_path / "c.jsonl", ["the quick brown fox " * 8])
    with pytest.raises(ConfigError) as told:
        extract([str(folder)], [corpus], served={"served_model": "x"}, progress=False)
    assert str(told.value) == (
        f"--served-model is for models behind a server; got --model {str(folder)!r}. Give the "
        "server's address, such as http://localhost:8000/v1, or remove the option."
    )
