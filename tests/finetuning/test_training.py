"""Training rows, split and weights, and the training loop."""

from collections import Counter

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from auditor.config.finetuning import FinetuneConfig
from auditor.errors import ConfigError, ModelError
from auditor.finetuning.finetune import finetune
from auditor.finetuning.rows import pad, read_text
from auditor.finetuning.training import Recipe, batch_loss, make_trainer, train
from auditor.models.loading import load_model
from auditor.models.preserve_state import isolated_rng
from tests.tiny import WORDS, save_texts


def asked(*corpora, **options):
    return FinetuneConfig(model="m", corpora=corpora, **options)


def read(base, config):
    return read_text(config, AutoTokenizer.from_pretrained(base), 64)


def spelt(base, text):
    tokenizer = AutoTokenizer.from_pretrained(base)
    return Counter(tokenizer.decode(row, skip_special_tokens=True) for row in text.rows)


def test_weights_and_repeats_are_how_often_a_document_stands(tmp_path, base):
    one = save_texts(tmp_path / "one.jsonl", ["fox a", "fox b", "fox c", "fox d"])
    two = save_texts(tmp_path / "two.jsonl", ["dog a", "dog b"])
    config = FinetuneConfig(
        model="m", corpora=(one, two), weights=(0.5, 3), heldout_documents=0, repeats=1
    )
    counts = spelt(base, read(base, config))
    assert sorted(counts[f"fox {x}"] for x in "abcd") == [0, 0, 1, 1]
    assert [counts[f"dog {x}"] for x in "ab"] == [3, 3]
    config = FinetuneConfig(
        model="m", corpora=(one, two), weights=(1, 2), heldout_documents=0, repeats=2
    )
    counts = spelt(base, read(base, config))
    assert [counts["fox a"], counts["dog a"]] == [2, 4]


def test_held_out_documents_are_never_trained_on_not_even_their_copies(tmp_path, base):
    texts = [f"text {i}" for i in range(6)] * 3
    config = FinetuneConfig(
        model="m", corpora=(save_texts(tmp_path / "a.jsonl", texts),), heldout_documents=2
    )
    text = read(base, config)
    trained = set(spelt(base, text))
    assert len(text.heldout) == 2
    assert not trained & set(text.heldout)
    assert trained == set(text.members)
    assert trained | set(text.heldout) == set(texts)
    assert set(spelt(base, text).values()) == {3}


def test_given_held_out_text_is_taken_out_of_the_training_text(tmp_path, base):
    a = save_texts(tmp_path / "a.jsonl", ["one", "two", "three"])
    b = save_texts(tmp_path / "b.jsonl", ["two", "four"])
    text = read(base, asked(a, heldout=(b,)))
    assert set(spelt(base, text)) == {"one", "three"}
    assert set(text.heldout) == {"two", "four"}
    assert text.notes == ["1 held-out documents are also in the corpus; they are not trained on."]


def test_a_long_document_is_cut_into_rows_and_nothing_is_lost(tmp_path, base):
    path = tmp_path / "a.txt"
    path.write_text(WORDS * 12)
    text = read(base, asked(str(path), heldout_documents=0))
    assert len(text.rows) > 2
    assert max(len(row) for row in text.rows) == 64
    tokenizer = AutoTokenizer.from_pretrained(base)
    every = np.concatenate([text.rows[i] for i in range(len(text.rows))])
    assert every.tolist() == [0, *tokenizer(WORDS * 12, add_special_tokens=False)["input_ids"], 0]


def test_a_corpus_of_one_document_has_nothing_to_hold_out(tmp_path, base):
    one = save_texts(tmp_path / "one.jsonl", [WORDS, WORDS])
    with pytest.raises(ConfigError, match="below 1, the number of distinct documents; got 1"):
        finetune(str(base), one, out=tmp_path / "out")


def test_the_split_depends_on_the_seed_and_nothing_else(tmp_path, base):
    lines = [f"text {i}" for i in range(30)]
    one = save_texts(tmp_path / "a.jsonl", lines)
    other = save_texts(tmp_path / "b.jsonl", lines[::-1])
    held = [
        set(read(base, asked(path, heldout_documents=5, seed=seed)).heldout)
        for path, seed in ((one, 0), (other, 0), (one, 1))
    ]
    assert held[0] == held[1] != held[2]
    assert len(held[0]) == 5


def test_what_trains_testbeds_trains_the_same_weights_bit_for_bit(tmp_path, base, texts):
    """`auditor finetune` adds checkpoints and measurements to the testbed's training, no step."""
    same = {"epochs": 2, "batch": 4, "seed": 5}
    done = finetune(
        str(base), texts, out=tmp_path / "out", heldout_documents=0, learning_rate=1e-2,
        save_every=3, probe_every=4, **same,
    )  # fmt: skip
    network = load_model(str(base), dtype="float32").network
    rows = read(base, asked(texts, heldout_documents=0, seed=5)).rows
    told = []
    train(network, rows, Recipe(rate=1e-2, **same), progress=lambda *at: told.append(at))
    saved = load_model(str(done.folder), dtype="float32").network
    for weight, other in zip(network.parameters(), saved.parameters(), strict=True):
        assert torch.equal(weight, other)
    assert done.manifest["final"]["member_nll"] < 5  # of 300 tokens, ln 300 = 5.7 before
    assert told == [(step, 10) for step in range(1, 11)]


def test_training_that_goes_wrong_without_a_folder_is_reported_too(base, texts):
    network = load_model(str(base), dtype="float32").network
    rows = read(base, asked(texts, heldout_documents=0)).rows
    with pytest.raises(ModelError, match=r"not a number at step \d+\. Lower the rate \(got 1e\+30"):
        train(network, rows, Recipe(rate=1e30, batch=4, epochs=9))


def test_loss_without_padding_is_the_models_own(base, texts):
    network = load_model(str(base), dtype="float32").network
    rows = read(base, asked(texts, heldout_documents=0)).rows
    batch = pad([rows[0], rows[1][:7], rows[2][:2]])
    with torch.no_grad():
        assert batch_loss(network, **batch).item() == pytest.approx(network(**batch).loss.item())


def test_a_model_that_scales_its_logits_is_trained_by_its_own_loss(
    tmp_path, base, texts, monkeypatch
):
    """Granite's way: logits divided by a constant, which a bare projection would miss."""
    network = load_model(str(base), dtype="float32").network
    rows = read(base, asked(texts, heldout_documents=0)).rows
    with isolated_rng(0):
        assert make_trainer(network, rows, Recipe(rate=1e-3, batch=2), folder=tmp_path).is_plain
    forward = network.forward

    def scaled(labels=None, **inputs):
        out = forward(**inputs)
        out["loss"] = network.loss_function(out.logits / 8, labels, vocab_size=300)
        return out

    monkeypatch.setattr(network, "forward", scaled)
    with isolated_rng(0):
        odd = make_trainer(network, rows, Recipe(rate=1e-3, batch=2), folder=tmp_path)
    assert not odd.is_plain
    batch = pad([rows[0], rows[1]])
    assert odd.compute_loss(network, batch).item() == pytest.approx(scaled(**batch)["loss"].item())
