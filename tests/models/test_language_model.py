"""Causal models: statistics of given text, and steps in slots, against one slow full pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from auditor.errors import ModelError
from auditor.models import language_model
from auditor.models.language_model import LanguageModel
from tests import families
from tests.planted import Ids, tiny_model, tiny_network

GPT2, LLAMA = tiny_model("gpt2"), tiny_model("llama")
MODELS = pytest.mark.parametrize("model", [GPT2, LLAMA], ids=["gpt2", "llama"])


def texts_of(n, most=20, seed=0):
    draw = np.random.default_rng(seed)
    return [draw.integers(0, 61, draw.integers(0, most)).tolist() for _ in range(n)]


def brute(model, text, prefix):
    """logprob, rank, mean and deviation of each token: one full pass, full softmax in float64."""
    rows = []
    sequence = prefix + text
    if not sequence:
        return np.empty((0, 4))
    with torch.inference_mode():
        logits = model.network(torch.tensor([sequence]), use_cache=False).logits[0].double().numpy()
    for at in range(len(prefix), len(sequence)):
        if at == 0:
            rows.append((np.nan, -1, np.nan, np.nan))
            continue
        row = logits[at - 1]
        logp = row - row.max() - np.log(np.exp(row - row.max()).sum())
        p = np.exp(logp)
        mean = (p * logp).sum()
        std = np.sqrt((p * (logp - mean) ** 2).sum())
        rows.append((logp[sequence[at]], (row > row[sequence[at]]).sum(), mean, std))
    return np.array(rows).reshape(-1, 4)


def check(model, stats, texts, prefixes):
    for i, (text, prefix) in enumerate(zip(texts, prefixes, strict=True)):
        own = slice(stats.offsets[i], stats.offsets[i + 1])
        expected = brute(model, text, prefix)
        assert stats.token_ids[own].tolist() == text
        assert np.allclose(stats.logprob[own], expected[:, 0], atol=1e-4, equal_nan=True)
        assert stats.rank[own].tolist() == expected[:, 1].tolist()
        if stats.vocab_mean is not None:
            assert np.allclose(stats.vocab_mean[own], expected[:, 2], atol=1e-4, equal_nan=True)
            assert np.allclose(stats.vocab_std[own], expected[:, 3], atol=1e-3, equal_nan=True)


# ---------------------------------------------------------------- given text


@MODELS
def test_token_stats_equal_full_softmaxes_in_float64(model):
    texts = texts_of(12)
    check(model, model.token_stats(texts, moments=True), texts, [[0]] * 12)


@MODELS
def test_a_text_is_conditioned_on_its_prefix_and_on_bos_without_one(model):
    texts, prefixes = texts_of(8), [*texts_of(7, most=6, seed=1), []]
    stats = model.token_stats(texts, prefixes)
    check(model, stats, texts, [p or [0] for p in prefixes])


def test_batches_change_nothing():
    texts = texts_of(30)
    whole = GPT2.token_stats(texts, moments=True)
    for batch_tokens in (1, 25, 100):
        cut = GPT2.token_stats(texts, moments=True, batch_tokens=batch_tokens)
        assert cut.rank.tolist() == whole.rank.tolist()
        for name in ("logprob", "vocab_mean", "vocab_std"):
            assert np.allclose(getattr(cut, name), getattr(whole, name), atol=1e-4), name
    one_by_one = [GPT2.token_stats([text]).logprob for text in texts]
    assert np.allclose(np.concatenate(one_by_one), whole.logprob, atol=1e-4)


def test_empty_texts_have_no_tokens():
    stats = GPT2.token_stats([[], [4, 5], []], moments=True)
    assert stats.offsets.tolist() == [0, 0, 2, 2]
    check(GPT2, stats, [[], [4, 5], []], [[0]] * 3)
    assert len(GPT2.token_stats([])) == 0
    assert GPT2.token_stats([[], []], moments=True).n_tokens().tolist() == [0, 0]


def test_without_bos_a_first_token_has_no_probability():
    model = tiny_model("gpt2", bos_id=None)
    texts = [[3, 4, 5], [6], [], [7, 8]]
    stats = model.token_stats(texts, moments=True)
    check(model, stats, texts, [[]] * 4)
    assert stats.rank.tolist()[0] == stats.rank.tolist()[3] == -1
    assert np.isnan(stats.logprob).tolist() == [True, False, False, True, True, False]
    assert stats.n_scored().tolist() == [2, 0, 0, 1]
    check(model, model.token_stats(texts, [[9]] * 4), texts, [[9]] * 4)


@pytest.mark.parametrize("n_prefix", [1, 3, 7])
def test_long_texts_are_scored_with_half_a_context_in_sight(n_prefix):
    """By the definition: first a context full; then half a context new after half a context old."""
    model, context = tiny_model("llama", context=12), 12
    text, prefix = texts_of(1, most=60, seed=5)[0] * 2, list(range(1, n_prefix + 1))
    assert len(text) > 3 * context
    stats = model.token_stats([text, [1, 2], text[:4]], [prefix, prefix, prefix])
    if n_prefix > 6:
        prefix = [prefix[0], *prefix[-5:]]
    first = context - len(prefix)
    expected = [brute(model, text[:first], prefix)]
    for at in range(first, len(text), 6):
        before = (prefix + text)[len(prefix) + at - 6 : len(prefix) + at]
        expected.append(brute(model, text[at : at + 6], before))
    assert np.allclose(stats.logprob[: len(text)], np.concatenate(expected)[:, 0], atol=1e-4)


def test_progress_counts_texts_once_however_they_are_cut():
    model, told = tiny_model("gpt2", context=8), []
    model.token_stats([[1] * 30, [], [2] * 3, [3] * 9], batch_tokens=16, progress=told.append)
    assert sum(told) == 4


def test_bfloat16_stays_near_float32():
    """Twelve layers' worth of rounding it is not: 0.05 nats on average, 0.5 at the worst."""
    exact = tiny_model("llama")
    fast = tiny_model("llama", dtype=torch.bfloat16)
    texts = texts_of(20)
    one, other = exact.token_stats(texts), fast.token_stats(texts)
    error = np.abs(one.logprob - other.logprob)
    assert error.mean() < 0.05
    assert error.max() < 0.5
    assert other.logprob.max() <= 0


def test_statistics_of_a_damaged_model_end_in_a_sentence():
    model = tiny_model("gpt2")
    with torch.no_grad():
        model.network.transformer.wpe.weight[6] = float("nan")
    model.token_stats([[1, 2, 3]])
    with pytest.raises(ModelError, match=r"not numbers \(NaN\) in float32"):
        model.token_stats([[1, 2, 3], [1] * 9])


def test_a_token_that_the_weights_lack_is_a_one_line_error():
    """As where another model's tokenizer lies in the folder."""
    says = r"does not match its weights: token ids must be below 61; got 61\. Put the"
    for texts, prefixes in (([[61]], [[0]]), ([[3]], [[61]])):
        with pytest.raises(ModelError, match=says):
            GPT2.token_stats(texts, prefixes)


# ---------------------------------------------------------------- steps in slots


@MODELS
def test_slots_at_different_places_step_as_if_alone(model):
    """Prompts of four lengths, stepped together, one of them replaced on the way, one dropped."""
    texts = [[5, 6, 7, 8, 9, 10], [3, 2, 4, 1], [8] * 7, [1, 2, 3]]
    session = model.session(3, 12)
    held = [list(t) for t in texts[:3]]
    session.prefill([0, 1, 2], [t[:-1] for t in held])
    hidden = session.step(torch.tensor([t[-1] for t in held]))

    def check_all(hidden):
        logits = model.head.logits(hidden)
        for row, said in zip(logits, held, strict=True):
            with torch.inference_mode():
                whole = model.network(torch.tensor([said])).logits[0, -1]
            assert torch.allclose(row.log_softmax(0), whole.log_softmax(0), atol=1e-4)

    def step(tokens):
        for said, token in zip(held, tokens, strict=True):
            said.append(token)
        return session.step(torch.tensor(tokens))

    check_all(hidden)
    check_all(step([11, 12, 13]))
    held[1] = list(texts[3])
    session.prefill([1], [texts[3]])
    check_all(step([14, 15, 16]))
    session.keep([2, 1])
    held[:] = [held[2], held[1]]
    check_all(step([17, 18]))
    check_all(step([19, 20]))


@MODELS
def test_a_slot_parked_again_and_again_never_overflows(model):
    session = model.session(2, 6)
    session.prefill([0, 1], [[1], [2]])
    for i in range(20):
        session.park([1] if i % 5 else [0, 1])
        hidden = session.step(torch.tensor([3, 4]))
    assert hidden.isfinite().all()


def test_memory_of_a_slot_by_hand():
    """GPT-2: 2 layers, keys and values of 32 float32 each a token, and a row of 61 logits.

    Llama: 2 of 4 heads of 8 are kept, so half of that.
    """
    assert GPT2.bytes_per_slot(10) == 2 * 2 * 32 * 10 * 4 + 61 * 5
    assert LLAMA.bytes_per_slot(10) == 2 * 2 * 16 * 10 * 4 + 61 * 5


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["gpt_bigcode", "gemma3_text", "deepseek_v3", "gemma4_text"])
def test_memory_of_a_slot_is_that_of_a_real_cache(family):
    """Of shared keys, of latent ones, of layers that share a cache: what transformers keeps."""
    network = families.tiny_network(family)
    model = wrap(network)
    cache = network(input_ids=torch.tensor([[3, 4, 5, 6]]), use_cache=True).past_key_values
    layers = [layer for layer in cache.layers if layer.is_initialized]
    kept = sum(layer.keys.numel() + layer.values.numel() for layer in layers) * 4 / 4
    assert model.bytes_per_slot(10) == int(kept * 10) + model.head.n_vocab * 5


# ---------------------------------------------------------------- models that are refused


def wrap(network):
    return LanguageModel(network, Ids(), name="odd", fingerprint="", dtype=torch.float32)


def test_a_network_that_looks_ahead_is_refused():
    class AheadLooking(type(tiny_network())):
        def forward(self, *args, **kwargs):
            out = super().forward(*args, **kwargs)
            out.logits = out.logits + out.logits.mean(dim=1, keepdim=True)
            return out

    network = tiny_network()
    network.__class__ = AheadLooking
    with pytest.raises(ModelError, match="not a causal language model: later tokens change"):
        wrap(network)


def test_a_context_of_one_token_is_refused():
    with pytest.raises(ModelError, match=r"must be at least 2 tokens; got 1\."):
        tiny_model("gpt2", context=1)


def test_a_model_with_nan_output_is_refused_as_such():
    network = tiny_network()
    with torch.no_grad():
        network.transformer.ln_f.weight[0] = float("nan")
    with pytest.raises(ModelError, match=r"may be damaged: download or save the model again\.$"):
        wrap(network)


# ---------------------------------------------------------------- shortcuts that do not fit


def scaled(network, by=0.5):
    """The network with its logits scaled after the projection."""
    plain = type(network)

    class Scaled(plain):
        def forward(self, *args, **kwargs):
            out = super().forward(*args, **kwargs)
            out.logits = out.logits * by
            return out

    network.__class__ = Scaled
    return network


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_scaled_logits_are_seen_in_every_format_and_the_network_is_asked(dtype):
    """By 1 %, some hundredths of a nat: less than bfloat16's own rounding of the logits."""
    network = scaled(tiny_network(), by=1.01).to(dtype)
    model = LanguageModel(network, Ids(), name="odd", fingerprint="", dtype=dtype)
    assert "more than a projection" in model.slow_because["head"]
    assert model.notes == [
        f"odd computes its own logits, which is slower: {model.slow_because['head']}."
    ]
    texts = texts_of(6)
    if dtype == torch.float32:
        check(model, model.token_stats(texts, moments=True), texts, [[0]] * 6)
    assert "head" not in tiny_model("gpt2", dtype=dtype).slow_because


def test_a_cache_of_another_kind_is_not_used():
    """Bloom places tokens by a mask of its own kind."""
    from transformers import BloomConfig, BloomForCausalLM

    from auditor.models.sessions import WholeTextSession

    torch.manual_seed(0)
    config = BloomConfig(vocab_size=50, hidden_size=16, n_layer=2, n_head=2, initializer_range=0.3)
    model = wrap(BloomForCausalLM(config))
    check(model, model.token_stats([[1, 2, 3]]), [[1, 2, 3]], [[0]])
    session = model.session(2, 8)
    assert isinstance(session, WholeTextSession)
    assert "its cache" in model.slow_because["steps"]
    session.prefill([0, 1], [[0, 4], [0, 7, 8]])
    stepped = session.step(torch.tensor([5, 9]))
    for row, text in zip(stepped, ([0, 4, 5], [0, 7, 8, 9]), strict=True):
        assert torch.allclose(row, model.hidden_states(torch.tensor([text]))[0, -1], atol=1e-5)
    session.keep([1])
    again = session.step(torch.tensor([2]))
    alone = model.hidden_states(torch.tensor([[0, 7, 8, 9, 2]]))[0, -1]
    assert torch.allclose(again[0], alone, atol=1e-5)


def windowed(kind):
    from transformers import GPTNeoConfig, GPTNeoForCausalLM, MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    if kind == "mistral":
        config = MistralConfig(
            vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=1, sliding_window=9,
            max_position_embeddings=40, initializer_range=0.3,
        )  # fmt: skip
        return wrap(MistralForCausalLM(config))
    config = GPTNeoConfig(
        vocab_size=50, hidden_size=16, num_layers=2, num_heads=2, window_size=9,
        attention_types=[[["global", "local"], 1]], max_position_embeddings=40,
        initializer_range=0.3,
    )  # fmt: skip
    return wrap(GPTNeoForCausalLM(config))


@pytest.mark.parametrize("kind", ["mistral", "gpt_neo"])
def test_a_window_that_layers_look_back_on_masks_and_does_not_bound_a_text(kind):
    model = windowed(kind)
    assert model.context == 40
    texts = [[1 + i % 49 for i in range(n)] for n in (5, 38, 20)]
    check(model, model.token_stats(texts), texts, [[0]] * 3)


def test_a_check_that_runs_out_of_memory_is_repeated(monkeypatch):
    mistral, checked = windowed("mistral"), []

    def check(model, length):
        checked.append(length)
        if len(checked) == 1:
            raise torch.OutOfMemoryError

    monkeypatch.setattr(language_model, "check_steps", check)
    with pytest.raises(torch.OutOfMemoryError):
        mistral.session(2, 30)
    mistral.session(1, 30)
    mistral.session(1, 30)
    assert checked == [49, 49]


def test_steps_beyond_a_window_are_checked_before_they_are_trusted():
    """GPT-Neo's local layers take the length of the cache for the place of the token."""
    neo = windowed("gpt_neo")
    assert (neo.limits.windows, neo.limits.own_window) == ((), 9)
    neo.queues_steps = True  # as on a GPU
    neo.session(2, 9)
    assert "steps" not in neo.slow_because
    assert neo.queues_steps
    neo.session(2, 10)
    assert neo.slow_because["steps"] == "its layers truncate the cache to 9 tokens"
    assert not neo.queues_steps
    mistral = windowed("mistral")
    mistral.session(2, 30)
    assert mistral.slow_because == {}
