"""Encoder-decoders: scores equal a plain forward pass in float64, written out by hand."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from auditor.errors import ModelError
from auditor.models.loading import load_model, loaded
from auditor.models.span_corruption import covering_spans, random_of
from auditor.models.teacher_forcing import Memo
from tests.tiny import WORDS, save_tiny_model
from tests.tiny_t5 import plain_logprobs, save_tiny_bart, save_tiny_t5


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {"t5": save_tiny_t5(root / "t5"), "bart": save_tiny_bart(root / "bart")}


@pytest.fixture(scope="module")
def models(folders):
    return {name: load_model(str(folder), dtype="float32") for name, folder in folders.items()}


@pytest.fixture(scope="module")
def plain(folders):
    return {n: AutoModelForSeq2SeqLM.from_pretrained(f).double() for n, f in folders.items()}


def by_hand(name, network, model, ids, spans):
    """{token position: log-probability} of hidden spans; T5's and BART's formats, spelled out."""
    token = model.vocabulary.tokenizer.convert_tokens_to_ids
    source, at = [], 0
    answer = [0] if name == "t5" else [token("</s>"), token("<s>"), *ids]
    where = {} if name == "t5" else {i: i + 2 for i in range(len(ids))}
    for n, (start, stop) in enumerate(spans):
        gap = token(f"<extra_id_{n}>" if name == "t5" else "<mask>")
        source += [*ids[at:start], gap]
        at = stop
        if name == "t5":
            answer.append(gap)
            where |= {i: len(answer) + i - start for i in range(start, stop)}
            answer += ids[start:stop]
    source = [*source, *ids[at:], token("</s>")]
    if name == "bart":
        source = [token("<s>"), *source]
    logprobs = plain_logprobs(network, source, answer)
    hidden = [i for a, b in spans for i in range(a, b)]
    return {i: float(logprobs[where[i] - 1, ids[i]]) for i in hidden}


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_the_infilling_score_equals_a_plain_forward_pass(name, models, plain):
    model = models[name]
    texts = model.vocabulary.encode_all([WORDS, "fox", "the dog runs away"])
    stats = model.token_stats(texts)
    expected = []
    for ids in texts:
        most = 99 if name == "t5" else len(ids)
        rounds = covering_spans(len(ids), random_of(ids, 0), most=most)
        found = [by_hand(name, plain[name], model, ids, spans) for spans in rounds]
        together = {i: value for one in found for i, value in one.items()}
        expected += [together[i] for i in range(len(ids))]
    np.testing.assert_allclose(stats.logprob, expected, atol=2e-5)
    assert (stats.rank >= 0).all()


@pytest.mark.parametrize("name", ["t5", "bart"])
@pytest.mark.parametrize("has_gap", [True, False])
def test_a_text_after_a_prompt_is_scored_in_the_decoder(name, has_gap, models, plain):
    model = models[name]
    token = model.vocabulary.tokenizer.convert_tokens_to_ids
    prompt, text = model.vocabulary.encode_all(["the quick brown", " fox jumps"])
    gap = [model.gaps[0]] if has_gap else []
    prefix = [*model.vocabulary.start, *prompt, *gap]
    stats = model.token_stats([text], [prefix])
    if name == "t5":
        source, opening = [*prompt, *gap, token("</s>")], [0, *gap]
    else:
        source = [token("<s>"), *prompt, *gap, token("</s>")]
        opening = [token("</s>"), token("<s>"), *(prompt if has_gap else [])]
    logprobs = plain_logprobs(plain[name], source, [*opening, *text])
    at = len(opening) - 1
    expected = [float(logprobs[at + i, token]) for i, token in enumerate(text)]
    np.testing.assert_allclose(stats.logprob, expected, atol=2e-5)
    ranks = [int((logprobs[at + i] > logprobs[at + i, t]).sum()) for i, t in enumerate(text)]
    assert stats.rank.tolist() == ranks


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_scores_do_not_depend_on_the_other_texts(name, models):
    model = models[name]
    texts = model.vocabulary.encode_all([WORDS, "fox", "", "jumps over " * 20])
    together = model.token_stats(texts, moments=True)
    for i, ids in enumerate(texts):
        alone, own = model.token_stats([ids], moments=True), together.take([i])
        for column in ("logprob", "vocab_mean", "vocab_std"):
            np.testing.assert_allclose(getattr(own, column), getattr(alone, column), atol=1e-5)
    assert together.n_scored().tolist() == [len(ids) for ids in texts]


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_a_text_longer_than_the_context_is_scored_in_pieces(name, models):
    model = models[name]
    room = 64 - len(model.vocabulary.tokenizer("")["input_ids"]) - 1
    ids = (model.vocabulary.encode(WORDS) * 20)[: 2 * room]
    stats = model.token_stats([ids])
    halves = model.token_stats([ids[:room], ids[room:]])
    np.testing.assert_allclose(stats.logprob, halves.logprob, atol=1e-5)


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_a_long_answer_is_scored_to_its_end(name, models):
    model = models[name]
    ids = (model.vocabulary.encode(WORDS) * 20)[:150]
    stats = model.token_stats([ids], [model.gap_after(ids[:100])])
    assert np.isfinite(stats.logprob).all()
    assert stats.n_scored().tolist() == [150]


def test_progress_counts_each_text_once(models):
    texts = models["t5"].vocabulary.encode_all([WORDS * 9, "", "fox"])
    done = []
    models["t5"].token_stats(texts, progress=done.append, batch_tokens=80)
    assert sum(done) == 3


def test_finished_batches_are_not_computed_again(models):
    memo = Memo()
    texts = models["t5"].vocabulary.encode_all([WORDS])
    first = models["t5"].token_stats(texts, memo=memo)
    for batch in memo:
        memo[batch] = [(0 * own[0] - 1, *own[1:]) for own in memo[batch]]
    assert (models["t5"].token_stats(texts, memo=memo).logprob == -1).all()
    assert (first.logprob != -1).any()


def test_few_sentinels_mean_more_corruptions(tmp_path):
    model = load_model(str(save_tiny_t5(tmp_path / "t5", n_sentinels=2)), dtype="float32")
    ids = model.vocabulary.encode(WORDS)
    stats = model.token_stats([ids])
    assert np.isfinite(stats.logprob).all()


def test_an_answer_step_by_step_equals_one_pass(models):
    model = models["t5"]
    prompts = [model.gap_after(ids) for ids in model.vocabulary.encode_all(["the", WORDS, "fox"])]
    texts = model.vocabulary.encode_all(["quick fox", "lazy dogs", "runs away"])
    n = min(map(len, texts))
    stats = model.token_stats([t[:n] for t in texts], prompts)
    with torch.inference_mode():
        session = model.answers(prompts)
        found = []
        for i in range(n):
            ids = torch.tensor([t[i] for t in texts])
            found.append(session.logits.log_softmax(-1)[torch.arange(3), ids])
            session.step(ids)
        session.keep(torch.tensor([2]))
    np.testing.assert_allclose(
        stats.logprob.reshape(3, n), torch.stack(found, 1).numpy(), atol=1e-5
    )
    assert session.logits.shape == (1, model.n_vocab)


def test_a_t5_without_sentinels_is_refused(tmp_path):
    folder = save_tiny_t5(tmp_path / "t5", n_sentinels=0)
    with pytest.raises(ModelError, match="must have sentinel tokens"):
        load_model(str(folder))


def test_a_model_without_a_start_of_the_decoder_is_refused(tmp_path):
    folder = save_tiny_t5(tmp_path / "t5")
    for file in ("config.json", "generation_config.json"):
        if (folder / file).exists():
            settings = json.loads((folder / file).read_text())
            settings.pop("decoder_start_token_id", None)
            (folder / file).write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="decoder_start_token_id"):
        load_model(str(folder))


def test_kinds_are_told_apart_before_weights_are_read(folders, tmp_path):
    with pytest.raises(ModelError, match=r"is an encoder-decoder .* must be a causal"):
        loaded(str(folders["t5"]), "cpu")
    with pytest.raises(ModelError, match=r"causal language model .* must be an encoder-decoder"):
        loaded(str(save_tiny_model(tmp_path / "gpt2")), "cpu", kinds=("encoder-decoder",))


def test_weights_that_are_not_finite_are_reported(tmp_path):
    folder = save_tiny_t5(tmp_path / "t5")
    network = AutoModelForSeq2SeqLM.from_pretrained(folder)
    with torch.no_grad():
        network.shared.weight.fill_(float("nan"))
    network.save_pretrained(folder)
    with pytest.raises(ModelError, match="not numbers"):
        load_model(str(folder))
