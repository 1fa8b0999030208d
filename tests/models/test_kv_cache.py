"""The slot cache against a plain list, with growth and dropped slots."""

from __future__ import annotations

import pytest
import torch

from auditor.models.kv_cache import SlotCache

N, HEADS, WIDTH, CAPACITY = 5, 2, 3, 300


def states(n, seed):
    """Keys and values of one token a slot: (n, heads, 1, width) each."""
    made = torch.Generator().manual_seed(seed)
    return torch.randn((2, n, HEADS, 1, WIDTH), generator=made).unbind(0)


def write(cache, positions, seed):
    """One token a slot into both layers; returns what the second layer then hands out."""
    keys, values = states(len(positions), seed)
    cache.at(torch.tensor(positions), min(positions), max(positions))
    cache.update(keys + 1, values + 1, 0)
    return (keys, values), cache.update(keys, values, 1)


def check(handed, written):
    """Every slot's own tokens stand where they were written, and no number is missing."""
    for which, whole in enumerate(handed):
        assert whole.is_contiguous()
        assert whole.isfinite().all()
        for slot, tokens in enumerate(written):
            for at, token in enumerate(tokens):
                assert torch.equal(whole[slot, :, at], token[which])


@pytest.mark.parametrize("apart", [0, 7], ids=["together", "apart"])
def test_cached_values_stay_in_place_while_the_cache_grows(apart):
    cache = SlotCache(2, N, CAPACITY)
    written = [[] for _ in range(N)]
    for i in range(CAPACITY - apart * (N - 1)):
        positions = [i + apart * (N - 1 - s) if i else 0 for s in range(N)]
        if not i and apart:  # slots begin with prompts of their own lengths
            for s in range(N):
                cache.at_start(torch.tensor([s]))
                length = 1 + apart * (N - 1 - s)
                made = [states(1, 1000 * s + j) for j in range(length)]
                keys, values = (torch.cat([m[w] for m in made], dim=2) for w in (0, 1))
                cache.update(keys, values, 0)
                cache.update(keys, values, 1)
                written[s] = [(m[0][0, :, 0], m[1][0, :, 0]) for m in made]
            continue
        (keys, values), handed = write(cache, positions, i)
        for s in range(N):
            written[s].append((keys[s, :, 0], values[s, :, 0]))
        if i in (1, 31, 32, 63, 64, 65, 127, 128, 200, CAPACITY - 1):
            check(handed, written)
    assert cache.room == CAPACITY
    check(handed, written)


def test_slots_that_are_kept_hold_their_tokens_in_the_new_order():
    cache = SlotCache(2, N, CAPACITY)
    written = [[] for _ in range(N)]
    for i in range(40):
        (keys, values), handed = write(cache, [i] * N, i)
        for s in range(N):
            written[s].append((keys[s, :, 0], values[s, :, 0]))
    cache.keep(torch.tensor([4, 1]))
    written = [written[4], written[1]]
    for i in range(40, 140):
        (keys, values), handed = write(cache, [i] * 2, i)
        for s in range(2):
            written[s].append((keys[s, :, 0], values[s, :, 0]))
    assert handed[0].shape[0] == 2
    check(handed, written)
