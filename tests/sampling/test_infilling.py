"""Samples of encoder-decoders: recorded scores, batches, closing tokens, frequencies."""

import numpy as np
import pytest

from auditor.config.audit import Decoding
from auditor.errors import ModelError
from auditor.models.loading import load_model
from auditor.sampling.generate import generate
from tests.tiny import WORDS
from tests.tiny_t5 import save_tiny_bart, save_tiny_t5


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    folders = {"t5": save_tiny_t5(root / "t5"), "bart": save_tiny_bart(root / "bart")}
    return {name: load_model(str(folder), dtype="float32") for name, folder in folders.items()}


def prompts_of(model, *, has_gap=True):
    texts = ["", "the quick", WORDS, "fox jumps over the"] if has_gap else ["the quick", WORDS]
    coded = [[*model.vocabulary.start, *ids] for ids in model.vocabulary.encode_all(texts)]
    return [model.gap_after(ids) for ids in coded] if has_gap else coded


def drawn(model, prompts, ids=None, seed=0, **decoding):
    decoding = Decoding(**{"max_new_tokens": 9, **decoding})
    ids = range(len(prompts)) if ids is None else ids
    given = {"seed": seed, "stream": "s", "decoding": decoding, "n_slots": 1}
    return generate(model, prompts, list(ids), **given)[0]


@pytest.mark.parametrize("name", ["t5", "bart"])
@pytest.mark.parametrize("has_gap", [True, False])
@pytest.mark.parametrize("stop", [True, False])
def test_recorded_scores_are_those_of_a_fresh_pass(name, has_gap, stop, models):
    model = models[name]
    prompts = prompts_of(model, has_gap=has_gap)
    found = drawn(model, prompts, top_k=50, temperature=0.7, stop_at_eos=stop)
    rows = [row[:n].tolist() for row, n in zip(found.token_ids, found.length, strict=True)]
    stats = model.token_stats(rows, prompts)
    mask = np.arange(9) < found.length[:, None]
    np.testing.assert_allclose(found.logprob[mask], stats.logprob, atol=1e-5)
    assert (found.rank[mask] == stats.rank).all()


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_a_sample_depends_on_its_id_and_not_on_its_batch(name, models):
    model = models[name]
    prompts = prompts_of(model)
    together = drawn(model, prompts, ids=[7, 8, 9, 10])
    alone = [drawn(model, [p], ids=[i]) for p, i in zip(prompts, [7, 8, 9, 10], strict=True)]
    assert together.token_ids.tolist() == [one.token_ids[0].tolist() for one in alone]
    other = drawn(model, prompts, ids=[7, 8, 9, 10], seed=1)
    assert (together.token_ids != other.token_ids).any()


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_greedy_samples_are_the_most_likely_tokens(name, models):
    found = drawn(models[name], prompts_of(models[name]), top_k=1, stop_at_eos=True)
    assert (found.rank == 0).all()


def test_a_gap_is_closed_by_eos_or_a_sentinel(models):
    model = models["t5"]
    prompts = prompts_of(model) * 30
    found = drawn(model, prompts, stop_at_eos=True)
    assert 0 < found.ended.sum() < len(prompts)
    for row, n, ended in zip(found.token_ids, found.length, found.ended, strict=True):
        is_closing = np.isin(row[:n], model.closing)
        assert is_closing.tolist() == [False] * (n - 1) + [bool(ended)]


def test_without_stop_at_eos_no_gap_is_closed(models):
    model = models["t5"]
    found = drawn(model, prompts_of(model) * 30)
    assert (found.length == 9).all()
    assert not np.isin(found.token_ids, model.closing).any()


def test_samples_are_drawn_with_their_probabilities(models):
    model = models["t5"]
    [prompt] = [model.gap_after(model.vocabulary.encode("the quick"))]
    n = 4000
    found = drawn(model, [prompt] * n, max_new_tokens=1, stop_at_eos=True)
    tokens, counts = np.unique(found.token_ids[:, 0], return_counts=True)
    stats = model.token_stats([[int(t)] for t in tokens], [prompt] * len(tokens))
    p = np.exp(stats.logprob.astype(float))
    deviation = np.sqrt(n * p * (1 - p)) + 1
    assert (np.abs(counts - n * p) < 5 * deviation).all()


def test_a_repetition_penalty_counts_the_prompt(models):
    model = models["t5"]
    prompts = prompts_of(model)
    found = drawn(model, prompts, top_k=1, repetition_penalty=1e6, stop_at_eos=True)
    for row, n, prompt in zip(found.token_ids, found.length, prompts, strict=True):
        own = row[:n].tolist()
        assert len(set(own)) == n
        assert not set(own) & set(prompt)


def test_an_empty_prompt_is_refused(models):
    with pytest.raises(ModelError, match="got an empty prompt"):
        drawn(models["t5"], [[]])
    with pytest.raises(ModelError, match="got an empty prompt"):
        drawn(models["bart"], [models["bart"].vocabulary.start])
