"""Beam search: transformers' tokens, judged like any given text."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from auditor.config.audit import Decoding
from auditor.errors import ModelError
from auditor.models.language_model import LanguageModel
from auditor.sampling.beam_search import beam_search
from tests import families
from tests.planted import Ids, tiny_model

EOS = 7
GPT2, LLAMA = (tiny_model(kind, eos_id=EOS, n_vocab=23) for kind in ("gpt2", "llama"))
MODELS = pytest.mark.parametrize("model", [GPT2, LLAMA], ids=["gpt2", "llama"])
PROMPTS = [[0], [0, 3, 5], [0, 9], [0, 4, 4], [0]]


def tokens(drawn):
    return [row[:n].tolist() for row, n in zip(drawn.token_ids, drawn.length, strict=True)]


def search(model, prompt, n_beams, steps):
    """By definition: keep the n likeliest one-token extensions; no text ends early."""
    beams = [(0.0, list(prompt))]
    for _ in range(steps):
        longer = []
        for total, said in beams:
            with torch.inference_mode():
                out = model.network(torch.tensor([said]), use_cache=False)
                logp = out.logits[0, -1].double().log_softmax(0)
            longer += [(total + logp[i].item(), [*said, i]) for i in range(len(logp))]
        beams = sorted(longer, reverse=True)[:n_beams]
    return beams[0][1][len(prompt) :]


@MODELS
@pytest.mark.parametrize("n_beams", [2, 5])
def test_beam_search_equals_its_definition(model, n_beams):
    drawn = beam_search(model, PROMPTS, Decoding(max_new_tokens=6, beams=n_beams))
    assert tokens(drawn) == [search(model, p, n_beams, 6) for p in PROMPTS]
    assert not drawn.ended.any()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["jamba", "mamba", "rwkv", "bloom"])
def test_models_of_other_caches_are_searched_without_one(family):
    network = families.tiny_network(family)
    model = LanguageModel(network, Ids(0, 7), name="", fingerprint="", dtype=torch.float32)
    drawn = beam_search(model, PROMPTS, Decoding(max_new_tokens=4, beams=3))
    assert tokens(drawn) == [search(model, p, 3, 4) for p in PROMPTS]


def test_a_search_that_transformers_cannot_make_is_a_one_line_error(monkeypatch):
    def fail(**kwargs):
        raise ValueError("cannot reorder")

    model = tiny_model("gpt2")
    monkeypatch.setattr(model.network, "generate", fail)
    with pytest.raises(ModelError, match=r"\(cannot reorder\)\. Leave out --beams\."):
        beam_search(model, PROMPTS, Decoding(max_new_tokens=4, beams=3))


@MODELS
@pytest.mark.parametrize("penalty", [1.0, 1.4])
def test_beams_equal_those_of_transformers_for_each_prompt_alone(model, penalty):
    """Prompts of other lengths in the batch change nothing, a penalty on what was said or not."""
    decoding = Decoding(max_new_tokens=8, beams=3, stop_at_eos=True, repetition_penalty=penalty)
    drawn = beam_search(model, PROMPTS, decoding)
    for i, prompt in enumerate(PROMPTS):
        ids = torch.tensor([prompt])
        theirs = model.network.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), num_beams=3, do_sample=False,
            max_new_tokens=8, eos_token_id=EOS, pad_token_id=EOS, repetition_penalty=penalty,
        )[0, len(prompt) :].tolist()  # fmt: skip
        if EOS in theirs:
            theirs = theirs[: theirs.index(EOS) + 1]
        assert tokens(drawn)[i] == theirs
        assert drawn.ended[i] == (theirs[-1] == EOS)


@MODELS
def test_logprobs_and_ranks_are_those_of_given_text(model):
    decoding = Decoding(max_new_tokens=8, beams=3, stop_at_eos=True)
    drawn = beam_search(model, PROMPTS, decoding)
    for i, (text, prompt) in enumerate(zip(tokens(drawn), PROMPTS, strict=True)):
        stats = model.token_stats([text], [prompt])
        assert np.allclose(drawn.logprob[i, : len(text)], stats.logprob, atol=1e-4)
        assert drawn.rank[i, : len(text)].tolist() == stats.rank.tolist()


def test_settings_in_the_folder_of_a_model_are_left_aside_and_left_alone():
    """A chat model's folder may ask for penalties of its own; an audit has its own settings."""
    decoding = Decoding(max_new_tokens=8, beams=2)
    expected = tokens(beam_search(GPT2, PROMPTS, decoding))
    GPT2.network.generation_config.repetition_penalty = 50.0
    GPT2.network.generation_config.no_repeat_ngram_size = 1
    try:
        assert tokens(beam_search(GPT2, PROMPTS, decoding)) == expected
        assert GPT2.network.generation_config.repetition_penalty == 50.0
    finally:
        GPT2.network.generation_config.repetition_penalty = None
        GPT2.network.generation_config.no_repeat_ngram_size = None


def test_progress_counts_every_token_once():
    told = []
    drawn = beam_search(GPT2, PROMPTS * 9, Decoding(max_new_tokens=3, beams=2), told.append)
    assert sum(told) == drawn.length.sum() == 45 * 3


def test_beams_and_their_statistics_are_the_same_where_memory_is_scarce(monkeypatch):
    """No more than two texts at once fit, neither for the search nor for judging what it gave."""
    decoding, notes = Decoding(max_new_tokens=6, beams=2), []
    expected = beam_search(GPT2, PROMPTS, decoding)
    search_whole, judge_whole = GPT2.network.generate, GPT2.hidden_states

    def search_scarcely(input_ids, **settings):
        if len(input_ids) > 1:
            raise torch.OutOfMemoryError
        return search_whole(input_ids=input_ids, **settings)

    def judge_scarcely(ids, **settings):
        if len(ids) > 2 and not settings:
            raise torch.OutOfMemoryError
        return judge_whole(ids, **settings)

    monkeypatch.setattr(GPT2.network, "generate", search_scarcely)
    monkeypatch.setattr(GPT2, "hidden_states", judge_scarcely)
    drawn = beam_search(GPT2, PROMPTS, decoding, note=notes.append)
    assert tokens(drawn) == tokens(expected)
    assert np.allclose(drawn.logprob, expected.logprob, atol=1e-5)
    assert notes == [
        "Out of memory with 2 texts per batch; continuing with 1.",
        "Out of memory with 2 texts per batch; continuing with 1.",
        "Out of memory with 5 texts per batch; continuing with 2.",
        "Out of memory with 3 texts per batch; continuing with 1.",
    ]
