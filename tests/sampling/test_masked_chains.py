"""Sampling from masked models, against the enumeration of every text of a tiny vocabulary."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from auditor.config.sampling import Decoding
from auditor.errors import ConfigError, ModelError
from auditor.models.masked_language_model import MaskedLanguageModel
from auditor.models.tokenizer import Vocabulary
from auditor.sampling.generate import generate
from tests.models.masked import bert, bert_tokenizer

CLS = 2


@pytest.fixture(scope="module")
def model():
    """Three words after the five special tokens."""
    tokenizer = bert_tokenizer(["a", "b", "c"])
    vocabulary = Vocabulary(tokenizer, tokenizer.cls_token)
    named = {"name": "tiny", "fingerprint": "", "dtype": torch.float32}
    return MaskedLanguageModel(bert(len(tokenizer), seed=3), vocabulary, **named, pll="original")


def drawn(model, n, prompt=(CLS,), ids=None, **decoding):
    made, _ = generate(
        model,
        [list(prompt)] * n,
        range(n) if ids is None else ids,
        seed=0,
        stream="top-n",
        decoding=Decoding(**decoding),
        n_slots=1,
    )
    return made


@pytest.mark.parametrize(("length", "n"), [(2, 2000), (3, 1500)])
def test_metropolis_hastings_draws_texts_in_proportion_to_exp_of_minus_their_energy(
    model, length, n
):
    texts = list(itertools.product([5, 6, 7], repeat=length))
    stats = model.token_stats(texts, [[CLS]] * len(texts))
    p = np.exp(-stats.total_nll())
    p /= p.sum()
    made = drawn(model, n, max_new_tokens=length, sweeps=15, chain="metropolis-hastings")
    counts = np.array([(made.token_ids == text).all(axis=1).sum() for text in texts])
    assert counts.sum() == n
    # Rare texts are pooled, so that every cell expects 5 or more.
    rare = n * p < 5
    seen = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(n * p[~rare], n * p[rare].sum())
    kept = expected > 0
    assert chisquare(seen[kept], expected[kept]).pvalue > 1e-3
    assert p.max() > 3 / 3**length  # the law is far from uniform
    assert 0 < made.accepted < made.proposed == n * 15 * length


def test_gibbs_draws_one_token_from_its_conditional_distribution(model):
    made = drawn(model, 2000, max_new_tokens=1, sweeps=1)
    with torch.inference_mode():
        ids = torch.tensor([[CLS, model.mask_id, *model.end]])
        p = model.network(input_ids=ids).logits[0, 1, 5:].softmax(-1).double().numpy()
    counts = np.bincount(made.token_ids[:, 0], minlength=8)[5:]
    assert chisquare(counts, 2000 * p / p.sum()).pvalue > 1e-3
    assert made.accepted == made.proposed == 2000


def test_a_sample_depends_on_its_id_alone(model):
    whole = drawn(model, 6, max_new_tokens=4)
    part = drawn(model, 2, ids=[4, 1], max_new_tokens=4)
    assert whole.token_ids[[4, 1]].tolist() == part.token_ids.tolist()
    assert len({tuple(row) for row in whole.token_ids.tolist()}) > 1


def test_recorded_values_are_the_scores_of_the_text_after_its_prompt(model):
    prompt = [CLS, 5, 7]
    made = drawn(model, 3, prompt, max_new_tokens=4)
    stats = model.token_stats(made.token_ids.tolist(), [prompt] * 3)
    assert made.logprob.ravel().tolist() == stats.logprob.tolist()
    assert made.rank.ravel().tolist() == stats.rank.tolist()
    assert made.length.tolist() == [4, 4, 4]


def test_only_words_are_drawn_and_top_k_bounds_them(model):
    assert set(drawn(model, 40, max_new_tokens=3, temperature=5.0).token_ids.ravel()) == {5, 6, 7}
    # With k = 1 every chain goes the same way once its text is complete.
    made = drawn(model, 20, max_new_tokens=1, top_k=1)
    assert len(set(made.token_ids.ravel())) == 1


def test_progress_counts_every_token_once(model):
    done = []
    generate(
        model,
        [[CLS]] * 3,
        range(3),
        seed=0,
        stream="top-n",
        decoding=Decoding(max_new_tokens=4),
        n_slots=1,
        progress=done.append,
    )
    assert sum(done) == 12


def test_what_a_masked_model_cannot_do_is_refused(model):
    with pytest.raises(ConfigError, match="--repetition-penalty must be 1"):
        drawn(model, 1, max_new_tokens=2, repetition_penalty=1.2)
    with pytest.raises(ModelError, match="31 tokens; got 1 \\+ 31"):
        drawn(model, 1, max_new_tokens=31)
