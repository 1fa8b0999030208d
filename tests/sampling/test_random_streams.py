"""Counter-based uniforms: the published numbers, in any order and batch."""

from __future__ import annotations

import numpy as np
import pytest

from auditor.sampling.random_streams import philox, stream_of, uniforms

# Random123, file kat_vectors, lines "philox4x32 10": counter, key, output.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip


def words(line):
    return [int(word, 16) for word in line.split()]


@pytest.mark.parametrize(("counter", "key", "output"), KNOWN)
def test_philox_gives_the_published_numbers(counter, key, output):
    found = philox(np.array([words(counter)], dtype=np.uint32), tuple(words(key)))
    assert found[0].tolist() == words(output)


def test_philox_of_many_counters_is_philox_of_each():
    counters = np.arange(24, dtype=np.uint32).reshape(2, 3, 4)
    whole = philox(counters, (1, 2))
    for i, j in np.ndindex(2, 3):
        assert (whole[i, j] == philox(counters[i, j][None], (1, 2))[0]).all()


def test_a_sample_draws_the_same_in_any_batch():
    steps = np.arange(5)
    whole = uniforms(3, "top-n", np.arange(100), steps)
    some = np.array([99, 7, 8, 42])
    assert (uniforms(3, "top-n", some, steps) == whole[some]).all()
    assert (uniforms(3, "top-n", some, steps[2:4]) == whole[some][:, 2:4]).all()


def test_uniforms_are_the_top_53_bits_of_two_words():
    """By hand: words a, b of the counter (step, sample, sample >> 32, stream), key = the seed."""
    seed, sample, step = 2**40 + 5, 2**33 + 9, 17
    counter = np.array([[step, sample & 0xFFFFFFFF, sample >> 32, stream_of("s")]], np.uint32)
    a, b, _, _ = philox(counter, (seed & 0xFFFFFFFF, seed >> 32))[0].tolist()
    expected = (a * 2**32 + b) // 2**11 / 2**53
    assert uniforms(seed, "s", np.array([sample]), np.array([step]))[0, 0] == expected


def test_seeds_streams_samples_and_steps_draw_apart():
    samples, steps = np.array([0, 1, 2**32]), np.arange(4)
    drawn = [
        uniforms(seed, stream, samples, steps)
        for seed in (0, 1, 2**32)
        for stream in ("top-n", "temperature", "prompt:top-n")
    ]
    flat = np.concatenate([u.ravel() for u in drawn])
    assert len(np.unique(flat)) == len(flat) == 3 * 3 * 3 * 4


def test_uniforms_lie_in_the_unit_interval_and_fill_it():
    u = uniforms(0, "any", np.arange(1000), np.arange(100))
    assert u.min() >= 0
    assert u.max() < 1
    # Ten equal bins of 100,000: each count has mean 10,000 and standard deviation 95.
    counts, _ = np.histogram(u, bins=10, range=(0, 1))
    assert np.abs(counts - 10_000).max() < 5 * 95


def test_the_largest_word_pair_stays_below_one():
    """53 ones over 2^53 is the largest double below 1; one more bit would round up to 1."""
    assert np.nextafter(1, 0) == (2**53 - 1) * 2.0**-53
