"""The teacher-forced pass: against brute force, real greedy decoding and sampled frequencies."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.statistics.extraction import greedy, log_p_z
from auditor.config.audit import Decoding
from auditor.errors import ModelError
from auditor.extraction.sampling import sample_suffixes
from auditor.sampling.decoding import draw
from auditor.sampling.generate import generate
from auditor.scoring.suffixes import decoded_logprob, is_raw, measure_suffixes
from tests.planted import PlantedModel, noise, recites, tiny_model

DECODINGS = [
    Decoding(),
    Decoding(temperature=0.7),
    Decoding(top_k=3),
    Decoding(top_k=1),
    Decoding(top_p=0.6),
    Decoding(temperature=1.8, top_k=5, top_p=0.8),
    Decoding(top_k=1000, top_p=1.0),
    Decoding(min_p=0.2),
    Decoding(typical_p=0.5, temperature=2.0),
]


def probabilities(logits, decoding):
    """What each token's draw takes of the unit interval: draw itself, asked on a fine grid."""
    grid = 4001
    u = torch.arange(grid, dtype=torch.float64) / grid
    rows = torch.tensor(logits, dtype=torch.float32).expand(grid, -1)
    temperature = torch.full((grid,), decoding.temperature)
    drawn = draw(rows, u, temperature, decoding)
    return np.bincount(drawn.numpy(), minlength=len(logits)) / grid


@pytest.mark.parametrize("decoding", DECODINGS, ids=str)
@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([-2.0, 0.0, 0.5, 0.5, 1.0, 3.0]), min_size=2, max_size=12))
def test_a_tokens_probability_is_its_share_of_what_is_drawn(decoding, logits):
    # Few different logits, so that ties at the edge of what is kept are the rule.
    n = len(logits)
    rows = torch.tensor(logits, dtype=torch.float32).expand(n, -1)
    found = decoded_logprob(rows, torch.arange(n), decoding).double().exp().numpy()
    expected = probabilities(logits, decoding)
    assert found == pytest.approx(expected, abs=1.5 / 4001)
    assert found.sum() == pytest.approx(1, abs=1e-6)
    # What is drawn has a chance; a chance of less than a step of the grid is seldom drawn.
    assert (expected[found == 0] == 0).all()


def brute(logits, target, k, p, temperature):
    """Softmax, cut, softmax again, in plain Python; no two logits are equal."""
    kept = sorted(range(len(logits)), key=lambda i: -logits[i])[: k or len(logits)]
    weight = {i: math.exp(logits[i] / temperature) for i in kept}
    total, mass, nucleus = sum(weight.values()), 0.0, []
    for i in kept:
        if mass / total < p:
            nucleus.append(i)
        mass += weight[i]
    return weight[target] / sum(weight[i] for i in nucleus) if target in nucleus else 0.0


@given(
    st.permutations([-4.0, -1.3, 0.2, 0.9, 1.7, 2.2]),
    st.sampled_from([None, 1, 2, 4, 6]),
    st.sampled_from([0.3, 0.7, 0.95, 1.0]),
    st.sampled_from([0.5, 1.0, 3.0]),
)
def test_probabilities_equal_a_brute_force_softmax(logits, k, p, temperature):
    decoding = Decoding(top_k=k, top_p=p, temperature=temperature)
    rows = torch.tensor(logits).expand(6, -1)
    found = decoded_logprob(rows, torch.arange(6), decoding).exp().tolist()
    assert found == pytest.approx([brute(logits, i, k, p, temperature) for i in range(6)], abs=1e-6)


def test_a_sure_token_keeps_its_digits():
    # log(1 - e^-20 / (1 + e^-20)): float32's plain softmax would say 0.
    rows = torch.tensor([[20.0, 0.0]])
    found = float(decoded_logprob(rows, torch.tensor([0]), Decoding(top_k=2)))
    assert found == pytest.approx(-math.log1p(math.exp(-20)), rel=1e-5)


def test_many_rows_are_cut_into_chunks_that_change_nothing(monkeypatch):
    rows = torch.randn(23, 9, generator=torch.Generator().manual_seed(1))
    targets = torch.arange(23) % 9
    whole = decoded_logprob(rows, targets, Decoding(top_k=4))
    monkeypatch.setattr("auditor.scoring.suffixes._LOGITS_AT_ONCE", 5 * 9)
    assert decoded_logprob(rows, targets, Decoding(top_k=4)).equal(whole)
    assert decoded_logprob(rows[:0], targets[:0], Decoding()).shape == (0,)


def test_which_decodings_are_the_models_own():
    assert [is_raw(d) for d in DECODINGS[:5]] == [True, False, False, False, False]
    assert is_raw(Decoding(top_p=1.0, typical_p=1.0))
    assert not is_raw(Decoding(min_p=0.1))


# ------------------------------------------------------------------------ whole suffixes
def windows_of(model, n=12, p=5, m=4, seed=0):
    rows = np.random.default_rng(seed).integers(0, model.head.n_vocab, (n, p + m))
    return rows[:, :p], rows[:, p:]


def continued(model, prefixes, m, decoding, sample_ids=None):
    own = decoding.model_copy(update={"max_new_tokens": m})
    ids = range(len(prefixes)) if sample_ids is None else sample_ids
    kwargs = {"seed": 5, "stream": "t", "decoding": own, "n_slots": 64}
    return generate(model, [list(p) for p in prefixes], ids, **kwargs)[0].token_ids


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_one_pass_says_what_greedy_decoding_does(kind):
    model = tiny_model(kind)
    prefixes, suffixes = windows_of(model, n=30)
    said = continued(model, prefixes, 4, Decoding(top_k=1))
    # A third are what greedy decoding says, a third differ in the last token, the rest at random.
    suffixes[:10] = said[:10]
    suffixes[10:20] = said[10:20]
    suffixes[10:20, -1] = (said[10:20, -1] + 1) % model.head.n_vocab
    found = measure_suffixes(model, prefixes, suffixes, decoding=Decoding())
    assert greedy(found.first).tolist() == (said == suffixes).all(axis=1).tolist()
    assert found.first[10:20, :-1].all()
    assert not found.first[10:20, -1].any()


@pytest.mark.parametrize("k", [1, 5, 40])
def test_of_equal_logits_those_count_as_kept_that_the_engine_draws(k):
    """Of 1,300 tokens hundreds share the highest logit."""
    row = torch.randint(-3, 3, (1, 1300), generator=torch.Generator().manual_seed(k)).bfloat16()
    decoding = Decoding(top_k=k)
    uniform = (torch.arange(200, dtype=torch.float64) + 0.5) / 200
    drawn = draw(row.repeat(200, 1), uniform, torch.ones(200), decoding)
    nats = decoded_logprob(row.expand(1300, -1), torch.arange(1300), decoding)
    kept = nats.isfinite().nonzero()[:, 0]
    assert len(kept) == k
    assert drawn.unique().tolist() == kept.tolist()


def test_of_equal_logits_one_is_the_first_choice_and_it_is_the_engines():
    model = tiny_model()
    with torch.no_grad():
        model.head.weight.zero_()
    prefix = np.array([[1, 2, 3]])
    said = continued(model, prefix, 1, Decoding(top_k=1))[0, 0]
    everything = np.arange(model.head.n_vocab)[:, None]
    prefixes = np.repeat(prefix, len(everything), axis=0)
    found = measure_suffixes(model, prefixes, everything, decoding=Decoding())
    assert np.flatnonzero(found.first[:, 0]).tolist() == [said]


@pytest.mark.parametrize("decoding", DECODINGS[:6], ids=str)
def test_p_z_is_the_product_over_a_plain_forward_pass(decoding):
    model = tiny_model()
    prefixes, suffixes = windows_of(model)
    found = log_p_z(measure_suffixes(model, prefixes, suffixes, decoding=decoding).logprob)
    for i, (prefix, suffix) in enumerate(zip(prefixes, suffixes, strict=True)):
        ids = torch.tensor([[*prefix, *suffix]])
        with torch.inference_mode():
            logits = model.network(input_ids=ids).logits[0].double().numpy()
        p = 1.0
        for at, token in enumerate(suffix, start=len(prefix)):
            p *= brute(
                logits[at - 1].tolist(),
                int(token),
                decoding.top_k,
                decoding.top_p or 1.0,
                decoding.temperature,
            )
        assert math.exp(found[i]) == pytest.approx(p, rel=1e-3, abs=1e-12)


def test_without_truncation_it_equals_token_stats():
    model = tiny_model("llama")
    prefixes, suffixes = windows_of(model)
    found = measure_suffixes(model, prefixes, suffixes, decoding=Decoding())
    stats = model.token_stats(suffixes.tolist(), prefixes.tolist())
    assert found.logprob.ravel() == pytest.approx(stats.logprob, abs=1e-5)
    assert found.first.ravel().tolist() == (stats.rank == 0).tolist()


def test_batches_and_chunks_change_nothing(monkeypatch):
    model = tiny_model()
    prefixes, suffixes = windows_of(model, n=11)
    whole = measure_suffixes(model, prefixes, suffixes, decoding=Decoding(top_k=9))
    monkeypatch.setattr("auditor.scoring.suffixes._ELEMENTS", 3 * model.head.n_vocab)
    done = []
    parts = measure_suffixes(
        model, prefixes, suffixes, decoding=Decoding(top_k=9), batch_tokens=20, progress=done.append
    )
    assert parts.first.tolist() == whole.first.tolist()
    assert parts.logprob == pytest.approx(whole.logprob, abs=1e-5)
    assert sum(done) == 11
    assert len(done) == 6


def test_a_model_that_gives_nan_is_reported_and_not_measured():
    model = tiny_model()
    with torch.no_grad():
        model.head.weight[3] = math.nan
    prefixes, suffixes = windows_of(model)
    with pytest.raises(ModelError, match="not numbers"):
        measure_suffixes(model, prefixes, suffixes, decoding=Decoding())


# -------------------------------------------------------------------------- frequencies
@pytest.mark.parametrize("decoding", [Decoding(top_k=4, temperature=1.5), Decoding(top_p=0.8)])
def test_samples_of_a_planted_model_are_as_frequent_as_p_z_says(decoding):
    n_vocab, n = 6, 6000
    rule = noise(n_vocab)
    drawn = continued(PlantedModel(rule, n_vocab), [[0, 2]] * n, 2, decoding, range(n))
    for suffix in {tuple(row) for row in drawn[:50].tolist()}:
        logits = torch.tensor(
            np.array([rule((0, 2)), rule((0, 2, suffix[0]))]), dtype=torch.float32
        )
        nats = decoded_logprob(logits, torch.tensor(suffix), decoding).double().sum()
        share = np.mean([tuple(row) == suffix for row in drawn.tolist()])
        p = float(nats.exp())
        assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / n) + 1e-9


def test_sampling_finds_what_a_model_recites_and_how_near_it_comes():
    secret = [3, 1, 4, 1, 5, 2, 6, 5, 3, 5, 8, 7]
    model = PlantedModel(recites(secret, 9), 9)
    prefixes = np.array([[0, 3, 1], [0, 3, 1]])
    true = np.array([secret[2:], [4, 1, 5, 2, 6, 5, 3, 5, 8, 0]])
    found = sample_suffixes(model, prefixes, true, n_samples=20, decoding=Decoding(top_k=1), seed=0)
    # The second differs in one token of ten: within 10 %, and not exact.
    assert found.n_exact.tolist() == [20, 0]
    assert found.n_near.tolist() == [20, 20]
    assert found.distance.tolist() == [0, 1]


def test_an_insertion_is_one_edit_and_two_of_ten_are_too_many():
    secret = [3, 1, 4, 1, 5, 2, 6, 5, 3, 5, 8, 7]
    model = PlantedModel(recites(secret, 9), 9)
    shifted = [4, 0, 1, 5, 2, 6, 5, 3, 5, 8]  # one put in, so the last falls off: two edits
    found = sample_suffixes(
        model, np.array([[0, 3, 1]]), np.array([shifted]), n_samples=1,
        decoding=Decoding(top_k=1), seed=0,
    )  # fmt: skip
    assert found.distance.tolist() == [2]
    assert found.n_near.tolist() == [0]


def test_samples_do_not_depend_on_how_they_are_batched(monkeypatch):
    model = PlantedModel(noise(5), 5)
    prefixes, suffixes = np.array([[0, 1], [0, 2], [0, 3]]), np.array([[1, 1], [2, 3], [4, 0]])
    args = {"n_samples": 30, "decoding": Decoding(), "seed": 3}
    whole = sample_suffixes(model, prefixes, suffixes, **args)
    monkeypatch.setattr("auditor.extraction.sampling._SAMPLES_AT_ONCE", 30)
    parts = sample_suffixes(model, prefixes, suffixes, **args)
    assert parts.n_exact.tolist() == whole.n_exact.tolist()
    assert parts.distance.tolist() == whole.distance.tolist()
