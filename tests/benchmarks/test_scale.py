"""The page on scale: its arithmetic by hand, and that it is current."""

from pathlib import Path

import pytest

from benchmarks.scale import H100, PYTHIA, SMALL, XL, Campaign, page, slots
from benchmarks.scale import sampled_per_second as sampled
from benchmarks.scale import scored_per_second as scored


def test_sampling_is_bound_by_what_a_step_reads():
    # Cache: 2 (keys, values) x 2 bytes x 48 layers x 1,600 = 307,200 bytes a token, 257 tokens in
    # half of 80 - 3.116 GB: 486 sequences. A step reads 3.116 GB and 486 half-full caches of
    # 128 tokens, 19.11 GB: 22.23 GB at 3.35 TB/s are 6.635 ms, and 70 % of 486 / 6.635 ms 51,276.
    assert slots(XL, H100, 256) == 486
    assert sampled(XL, H100, 256) == pytest.approx(0.7 * 486 / 6.6347e-3, rel=1e-4)


def test_no_more_sequences_than_the_engine_has():
    assert slots(SMALL, H100, 64) == 2048


def test_scoring_is_two_operations_a_parameter_for_every_model():
    assert scored(PYTHIA, H100) == pytest.approx(0.5 * 989e12 / 13.72e9)
    asked = Campaign("", XL, 1000, 100, (SMALL,))
    want = 1e5 * (2 * 1.558e9 + 2 * 0.124e9) / (0.5 * 989e12)
    assert asked.seconds(H100)[1] == pytest.approx(want)


def test_the_page_is_up_to_date():
    kept = Path(__file__).parents[2] / "docs" / "scale.md"
    assert kept.read_text(encoding="utf-8") == page(), "run: make docs"
