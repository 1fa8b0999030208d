"""The vocabulary projection against full softmaxes in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.models import lm_head as head_module
from auditor.models.kernels import logit_rows
from auditor.models.lm_head import Head, measure

few = settings(max_examples=150, deadline=None)


def brute(logits, targets):
    """Log-probability, rank, and moments of every row, in float64, one at a time."""
    out = []
    for row, target in zip(logits.double().numpy(), targets.tolist(), strict=True):
        shifted = row - row.max()
        logp = shifted - np.log(np.exp(shifted).sum())
        mean = (np.exp(logp) * logp).sum()
        std = np.sqrt((np.exp(logp) * (logp - mean) ** 2).sum())
        out.append((logp[target], int((row > row[target]).sum()), mean, std))
    return [np.array(column) for column in zip(*out, strict=True)]


def random_head(n, width, vocab, seed, scale=1.0, offset=0.0):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, width, generator=generator)
    weight = scale * torch.randn(vocab, width, generator=generator) + offset
    bias = torch.randn(vocab, generator=generator)
    return hidden, weight, bias, torch.randint(vocab, (n,), generator=generator)


@pytest.fixture(params=["numba", "torch"])
def how(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(logit_rows, "_is_for_loops", lambda logits: False)


@pytest.mark.parametrize("is_compiled", [True, False])
@few
@given(st.lists(st.floats(-200, 200, width=32), min_size=2, max_size=9), st.data())
def test_measure_equals_a_full_softmax_in_float64(is_compiled, values, data):
    logits = torch.tensor([values])
    target = torch.tensor([data.draw(st.integers(0, len(values) - 1))])
    with pytest.MonkeyPatch.context() as patch:
        if not is_compiled:
            patch.setattr(logit_rows, "_is_for_loops", lambda logits: False)
        found = measure(logits, target, logits[:, target[0]], moments=True)
    logprob, rank, mean, std = brute(logits, target)
    assert found.logprob.item() == pytest.approx(logprob[0], rel=2e-6, abs=1e-7)
    assert found.logprob.item() <= 0
    assert found.rank.item() == rank[0]
    assert found.vocab_mean.item() == pytest.approx(mean[0], rel=1e-5, abs=1e-6)
    assert found.vocab_std.item() == pytest.approx(std[0], rel=1e-2, abs=2e-3)


@pytest.mark.parametrize("nan", [float("nan"), -float("nan")])
def test_a_row_that_holds_nan_has_no_log_probability(nan, how):
    logits = torch.tensor([[1.0, nan, -2.0], [0.0, 1.0, 2.0]]).bfloat16()
    found = measure(logits, torch.tensor([0, 0]), logits[:, 0].float())
    assert found.logprob.isnan().tolist() == [True, False]


@pytest.mark.parametrize("below", [1, 30, 80, 88, 90, 95, 100, 103, 104, 120, 1000])
def test_a_token_far_below_the_top_keeps_its_finite_logprob(below, how):
    """Two tokens, `below` nats apart: float32's exp ends near -88 and is gone at -104."""
    logits = torch.tensor([[0.0, -float(below)]])
    found = measure(logits, torch.tensor([1]), logits[:, 1])
    assert found.logprob.item() == pytest.approx(-below - np.log1p(np.exp(-below)), rel=1e-6)


def test_a_token_of_probability_near_one_keeps_its_digits(how):
    """Beside one token 15 nats below: log p = -log(1 + e^-15), 3e-7, in float32."""
    logits = torch.tensor([[15.0, 0.0]])
    found = measure(logits, torch.tensor([0]), logits[:, 0])
    assert found.logprob.item() == pytest.approx(-np.log1p(np.exp(-15.0)), rel=1e-5)


def test_moments_by_hand(how):
    """p = (1/2, 1/4, 1/4): mean of log p is -1.5 ln 2, its deviation 0.5 ln 2."""
    logits = torch.log(torch.tensor([[2.0, 1.0, 1.0]]))
    found = measure(logits, torch.tensor([1]), logits[:, 1], moments=True)
    assert found.vocab_mean.item() == pytest.approx(-1.5 * np.log(2), rel=1e-6)
    assert found.vocab_std.item() == pytest.approx(0.5 * np.log(2), rel=1e-5)


def test_a_token_that_is_ruled_out_takes_no_part_in_the_moments(how):
    logits = torch.tensor([[2.0, 1.0, 1.0, 0.0]]).log()
    found = measure(logits, torch.tensor([1]), logits[:, 1], moments=True)
    assert found.vocab_mean.item() == pytest.approx(-1.5 * np.log(2), rel=1e-6)
    assert found.vocab_std.item() == pytest.approx(0.5 * np.log(2), rel=1e-5)


def test_ties_with_the_first_choice_have_rank_zero(how):
    logits = torch.tensor([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]])
    assert measure(logits, torch.tensor([2, 1]), torch.tensor([2.0, 0.0])).rank.tolist() == [0, 0]


@pytest.mark.parametrize("has_bias", [True, False])
def test_head_in_float32_equals_a_full_softmax(has_bias, how):
    hidden, weight, bias, targets = random_head(50, 16, 101, seed=0)
    bias = bias if has_bias else None
    found = Head(weight, bias, torch.float32).measure(hidden, targets, moments=True)
    logits = hidden.double() @ weight.double().T + (0 if bias is None else bias.double())
    logprob, rank, mean, std = brute(logits, targets)
    assert np.allclose(found.logprob, logprob, atol=1e-5)
    assert (found.rank.numpy() == rank).all()
    assert np.allclose(found.vocab_mean, mean, atol=1e-5)
    assert np.allclose(found.vocab_std, std, atol=1e-4)


def test_chunks_change_nothing(monkeypatch, how):
    hidden, weight, bias, targets = random_head(50, 16, 101, seed=1)
    head = Head(weight, bias, torch.float32)
    whole = head.measure(hidden, targets, moments=True)
    monkeypatch.setattr(head_module, "_CHUNK_ELEMENTS", 101 * 7)
    monkeypatch.setattr(head_module, "_ELEMENTS_ON_CPU", 3 * 61)
    cut = head.measure(hidden, targets, moments=True)
    for name in ("logprob", "rank", "vocab_mean", "vocab_std"):
        assert torch.allclose(getattr(cut, name), getattr(whole, name), atol=1e-5), name


@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_head_in_bfloat16_stays_within_a_hundredth_of_a_nat(offset, how):
    """Weights and hidden states that bfloat16 holds, so only the head's own rounding is left.

    `offset` is common to all rows of the projection, as in GPT-2, and lies 5 deviations out: it
    moves all logits alike, by tens, and must cost no digits.
    """
    hidden, weight, _, targets = random_head(200, 64, 300, seed=2, scale=0.3, offset=offset)
    hidden = hidden.bfloat16()
    found = Head(weight, None, torch.bfloat16).measure(hidden, targets)
    logprob, rank, _, _ = brute(hidden.double() @ weight.double().T, targets)
    error = np.abs(found.logprob.numpy() - logprob)
    assert error.mean() < 0.01
    assert error.max() < 0.05
    assert found.logprob.max() <= 0
    assert np.abs(found.rank.numpy() - rank).max() <= 3


def test_a_sure_token_is_no_likelier_than_one_in_bfloat16(how):
    """One token 60 nats above 99 others, its logit rounded either way."""
    generator = torch.Generator().manual_seed(3)
    hidden = torch.rand(500, 1, generator=generator).add(59.7).bfloat16()
    weight = torch.zeros(100, 1)
    weight[7] = 1.003
    found = Head(weight, None, torch.bfloat16).measure(hidden, torch.full((500,), 7))
    assert found.logprob.max() <= 0
    assert found.logprob.min() > -1e-6
    assert not found.rank.any()


def test_centring_changes_no_probability_and_is_undone_where_signs_matter():
    hidden, weight, bias, _ = random_head(20, 16, 50, seed=4, offset=2.0)
    head = Head(weight, bias, torch.bfloat16)
    hidden, bias16 = hidden.bfloat16(), bias.bfloat16()
    head = Head(weight, bias16, torch.bfloat16)
    logits = head.logits(hidden)
    expected = hidden.float() @ weight.T + bias16.float()
    # bfloat16 keeps 8 bits: logits up to 16 are rounded by up to 1/32, twice.
    assert torch.allclose(head.uncentred(hidden, logits), expected, atol=0.15)
    assert torch.allclose(logits.float().log_softmax(1), expected.log_softmax(1), atol=0.15)
    plain = Head(weight, bias, torch.float32)
    logits = plain.logits(hidden.float())
    assert plain.uncentred(hidden.float(), logits) is logits


def test_exact_logits_do_not_carry_the_rounding_of_the_product():
    hidden, weight, _, _ = random_head(20, 64, 50, seed=5)
    head, hidden = Head(weight, None, torch.bfloat16), hidden.bfloat16()
    ids = torch.arange(50).expand(20, -1)
    found = head.exact(hidden, head.logits(hidden), ids)
    assert torch.allclose(found, hidden.float() @ head.weight.float().T, atol=1e-4)


def test_nan_hidden_states_give_nan():
    head = Head(torch.eye(3), None, torch.float32)
    hidden = torch.tensor([[float("nan"), 0, 0], [float("inf"), 0, 0]])
    for target in range(3):
        assert not head.measure(hidden, torch.tensor([target] * 2)).logprob.isfinite().any()
