"""Neighbours: similar to the text, never equal to it, and reproducible."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.errors import ModelError
from auditor.models.masked import MaskedModel, load_masked_model
from auditor.scoring.perturbation import Perturbation, _rng, drop_and_swap
from tests.tiny import save_tiny_model

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "runs"]


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab \n\té漢", max_size=60), st.integers(0, 6), st.integers(0, 3))
def test_neighbours_are_others_distinct_and_made_of_the_texts_own_words(text, n, seed):
    found = drop_and_swap(text, n, seed=seed)
    assert len(found) <= n
    assert len(set(found)) == len(found)
    assert text not in found
    units = text.split() if len(text.split()) > 1 else list(text.strip())
    for near in found:
        assert near.strip()
        kept = near.split() if len(text.split()) > 1 else list(near.strip())
        assert all(kept.count(unit) <= units.count(unit) for unit in kept)
        # A tenth of the words, at least one, and nothing more.
        assert len(units) - len(kept) <= max(1, round(0.1 * len(units)))
    assert found == drop_and_swap(text, n, seed=seed)


def test_all_neighbours_of_two_words_are_found():
    assert sorted(drop_and_swap("to be", 9)) == ["be", "be to", "to "]


@pytest.mark.parametrize("text", ["", "a", " ", "\n"])
def test_a_text_with_nothing_to_change_has_no_neighbours(text):
    assert drop_and_swap(text, 5) == []


def test_white_space_stays_where_no_word_was_dropped():
    text = "  one\ttwo\n\nthree  four five six "
    swapped = [t for t in drop_and_swap(text, 30) if len(t.split()) == 6]
    assert swapped
    for near in swapped:
        assert re.sub(r"\S", "", near) == re.sub(r"\S", "", text)


def test_another_seed_gives_other_neighbours():
    text = " ".join(WORDS * 5)
    assert drop_and_swap(text, 5, seed=1) != drop_and_swap(text, 5, seed=2)


# ---------------------------------------------------------------------------- by a masked model
@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A tiny random BERT whose vocabulary is ten words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    table = {word: i for i, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(table, unk_token="[UNK]"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=32,
        **dict(zip(names, special, strict=True)),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = BertForMaskedLM(
            BertConfig(
                vocab_size=len(table),
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=16,
                max_position_embeddings=32,
            )
        )
    network.save_pretrained(folder)
    fast.save_pretrained(folder)
    return load_masked_model(str(folder), device="cpu")


def test_a_masked_model_replaces_one_word_by_another(bert):
    text = "the quick fox  jumps over a dog"
    found = Perturbation(9, masked=bert).neighbours(text)
    assert len(found) == len(set(found)) == 9
    for near in found:
        changed = [a != b for a, b in zip(text.split(), near.split(), strict=True)]
        assert sum(changed) == 1
        assert set(near.split()) <= set(WORDS)
        assert "  " in near


def test_neighbours_come_best_first(bert):
    text = "the quick fox jumps over a dog"
    few, many = (Perturbation(n, masked=bert).neighbours(text) for n in (3, 9))
    assert few == many[:3]
    best = bert.replacements(text, 1, rng=_rng(text, 0))[0]
    assert few[0] == text[: best.start] + best.text + text[best.end :]


def test_the_same_text_and_seed_give_the_same_replacements(bert):
    text = "the quick fox jumps"
    one, two = (Perturbation(5, seed=s, masked=bert).neighbours(text) for s in (1, 1))
    assert one == two
    assert Perturbation(5, seed=1, masked=bert).how.startswith("a word replaced by ")


def test_replacements_are_the_most_suitable_by_a_slow_computation(bert):
    """Suitability by its formula, one place after the other, with nothing dropped."""
    import numpy as np

    text = "the lazy dog runs"
    ids = bert.tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        p = bert.network(input_ids=ids).logits[0].double().softmax(-1)
    own = ids[0].tolist()
    best = {}
    for place, word in enumerate(text.split(), start=1):
        top = p[place].argsort(descending=True)[:6].tolist()
        for token in top:
            if token > 4 and token != own[place]:
                score = float(p[place, token] / (1 - p[place, own[place]]))
                best[word, bert.tokenizer.decode([token])] = score
    found = bert.replacements(text, 100, rng=np.random.default_rng(0), dropout=0.0)
    got = {(text[r.start : r.end], r.text): r.suitability for r in found}
    assert got.keys() == best.keys()
    for key, score in best.items():
        assert got[key] == pytest.approx(score, rel=1e-5)
    assert [r.suitability for r in found] == sorted(got.values(), reverse=True)


def test_of_a_text_beyond_the_context_the_beginning_is_changed(bert):
    text = " ".join(WORDS * 10)
    for near in Perturbation(8, masked=bert).neighbours(text):
        assert near.split()[30:] == text.split()[30:]
        assert near != text


def test_a_lone_surrogate_stays_where_it_is(bert):
    text = "the \ud800 fox jumps"
    assert len(drop_and_swap(text, 3)) == 3
    found = Perturbation(6, masked=bert).neighbours(text)
    assert any("\ud800" in near for near in found)
    assert all(len(near.split()) == 4 for near in found)


def test_a_text_without_a_word_has_no_replacements(bert):
    assert Perturbation(3, masked=bert).neighbours(" ") == []


def test_batches_of_places_change_nothing(bert, monkeypatch):
    text = "the quick brown fox jumps over a lazy dog"
    whole = Perturbation(20, masked=bert).neighbours(text)
    monkeypatch.setattr("auditor.models.masked._BATCH_TOKENS", 1)
    assert Perturbation(20, masked=bert).neighbours(text) == whole


def test_scores_say_which_masked_model_made_the_neighbours(bert, tmp_path):
    from auditor.scoring.score_texts import score_texts

    save_tiny_model(tmp_path / "model")
    (tmp_path / "text.txt").write_text("the quick fox jumps over a dog")
    options = {"model": str(tmp_path / "model"), "device": "cpu", "neighbours": 4}
    frame = score_texts([tmp_path / "text.txt"], **options, masked_model=bert.name)
    assert frame["n_neighbours"].tolist() == [4]
    assert frame.attrs["scored"]["neighbours"]["how"] == f"a word replaced by {bert.name}"
    otherwise = score_texts([tmp_path / "text.txt"], **options)
    assert frame["neighbourhood"][0] != otherwise["neighbourhood"][0]


def test_a_causal_model_is_no_masked_model(tmp_path):
    with pytest.raises(ModelError, match="cannot be read as a masked language model"):
        load_masked_model(str(save_tiny_model(tmp_path)))
    with pytest.raises(ModelError, match="no such file or folder"):
        load_masked_model("./nowhere")


def test_a_masked_model_knows_its_name(bert):
    assert isinstance(bert, MaskedModel)
    assert len(bert.fingerprint) == 64
