"""Extraction by infilling: an overfitted T5 gives back its texts, as plain generation shows."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from auditor.config.extraction import CorpusExtractionConfig
from auditor.errors import ConfigError, ModelError
from auditor.extraction.extract import extract
from auditor.extraction.infilling import check_infilling
from auditor.finetuning.rows import Rows
from auditor.finetuning.training import Recipe, train
from auditor.models.loading import load_model
from auditor.models.span_corruption import corrupt, long_span, random_of, short_spans
from auditor.models.tiny_gpt2 import save_model
from auditor.models.tiny_t5 import build_t5, build_t5_tokenizer
from auditor.scoring.infilling import measure_spans
from auditor.testbed.denoising import Denoising
from tests.tiny import WORDS, command, save_texts, save_tiny_model
from tests.tiny_t5 import save_tiny_bart, save_tiny_t5

N_MEMBERS, SHOWN, HIDDEN = 4, 12, 12
WIDTH = SHOWN + HIDDEN
DIGITS = np.random.default_rng(3).integers(0, 10, (8, 30))
TEXTS = [
    f"{letter}: {''.join(map(str, row))}" for letter, row in zip("abcdefgh", DIGITS, strict=True)
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A T5 that was trained on half of the texts until it knows them."""
    folder = tmp_path_factory.mktemp("trained") / "t5"
    tokenizer = build_t5_tokenizer(["a: 0"], 400)
    network = build_t5(n_vocab=400, n_layer=1, width=64, n_head=4, context=64, seed=0)
    coded = tokenizer(TEXTS[:N_MEMBERS], add_special_tokens=False)["input_ids"]
    gaps = tokenizer.convert_tokens_to_ids([f"<extra_id_{i}>" for i in range(100)])
    train(
        network,
        Rows.of([np.array(ids) for ids in coded] * 4),
        Recipe(rate=5e-3, batch=16, epochs=500, beta2=0.98),
        collate=Denoising(gaps, 1, width=WIDTH, seed=0),
    )
    save_model(network, tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpora")
    repeated = [text for i, text in enumerate(TEXTS[:N_MEMBERS]) for _ in range(i + 1)]
    members = save_texts(root / "members.jsonl", repeated)
    return members, save_texts(root / "heldout.jsonl", TEXTS[N_MEMBERS:])


def extracted(model, corpus, **options):
    given = {"prefix_tokens": SHOWN, "suffix_tokens": HIDDEN, "progress": False, **options}
    return extract(str(model), [corpus], **given)


@torch.inference_mode()
def generated(model, ids, spans):
    """Whether `generate` of transformers writes the hidden spans after the first sentinel."""
    shown, hidden = corrupt(ids, spans, model.gaps)
    out = model.network.generate(
        input_ids=torch.tensor([[*shown, 1]]),
        decoder_input_ids=torch.tensor([[0, hidden[0]]]),
        max_new_tokens=len(hidden) - 1,
        do_sample=False,
        num_beams=1,
    )
    return out[0, 1:].tolist() == hidden


def test_members_come_back_and_held_out_texts_do_not(trained, corpora):
    found = extracted(trained, corpora[0]).examples
    assert found.groupby("hidden")["greedy"].agg(["sum", "size"]).to_dict("list") == {
        "sum": [N_MEMBERS, N_MEMBERS], "size": [N_MEMBERS, N_MEMBERS],
    }  # fmt: skip
    assert not extracted(trained, corpora[1]).examples["greedy"].any()


def test_greedy_is_what_generation_gives(trained, corpora):
    model = load_model(str(trained), dtype="float32")
    for corpus, texts in zip(corpora, (TEXTS[:N_MEMBERS], TEXTS[N_MEMBERS:]), strict=True):
        found = extracted(trained, corpus).examples
        ids = [row[:WIDTH] for row in model.vocabulary.encode_all(texts)]
        expected = [generated(model, i, short_spans(WIDTH, random_of(i, 0))) for i in ids]
        expected += [generated(model, i, long_span(WIDTH, HIDDEN)) for i in ids]
        assert found["greedy"].tolist() == expected


def test_a_span_that_is_not_closed_is_not_extracted(trained, corpora):
    """The text goes on with another token than the one in training, so spans end elsewhere."""
    model = load_model(str(trained), dtype="float32")
    ids = [row[:WIDTH] for row in model.vocabulary.encode_all(TEXTS[:N_MEMBERS])]
    [(start, stop)] = long_span(WIDTH, HIDDEN)
    config = CorpusExtractionConfig()
    whole = measure_spans(model, ids, [[(start, stop)]] * N_MEMBERS, decoding=config.decoding)
    assert whole.tokens.first.all()
    assert whole.closed.all()
    other = [[*row[: stop - 1], row[0], *row[stop - 1 :]] for row in ids]
    wrong = measure_spans(model, other, [[(start, stop - 1)]] * N_MEMBERS, decoding=config.decoding)
    assert not wrong.closed.all()


def test_the_two_ways_are_counted_apart_and_by_repeats(trained, corpora):
    result = extracted(trained, corpora[0])
    greedy = result.summary[result.summary["outcome"] == "greedy"]
    for way, shown, hidden in (("short", WIDTH - 4, 4), ("long", SHOWN, HIDDEN)):
        own = greedy[greedy["hidden"] == way]
        assert own["repeats_from"].fillna(0).tolist() == [0, 1, 2, 3, 4]
        assert own["n_examples"].tolist() == [4, 1, 1, 1, 1]
        assert set(own["prefix_tokens"]) == {shown}
        assert set(own["suffix_tokens"]) == {hidden}
        assert (own["low"] <= own["share"]).all()
    assert len(result.headline) == 2
    assert "one span: greedy decoding gives all of them back in 4 of 4" in result.headline[1]
    assert set(result.fits["hidden"]) == {"short", "long"}


def test_positions_are_those_of_the_hidden_text(trained, corpora):
    found = extracted(trained, corpora[0]).examples
    model = load_model(str(trained), dtype="float32")
    long = found[found["hidden"] == "long"]
    [(start, stop)] = long_span(WIDTH, HIDDEN)
    texts = [json.loads(line)["text"] for line in Path(corpora[0]).read_text().splitlines()]
    for row in long.itertuples():
        text = texts[int(row.doc_id.rpartition(":")[2]) - 1]
        ids = model.vocabulary.encode(text)
        assert text[row.suffix_start : row.suffix_end] == model.vocabulary.decode(ids[start:stop])


def test_causal_models_and_encoder_decoders_share_a_table(trained, corpora, tmp_path):
    gpt2 = save_tiny_model(tmp_path / "gpt2")
    result = extract(
        [str(gpt2), str(trained)], [corpora[0]], prefix_tokens=SHOWN, suffix_tokens=HIDDEN,
        progress=False, out=tmp_path / "out",
    )  # fmt: skip
    assert set(result.examples["hidden"]) == {"suffix", "short", "long"}
    assert len(result.headline) == 3
    assert (tmp_path / "out" / "laws-long.png").exists()


def test_settings_that_do_not_fit_are_refused(tmp_path):
    model = load_model(str(save_tiny_t5(tmp_path / "t5", n_sentinels=3)), dtype="float32")
    for settings, says in (
        ({"samples_per_prefix": 3}, "--samples-per-prefix must be 0"),
        ({"prefix_tokens": 1, "suffix_tokens": 1}, "at least 3 together"),
        ({"prefix_tokens": 30, "suffix_tokens": 30}, "at most 2 spans"),
        ({"prefix_tokens": 32, "suffix_tokens": 32}, "at most 62 together"),
    ):
        with pytest.raises(ConfigError, match=says):
            check_infilling(model, CorpusExtractionConfig(**settings))


def test_the_command_prints_both_ways(trained, corpora):
    ended = command(
        "extract", "--model", trained, "--corpus", corpora[0],
        "--prefix-tokens", SHOWN, "--suffix-tokens", HIDDEN,
    )  # fmt: skip
    assert ended.code == 0
    assert "short" in ended.out
    assert "long" in ended.out


def test_verbs_for_causal_models_refuse_an_encoder_decoder(trained, tmp_path):
    document = tmp_path / "text.txt"
    document.write_text(TEXTS[0])
    ended = command("extract", "--model", trained, "--document", document)
    assert ended.code != 0
    assert "is an encoder-decoder" in ended.err
    with pytest.raises(ModelError, match="must be a causal language model"):
        load_model(str(trained), kinds=("causal",))


def test_a_bart_fills_a_window_as_long_as_its_context_allows(tmp_path):
    bart = save_tiny_bart(tmp_path / "bart")
    corpus = save_texts(tmp_path / "texts.jsonl", [WORDS * 9])
    longest = load_model(str(bart)).room
    options = {"prefix_tokens": longest - 20, "suffix_tokens": 20}
    assert len(extracted(bart, corpus, **options).examples) == 2
