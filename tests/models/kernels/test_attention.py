"""Attention over whole texts in bfloat16 beside its definition in float64."""

from __future__ import annotations

import pytest
import torch

from auditor.models.kernels import attention
from auditor.models.kernels.attention import slot_attention, tiled_attention
from tests.planted import tiny_model


def by_definition(query, key, value, scale):
    """softmax over the tokens so far, a query at a time: (batch, time, heads, head_dim)."""
    q, k, v = (x.double() for x in (query, key, value))
    out = torch.empty(q.shape[0], q.shape[2], q.shape[1], q.shape[3], dtype=torch.float64)
    for t in range(q.shape[2]):
        weights = (scale * torch.einsum("bhd,bhsd->bhs", q[:, :, t], k[:, :, : t + 1])).softmax(-1)
        out[:, t] = torch.einsum("bhs,bhsd->bhd", weights, v[:, :, : t + 1])
    return out


@pytest.mark.parametrize("time", [2, 15, 16, 17, 40])
@pytest.mark.parametrize("scaling", [None, 0.4])
def test_texts_of_whole_and_of_broken_tiles_are_the_definition(time, scaling):
    """As a network hands them on: heads side by side in one row a token."""
    made = torch.Generator().manual_seed(time)
    rows = torch.randn((3, 3, time, 2, 16), generator=made).bfloat16()
    query, key, value = rows.transpose(2, 3).unbind(0)
    found = tiled_attention(query, key, value, scaling)
    exact = by_definition(query, key, value, 0.25 if scaling is None else scaling)
    assert found.shape == exact.shape
    assert (found.double() - exact).abs().max() < 0.03  # weights and sums of 8 bits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scaling", [None, 0.5, 0.4])
@pytest.mark.parametrize("sharing", [1, 3])
def test_one_query_a_sequence_is_the_definition(dtype, scaling, sharing):
    """Of 1, 4 and 6 tokens in a room of 6; 2 heads of keys, `sharing` of queries for each."""
    made = torch.Generator().manual_seed(sharing)
    query = torch.randn((3, 2 * sharing, 1, 16), generator=made).to(dtype)
    key, value = torch.randn((2, 3, 2, 6, 16), generator=made).to(dtype).unbind(0)
    mask = torch.zeros((3, 1, 1, 6), dtype=dtype)
    for row, length in enumerate((1, 4, 6)):
        mask[row, ..., length:] = torch.finfo(dtype).min
    found, _ = slot_attention(None, query, key, value, mask, scaling)
    keys, values = (x.double().repeat_interleave(sharing, dim=1) for x in (key, value))
    weights = (0.25 if scaling is None else scaling) * query.double() @ keys.transpose(2, 3)
    exact = ((weights + mask.double()).softmax(-1) @ values).transpose(1, 2)
    assert found.shape == exact.shape == (3, 1, 2 * sharing, 16)
    allowed = 1e-5 if dtype == torch.float32 else 0.03
    assert (found.double() - exact).abs().max() < allowed


@pytest.mark.parametrize("tiles", [True, False])
def test_it_serves_whole_texts_in_bfloat16_on_tiles_and_nothing_else(monkeypatch, tiles):
    served = []

    def counted(query, *more):
        served.append(query.shape)
        return tiled_attention(query, *more)

    monkeypatch.setattr(attention, "tiled_attention", counted)
    monkeypatch.setattr(attention, "has_tiles", lambda: tiles)
    half, full = tiny_model(dtype=torch.bfloat16), tiny_model()
    grouped = tiny_model("llama", dtype=torch.bfloat16)  # two heads of keys for four of queries
    text = [[3, 5, 8, 2, 9]]
    served.clear()  # loading looks at a text too
    full.token_stats(text)
    grouped.token_stats(text)
    assert served == []
    half.token_stats(text)
    # BOS and five tokens, in each of two layers.
    assert served == ([(1, 4, 6, 8)] * 2 if tiles else [])
    session = half.session(2, 4)
    served.clear()
    session.step(torch.tensor([1, 2]))
    assert served == []
