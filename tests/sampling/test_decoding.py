"""One step's logits to a token: against transformers' own processors, and by exact counting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from auditor.config.audit import Decoding
from auditor.sampling import decoding as decoding_module
from auditor.sampling.decoding import draw, penalise, pick, temperatures, truncate

few = settings(max_examples=100, deadline=None)
NEVER = float("-inf")


def random_logits(n, vocab, seed):
    """Standard normal times three: no two of a row are equal."""
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(n, vocab, generator=generator)


def grid(n):
    """n uniforms, each in the middle of its share of [0, 1)."""
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def drawn_counts(logits, decoding, n, temperature=1.0):
    """How often each token is drawn by a grid of n uniforms; one row of logits."""
    rows = logits.expand(n, -1)
    ids = draw(rows, grid(n), torch.full((n,), temperature), decoding)
    return torch.bincount(ids, minlength=logits.shape[-1])


# ---------------------------------------------------------------- temperature


def test_temperature_falls_in_a_straight_line_from_the_first_token_to_the_twentieth():
    decoding = Decoding(temperature_start=10.0, temperature=1.0, temperature_steps=20)
    temperature = temperatures(decoding, np.arange(30))
    assert temperature[0] == 10
    assert temperature[19] == 1
    # 9 degrees over 19 steps.
    assert temperature[:20] == pytest.approx([10 - 9 * i / 19 for i in range(20)])
    assert (temperature[19:] == 1).all()


def test_temperature_without_a_start_is_constant():
    assert temperatures(Decoding(temperature=0.7), np.arange(3)).tolist() == [0.7] * 3


def test_each_row_has_its_own_temperature():
    """Logits 0 and ln 3: at temperature 1, token 1 has 3/4; at 1/2, 9/10; when very hot, 1/2."""
    logits = torch.tensor([[0.0, np.log(3)]]).expand(3, -1)
    temperature = torch.tensor([1.0, 0.5, 1e6])
    for u, expected in ((0.05, [0, 0, 0]), (0.2, [0, 1, 0]), (0.4, [1, 1, 0]), (0.6, [1, 1, 1])):
        uniform = torch.full((3,), u, dtype=torch.float64)
        assert draw(logits, uniform, temperature, Decoding()).tolist() == expected


# ---------------------------------------------------------------- truncation


@pytest.mark.parametrize("vocab", [5, 60, 500])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.9, 0.999])
def test_truncations_equal_those_of_transformers(vocab, share):
    # Doubles: where a share ends, float32 would leave it to rounding which token is the last.
    logits = random_logits(20, vocab, seed=vocab).double()
    for name, warper in (
        ("top_p", TopPLogitsWarper(share)),
        ("min_p", MinPLogitsWarper(share)),
        ("typical_p", TypicalLogitsWarper(share)),
    ):
        ours = truncate(logits, Decoding(**{name: share}))
        assert torch.equal(ours, warper(None, logits.clone())), name


def test_truncations_together_equal_those_of_transformers_in_that_order():
    logits = random_logits(20, 300, seed=1).double()
    theirs = logits.clone()
    for warper in (TopPLogitsWarper(0.95), MinPLogitsWarper(0.01), TypicalLogitsWarper(0.9)):
        theirs = warper(None, theirs)
    assert torch.equal(truncate(logits, Decoding(top_p=0.95, min_p=0.01, typical_p=0.9)), theirs)


@pytest.mark.parametrize("k", [1, 2, 7, 40, 60, 100])
def test_top_k_draws_what_transformers_top_k_leaves(k):
    logits = random_logits(1, 60, seed=k)
    kept = torch.isfinite(TopKLogitsWarper(k)(None, logits.clone()))[0]
    n = 200_000  # more than 1 / the least likely token's probability
    counts = drawn_counts(logits, Decoding(top_k=k), n)
    p = logits[0].masked_fill(~kept, NEVER).double().softmax(0)
    assert not counts[~kept].any()
    assert (counts - n * p).abs().max() <= 1.01


def test_repetition_penalty_equals_that_of_transformers():
    logits = random_logits(4, 30, seed=2)
    said = torch.tensor([[1, 2, 2], [0, 0, 0], [29, 5, 7], [3, 4, 5]])
    seen = torch.zeros(4, 30, dtype=torch.bool).scatter_(1, said, True)
    for penalty in (1.3, 0.8):
        theirs = RepetitionPenaltyLogitsProcessor(penalty)(said, logits.clone())
        assert torch.equal(penalise(logits, seen, penalty), theirs)


def test_a_share_of_one_drops_nothing():
    logits = random_logits(3, 40, seed=3)
    assert torch.equal(truncate(logits, Decoding(top_p=1.0, typical_p=1.0)), logits)


def test_min_p_of_one_keeps_only_the_likeliest_token():
    logits = random_logits(3, 40, seed=4)
    kept = torch.isfinite(truncate(logits, Decoding(min_p=1.0)))
    assert kept.sum(1).tolist() == [1, 1, 1]
    assert torch.equal(kept.int().argmax(1), logits.argmax(1))


# ---------------------------------------------------------------- the draw


@few
@given(st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=12), st.integers(1, 400))
def test_a_grid_of_uniforms_draws_each_token_as_often_as_its_probability_says(values, n):
    logits = torch.tensor([values])
    counts = drawn_counts(logits, Decoding(), n)
    assert (counts - n * logits[0].double().softmax(0)).abs().max() <= 1 + 1e-6


@few
@given(st.data())
def test_what_is_dropped_is_never_drawn(data):
    m = data.draw(st.integers(1, 8))
    dropped = data.draw(
        st.lists(st.booleans(), min_size=m, max_size=m).filter(lambda x: not all(x))
    )
    values = data.draw(st.lists(st.floats(-90, 90, width=32), min_size=m, max_size=m))
    logits = torch.tensor([[NEVER if d else v for v, d in zip(values, dropped, strict=True)]])
    uniform = data.draw(st.sampled_from([0.0, 2.0**-53, 0.5, 1 - 2.0**-53]))
    place = pick(logits, torch.tensor([uniform], dtype=torch.float64))
    assert torch.isfinite(logits[0, place]).all()


def test_the_largest_uniform_draws_the_last_token_that_may_be_drawn():
    logits = torch.tensor([[0.0, 0.0, NEVER], [NEVER, 0.0, NEVER], [0.1, 0.2, 0.3]])
    largest = torch.full((3,), 1 - 2.0**-53, dtype=torch.float64)
    assert pick(logits, largest).tolist() == [1, 1, 2]


def test_nan_logits_draw_no_token_beyond_the_end():
    """So that the engine can go on to see the NaN and say so."""
    logits = torch.full((2, 3), float("nan"))
    logits[1, 0] = 1.0
    places = pick(logits, torch.tensor([0.0, 0.9], dtype=torch.float64))
    assert ((places >= 0) & (places < 3)).all()


def test_the_smallest_uniform_draws_the_first_token_that_may_be_drawn():
    logits = torch.tensor([[NEVER, NEVER, 0.0, 5.0]])
    assert pick(logits, torch.zeros(1, dtype=torch.float64)).tolist() == [2]


def test_a_draw_goes_by_ids_and_not_by_the_order_of_sorting():
    """Four tokens, the two likeliest with 3/8 each: top_k=4 of 5 draws them in order of id."""
    logits = torch.tensor([[1.0, 3.0, 1.0, 3.0, -60.0]]).log()
    logits[0, 4] = -60.0
    uniform = torch.tensor([0.0, 0.12, 0.13, 0.49, 0.51, 0.62, 0.63, 0.99], dtype=torch.float64)
    expected = [0, 0, 1, 1, 2, 2, 3, 3]
    for decoding in (Decoding(), Decoding(top_k=4), Decoding(top_p=0.9999)):
        ids = draw(logits.expand(8, -1), uniform, torch.ones(8), decoding)
        assert ids.tolist() == expected


def test_rows_are_drawn_apart_from_each_other(monkeypatch):
    """More rows than are worked on at once, each alone and all together."""
    monkeypatch.setattr(decoding_module, "_ELEMENTS_ON_CPU", 16 * 30)
    logits, uniform = random_logits(50, 30, seed=5), grid(50)
    temperature = torch.linspace(0.5, 3, 50)
    for decoding in (Decoding(), Decoding(top_k=5), Decoding(top_p=0.8), Decoding(typical_p=0.5)):
        whole = draw(logits, uniform, temperature, decoding)
        for i in range(50):
            row = slice(i, i + 1)
            assert draw(logits[row], uniform[row], temperature[row], decoding) == whole[i]


def test_top_k_of_one_is_greedy_whatever_the_temperature():
    logits = random_logits(30, 40, seed=6)
    ids = draw(logits, grid(30), torch.full((30,), 100.0), Decoding(top_k=1))
    assert torch.equal(ids, logits.argmax(1))


def test_a_penalty_changes_what_is_drawn():
    """Two tokens of logit ln 4: a penalty of 2 halves the first's logit, so 1/3 to 2/3."""
    logits = torch.full((1, 2), np.log(4.0)).expand(9, -1)
    seen = torch.tensor([[True, False]]).expand(9, -1)
    ids = draw(logits, grid(9), torch.ones(9), Decoding(repetition_penalty=2.0), seen)
    assert torch.bincount(ids).tolist() == [3, 6]
