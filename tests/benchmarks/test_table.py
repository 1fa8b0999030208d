"""The benchmark's table: every line is there with its ratio, a line that fails says so."""

import json

from benchmarks.__main__ import growth, run_line, table
from benchmarks.lines import Row
from benchmarks.made import made_tokenizer
from benchmarks.roofline import flops, moved_bytes, shapes
from tests.planted import tiny_model


def line(name, seconds, peak, ratio=None):
    row = {"what": "audit", "value": seconds, "unit": "s", "ratio": ratio, "of": "grep"}
    return {"line": name, "seconds": seconds, "peak_mb": peak, "rows": [row]}


def test_growth_is_reported_as_ratios_of_time_and_memory():
    found = [line("growth-100", 2.0, 500.0), line("growth-1000", 21.0, 510.0)]
    (told,) = growth(found)
    assert told == "100 to 1000 samples: 10.50 times the time, 1.02 times the peak memory"


def test_the_table_sets_figures_of_another_time_beside():
    found = [line("matching", 3.0, 80.0, ratio=1.5), {**line("dedup", 1, 2), "error": "no room"}]
    first, second, third = table(found, {("matching", "audit", "s"): 4.0})
    assert first == ["matching", "audit", "3", "s", "1.50 of grep", "80", "4"]
    assert second[-1] == ""
    assert third[1] == "FAILED: no room"


def test_a_line_is_measured_in_a_process_of_its_own():
    found = run_line("dedup", "small")
    assert "error" not in found
    assert [row["unit"] for row in found["rows"]] == ["texts/s", "s"]
    assert found["peak_mb"] > 50  # numpy alone takes as much
    assert json.dumps(found)
    assert "error" in run_line("no-such-line", "small")


def test_the_products_of_a_model_are_those_of_its_layers_and_head():
    """By hand, of two layers 32 wide: 32*96 + 32*32 + 32*128 + 128*32 each, and 32*61."""
    model = tiny_model("gpt2")
    assert sum(a * b * n for a, b, n in shapes(model)) == 2 * (32 * (96 + 32 + 128 + 128)) + 32 * 61
    # In float32; keys and values of two layers, 3 sequences, 5 of 10 tokens in the mean.
    assert moved_bytes(model, 3, 10) == (4 * flops(model) / 2, 4 * 2 * 2 * 32 * 3 * 5)
    assert flops(model) == 2 * (2 * (32 * (96 + 32 + 128 + 128)) + 32 * 61)


def test_the_made_tokenizer_has_every_token_requested_and_loses_no_text():
    tokenizer = made_tokenizer(1000)
    assert len(tokenizer) == 1000
    text = "any text, été 中\n"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert Row("x", 1.0, "s").ratio is None
