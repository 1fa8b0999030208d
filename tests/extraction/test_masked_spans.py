"""Masked spans: filled as a plain loop fills them, and recovered where they were learned."""

import numpy as np
import pandas as pd
import pytest
import torch

from attacks.statistics.intervals import clopper_pearson
from auditor.errors import ConfigError, ModelError
from auditor.extraction.masked_spans import fill_span, recover_spans, summarize_spans
from auditor.extraction.windows import draw_windows
from auditor.finetuning.masking import masking
from auditor.finetuning.rows import IGNORED, Rows
from auditor.finetuning.training import Recipe, train
from auditor.models.loading import load_model
from auditor.models.tiny_bert import build_bert
from auditor.models.tokenizer import Vocabulary
from tests.models.masked import bert_tokenizer, save_bert
from tests.tiny import command, save_texts, save_tiny_model

CLS, SEP, MASK = 2, 3, 4
LEARNED = "the cat sat on the mat . the dog ran un played"
OTHER = "the mat ran on the dog . un cat sat the playing"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model that has learned one text by heart, and one with the weights of its start."""
    made = tmp_path_factory.mktemp("spans")
    tokenizer = bert_tokenizer()
    shape = {"n_layer": 2, "width": 32, "n_head": 2, "context": 32}
    network = build_bert(n_vocab=len(tokenizer), pad_id=0, seed=1, **shape)
    row = np.array(tokenizer(LEARNED)["input_ids"], dtype=np.int32)
    recipe = Recipe(rate=5e-3, batch=16, epochs=150, beta2=0.98)
    train(network, Rows.of([row] * 16), recipe, collate=masking(tokenizer, share=0.4))
    network.save_pretrained(made / "target")
    tokenizer.save_pretrained(made / "target")
    save_bert(made / "untrained", seed=2)
    save_texts(made / "text.jsonl", [LEARNED, LEARNED, OTHER])
    return made


def test_spans_are_filled_most_confident_first(folder):
    model = load_model(str(folder / "untrained"), device="cpu")
    windows = np.array([[5, 6, 8, 10, 11, 7, 9], [7, 7, 6, 5, 9, 12, 13]])
    found, log_p = fill_span(model, windows, 2, 4)
    for window, got, nats in zip(windows.tolist(), found.tolist(), log_p, strict=True):
        ids = [CLS, *window, SEP]
        ids[3:7] = [MASK] * 4
        first = None
        while MASK in ids:
            with torch.inference_mode():
                logits = model.network(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            first = logits if first is None else first
            left = [t for t, i in enumerate(ids) if i == MASK]
            best = max(left, key=lambda t, p=logits: p[t, 5:].max())
            ids[best] = 5 + int(logits[best, 5:].argmax())
        assert got == ids[3:7]
        own = sum(first[1 + t, window[t]].item() for t in range(2, 6))
        assert nats == pytest.approx(own, abs=1e-4)


def test_a_learned_text_is_recovered_and_others_are_not(folder):
    made = recover_spans(
        str(folder / "target"),
        [folder / "text.jsonl"],
        references={"r": str(folder / "untrained")},
        window_tokens=12,
        span_tokens=(1, 5),
        device="cpu",
        progress=None,
    )
    rows = made.examples
    assert rows["doc_id"].tolist() == ["text.jsonl:1", "text.jsonl:3"] * 2
    assert rows["repeats"].tolist() == [2, 1] * 2
    assert rows["recovered"].tolist() == [True, False] * 2
    assert not rows["reference_recovered"].any()
    assert rows["guess"][2] == rows["text"][2] == " on the mat. the"
    start, end = rows.loc[2, ["span_start", "span_end"]]
    assert LEARNED[start:end] == " on the mat . the"
    whole = made.summary[made.summary["repeats_from"].isna()]
    assert whole["n_only"].tolist() == [1, 1]
    assert "recovers 5 masked tokens in 1 of 2" in made.headline[1]


def test_the_summary_takes_away_what_references_recover():
    rows = pd.DataFrame(
        {
            "model": "m",
            "span_tokens": 5,
            "repeats": pd.array([1, 1, 4, None], dtype="Int64"),
            "recovered": [True, True, True, False],
            "reference_recovered": [True, False, False, True],
        }
    )
    found = summarize_spans(rows)
    assert found["n_examples"].tolist() == [4, 2, 1]
    assert found["n_recovered"].tolist() == [3, 2, 1]
    assert found["n_reference"].tolist() == [2, 1, 0]
    assert found["n_only"].tolist() == [2, 1, 1]
    assert found.loc[0, ["only_low", "only_high"]].tolist() == pytest.approx(
        np.ravel(clopper_pearson(2, 4))
    )


def test_windows_of_lower_cased_tokens_keep_the_text_of_the_document():
    tokenizer = bert_tokenizer()
    documents = [type("D", (), {"text": "The  Cat sat, \u00c9 on. THE dog", "doc_id": "d"})()]
    vocabulary = Vocabulary(tokenizer, tokenizer.cls_token)
    found = draw_windows(
        documents, vocabulary, n_prefix=2, n_suffix=1, examples=1, seed=0, from_start=True
    )
    assert found.text == ["The  Cat sat"]
    assert found.char_ends.tolist() == [[0, 3, 8, 12]]


def test_masking_hides_other_tokens_each_time_and_never_special_ones():
    tokenizer = bert_tokenizer()
    rows = [np.array([CLS, *range(5, 18), SEP], np.int32), np.array([CLS, 5, SEP], np.int32)]
    collate = masking(tokenizer, share=0.3)
    seen = []
    for _ in range(30):
        batch = collate(rows)
        ids, labels = batch["input_ids"], batch["labels"]
        hidden = labels != IGNORED
        assert (ids[hidden] == MASK).all()
        restored = torch.where(hidden, labels, ids)
        assert restored[0].tolist() == rows[0].tolist()
        assert restored[1, :3].tolist() == rows[1].tolist()
        assert ids[1, 1] == MASK  # at least one token of each row
        assert batch["attention_mask"].sum(dim=1).tolist() == [15, 3]
        seen.append(hidden[0].sum().item())
    assert 0.2 < np.mean(seen) / 13 < 0.4


def test_options_of_the_other_kind_are_refused(folder, tmp_path):
    text, target = folder / "text.jsonl", folder / "target"
    wrong = command("extract", "--model", target, "--corpus", text, "--prefix-tokens", 5)
    assert wrong.code == 2
    assert "--prefix-tokens is for causal models" in wrong.err
    causal = save_tiny_model(tmp_path / "gpt2")
    wrong = command("extract", "--model", causal, "--corpus", text, "--span-tokens", 5)
    assert "--span-tokens is for masked models" in wrong.err


def test_invalid_options_are_refused(folder):
    corpus, target = [folder / "text.jsonl"], str(folder / "target")
    with pytest.raises(ConfigError, match="tokens must be below"):
        recover_spans(target, corpus, window_tokens=10, span_tokens=10)
    with pytest.raises(ConfigError, match="must be below the context"):
        recover_spans(target, corpus, window_tokens=40, device="cpu", progress=None)
    made = {"window_tokens": 12, "span_tokens": 1, "device": "cpu", "progress": None}
    save_bert(folder / "other", words=["a", "b"])
    with pytest.raises(ModelError, match="must have the tokenizer of"):
        recover_spans(target, corpus, references={"r": str(folder / "other")}, **made)


def test_the_command_saves_tables_and_prints_the_shares(folder, tmp_path):
    options = ("--window-tokens", 12, "--span-tokens", 5, "--reference", f"r={folder}/untrained")
    ended = command(
        *("extract", "--model", folder / "target", "--corpus", folder / "text.jsonl"),
        *(*options, "--out", tmp_path / "out"),
    )
    assert ended.code == 0
    assert "1 of 2" in ended.out
    saved = pd.read_parquet(tmp_path / "out" / "examples.parquet")
    assert saved["recovered"].tolist() == [True, False]
