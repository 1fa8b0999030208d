"""Compiled loops over rows of logits, against float64 and sorted rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.models.kernels import logit_rows
from auditor.models.kernels.logit_rows import row_sums, top_ids

few = settings(max_examples=150, deadline=None)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


def random_logits(n, n_vocab, dtype, scale=4.0):
    generator = torch.Generator().manual_seed(n_vocab)
    return (scale * torch.randn(n, n_vocab, generator=generator)).to(dtype)


def given_rows(n, n_vocab, dtype):
    """Logits, a target in each row, its logit a little off, and the largest of both."""
    logits = random_logits(n, n_vocab, dtype)
    targets = torch.arange(n) * (n_vocab - 1) // max(1, n - 1)  # the first and the last among them
    exact = logits.gather(1, targets[:, None])[:, 0].float() + 0.01
    return logits, targets, exact, torch.maximum(logits.amax(dim=1).float(), exact)


# ---------------------------------------------------------------- sums


@dtypes
@pytest.mark.parametrize("n_vocab", [2, 40, 2047, 2048, 2049, 6000])
def test_sums_and_moments_equal_those_in_float64(dtype, n_vocab):
    logits, targets, exact, top = given_rows(9, n_vocab, dtype)
    rest, rank, mean, square = row_sums(logits, targets, exact, top, moments=True)
    far = logits.double() - top[:, None]
    far.scatter_(1, targets[:, None], (exact - top).double()[:, None])
    weights = far.exp()
    own = (exact - top).double().exp()
    assert np.allclose(rest, weights.sum(dim=1) - own, rtol=1e-6, atol=1e-9)
    assert np.allclose(mean, (weights * far).sum(dim=1), rtol=1e-6)
    assert np.allclose(square, (weights * far**2).sum(dim=1), rtol=1e-6)
    others = logits.float().scatter(1, targets[:, None], float("-inf"))
    assert rank.tolist() == (others > exact[:, None]).sum(dim=1).tolist()


@dtypes
def test_without_moments_the_sums_are_the_same(dtype):
    rows = given_rows(9, 5000, dtype)
    rest, rank, mean, square = row_sums(*rows)
    assert mean is None
    assert square is None
    with_moments = row_sums(*rows, moments=True)
    assert torch.allclose(rest, with_moments[0], rtol=1e-6)
    assert torch.equal(rank, with_moments[1])


@dtypes
def test_neither_threads_nor_other_rows_change_a_row(dtype, monkeypatch):
    rows = given_rows(9, 5000, dtype)
    monkeypatch.setattr(logit_rows, "_threads", lambda logits: 1)
    alone = [row_sums(*(column[i : i + 1] for column in rows), moments=True) for i in range(9)]
    monkeypatch.setattr(logit_rows, "_threads", lambda logits: 4)
    for column, parts in zip(row_sums(*rows, moments=True), zip(*alone, strict=True), strict=True):
        assert torch.equal(column, torch.cat(parts))
    assert torch.equal(top_ids(rows[0], 7), torch.cat([top_ids(row[None], 7) for row in rows[0]]))


@pytest.mark.parametrize("below", [0, 1, 40, 87])
def test_a_logit_below_the_top_has_its_weight(below):
    logits = torch.tensor([[-float(below), 0.0]])
    rest = row_sums(logits, torch.tensor([1]), torch.zeros(1), torch.zeros(1))[0]
    assert rest.item() == pytest.approx(np.exp(-below), rel=5e-6)


@dtypes
def test_logits_further_below_than_float32_has_numbers_weigh_nothing(dtype):
    logits = torch.tensor([[0.0, -89.0, -1e30, float("-inf")]]).to(dtype)
    given = logits, torch.tensor([0]), torch.zeros(1), torch.zeros(1)
    found = [column.tolist() for column in row_sums(*given, moments=True)]
    assert found == [[0], [0], [0], [0]]


@dtypes
@pytest.mark.parametrize("value", [float("nan"), -float("nan")])
@pytest.mark.parametrize("place", [0, 2047, 2500, 2999])
def test_nan_stays_nan(dtype, value, place):
    logits, targets, exact, top = given_rows(3, 3000, dtype)
    logits[1, place] = value
    targets[1] = 700
    rest = row_sums(logits, targets, exact, top)[0]
    assert rest.isnan().tolist() == [False, True, False]


def test_unsupported_rows_are_left_to_torch():
    logits, targets, exact, top = given_rows(4, 50, torch.float32)
    assert row_sums(logits.double(), targets, exact, top) is None
    assert row_sums(logits.clone().requires_grad_(), targets, exact, top) is None


@dtypes
def test_the_memory_layout_of_rows_changes_nothing(dtype):
    logits, targets, exact, top = given_rows(4, 300, dtype)
    rows = logits.t().contiguous().t()
    assert not rows.is_contiguous()
    assert torch.equal(
        row_sums(rows, targets, exact, top)[0], row_sums(logits, targets, exact, top)[0]
    )
    assert torch.equal(top_ids(rows, 9), top_ids(logits, 9))
    row = torch.randint(-3, 3, (1, 300)).to(dtype)
    assert torch.equal(top_ids(row.expand(5, -1), 9), top_ids(row, 9).expand(5, -1))


@dtypes
@pytest.mark.parametrize("target", [-1, 50, 2**40])
def test_a_target_outside_the_columns_is_an_error(dtype, target):
    logits, targets, exact, top = given_rows(4, 50, dtype)
    targets[2] = target
    with pytest.raises(IndexError, match="between 0 and 49"):
        row_sums(logits, targets, exact, top)


# ---------------------------------------------------------------- the largest


@pytest.fixture(params=["numba", "torch"])
def how(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(logit_rows, "_is_for_loops", lambda logits: False)
    return request.param


@dtypes
@pytest.mark.parametrize("n_vocab", [5, 63, 64, 65, 1280, 1291, 1343])
@pytest.mark.parametrize("shift", [0.0, 8.0, -8.0, -40.0])
def test_the_largest_of_a_row_are_those_of_a_sorted_row(dtype, n_vocab, shift, how):
    """bfloat16 has many ties here; by -8 most blocks have no number above 0, by -40 none has."""
    logits = random_logits(9, n_vocab, torch.float32).add(shift).to(dtype)
    ids = top_ids(logits, 5)
    assert (ids.diff(dim=1) > 0).all()
    values = logits.gather(1, ids).sort(dim=1, descending=True).values
    assert torch.equal(values, logits.sort(dim=1, descending=True).values[:, :5])


def test_the_largest_may_all_be_in_one_block_or_in_the_remainder(how):
    logits = torch.zeros(3, 1300).bfloat16()
    logits[0, 64:69] = torch.arange(1.0, 6)
    logits[1, 1295:] = torch.arange(1.0, 6)
    logits[2, [0, 63, 64, 1279, 1280]] = torch.arange(1.0, 6).bfloat16()
    ids = top_ids(logits, 5)
    assert ids[0].tolist() == [64, 65, 66, 67, 68]
    assert ids[1].tolist() == [1295, 1296, 1297, 1298, 1299]
    assert ids[2].tolist() == [0, 63, 64, 1279, 1280]


@few
@given(
    st.lists(st.sampled_from([-2.0, -1.0, -0.0, 0.0, 1.0]), min_size=2, max_size=200),
    st.sampled_from([torch.float32, torch.bfloat16]),
    st.data(),
)
def test_of_equal_logits_the_first_are_taken(row, dtype, data):
    k = data.draw(st.integers(1, len(row)))
    first = sorted(range(len(row)), key=lambda i: (-row[i], i))[:k]
    found = top_ids(torch.tensor([row]).to(dtype), k)
    assert found.tolist() == [sorted(first)]


def test_infinite_logits_are_in_order(how):
    ends = torch.tensor([[float("-inf"), 3.0, float("inf"), -2.0, float("-inf")]])
    assert top_ids(ends, 3).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("k", [0, 4])
def test_more_tokens_than_columns_is_an_error(k, how):
    with pytest.raises(ValueError, match="between 1 and 3"):
        top_ids(torch.zeros(1, 3), k)
