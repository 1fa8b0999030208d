"""The page of conformance: up to date, computed by the real scores, right by hand."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from attacks.scores.all_scores import TEXTS, all_scores, zlib_bits
from attacks.scores.score_table import scores_for
from attacks.statistics.roc import tpr_at_fpr
from benchmarks.conformance import inputs
from benchmarks.conformance.page import page, questions

ROOT = Path(__file__).parents[2]
READINGS = {q.title.partition(":")[0]: {r.formula: r for r in q.readings} for q in questions()}
INF, NAN = math.inf, math.nan

# Worked out on paper from the inputs: a has 10 tokens and 20 nats, b 4 and 16, c 1 and 0.
BY_HAND = [
    ("Likelihood and loss", "-L, mean nats per token", (-2, -4, 0)),
    ("Likelihood and loss", "-sum of nats", (-20, -16, 0)),
    (
        "Likelihood and loss",
        "-L / ln 2, mean bits per token",
        (-2 / math.log(2), -4 / math.log(2), 0),
    ),
    ("Likelihood and loss", "exp(L), perplexity", (math.e**2, math.e**4, 1)),
    ("Reference model", "L_reference / L", (30 / 20, 24 / 16, INF)),
    ("Reference model", "L_reference - L", (1, 2, 1.5)),
    ("Lower-cased text", "L(lower-cased) / L", (2, 28 / 16, NAN)),
    ("Lower-cased text", "exp(L(lower-cased) - L)", (math.e**2, math.e**3, 1)),
    # Stored: 2 bytes of header, 5 of a block, the text, 4 of checksum.
    ("zlib", "bits at level 0 / L", (8 * (11 + 46) / 2, 8 * (11 + 17) / 4, INF)),
    # a's likeliest three in a row: 2, 1 and 0.5 nats; b's: 5, 3 and 2.
    ("Sliding window", "the same, windows of 3", (-3.5 / 3, -10 / 3, 0)),
    # The least likely two of a: -6 and -4; one of b.
    ("Min-K%", "mean log p of max(1, floor(m / 5)) tokens", (-5, -6, 0)),
    ("Min-K%", "mean log p of floor(m / 5) tokens", (-5, NAN, NAN)),
    ("Min-K%", "mean log p of ceil(m / 5) tokens", (-5, -6, 0)),
    ("Min-K%", "ours, m without the first token", (-6, -5, NAN)),
    (
        "Min-K%",
        "log of the mean p of the same tokens as ours",
        (math.log((math.e**-4 + math.e**-6) / 2), -6, 0),
    ),
    # The lowest two of a: (-4 + 1.5) / 1 and (-6 + 4) / 2; of b: (-6 + 4) / 2.
    (
        "Min-K%++",
        "variance clamped at 0, deviation at 0.0001 nats, at least one token",
        (-1.75, -1, 0),
    ),
    ("Min-K%++", "not clamped, at least one token", (-1.75, -1, NAN)),
    # Of a's -6 (entropy 4) and -4 (entropy 1.5) only the second is below 2 nats.
    ("SURP", "undefined", (-4, NAN, 0)),
    ("SURP's percentile", "the max(1, floor(m / 5)) least likely tokens", (-4, NAN, 0)),
    ("SURP's percentile", "the floor(m / 5) least likely tokens", (-4, NAN, NAN)),
    # Two fifths of the way from the 20th to the 30th percentile, of ten numbers: -6 and -4 below.
    ("SURP's percentile", "tokens below the interpolated percentile", (-4, NAN, NAN)),
    ("ReCaLL", "L(text after prefix) / L, over the tokens that both have", (1.4, 18 / 16, INF)),
    (
        "ReCaLL",
        "the first token in L(text after prefix) alone",
        (2.8 / (19 / 9), 4.5 / (10 / 3), NAN),
    ),
    # After members: 20 nats of a, 15 of b, 1 of c, whose own L is 0.
    (
        "Con-ReCall",
        "(L(text after non-members) - L(text after members) / 2) / L",
        (1.4 - 20 / 20 / 2, 18 / 16 - 15 / 16 / 2, NAN),
    ),
    # At a's two errors d is -2 and 1; at b's three it is 3, 1 and 2; c has none.
    ("Error zone (EZ-MIA)", "infinite: the most likely member", (0.5, INF, INF)),
    ("Error zone (EZ-MIA)", "0 there, and below two errors", (0.5, 0, 0)),
    # d of a: 1 -2 -2 1 1 1 1 -1 5 5, in windows of 2, 3, 4, 5 and 8 (6 and 9 in the code).
    (
        "Window comparison (WBC)",
        "2, 3, 4, 5, 8, 11, 15, 21, 29, 40",
        ((5 / 9 + 5 / 8 + 5 / 7 + 4 / 6 + 2 / 3) / 5, 1, NAN),
    ),
    (
        "Window comparison (WBC)",
        "2, 3, 4, 6, 9, 13, 18, 25, 32, 40",
        ((5 / 9 + 5 / 8 + 5 / 7 + 3 / 5 + 2 / 2) / 5, 1, NAN),
    ),
    ("Neighbourhood", "mean L(neighbour) - L", ((3 + 4) / 2 - 2, (5 + 4) / 2 - 4, NAN)),
    ("Neighbourhood", "(mean L(neighbour) - L) / deviation", (1.5 / 0.5, 0.5 / 0.5, NAN)),
    # f(0) = 61/109; c is that token for sure.
    (
        "DC-PDD",
        "over distinct tokens, no cap",
        (None, None, -math.log(61 / 109)),
    ),
    # Members above 7.5: 9 and 8; above 5: 7 and 6 too.
    ("TPR at an FPR", "the last point whose FPR does not exceed the target", (4 / 8, 4 / 8)),
    ("TPR at an FPR", "the last point whose FPR is below the target", (2 / 8, 4 / 8)),
    ("TPR at an FPR", "the first point whose FPR reaches the target", (2 / 8, 5 / 8)),
    (
        "TPR at an FPR",
        "linear interpolation between the neighbouring points",
        (4 / 8, 0.5 + 0.6 / 8),
    ),
]


@pytest.mark.parametrize(("title", "formula", "expected"), BY_HAND)
def test_readings_equal_hand_computed_values(title, formula, expected):
    got = READINGS[title][formula].values
    assert len(got) == len(expected)
    for value, by_hand in zip(got, expected, strict=True):
        if by_hand is not None:
            assert value == pytest.approx(by_hand, rel=1e-6, nan_ok=True)


def test_our_reading_equals_our_scores():
    scores = all_scores(
        inputs.TARGET,
        made_for=TEXTS,
        zlib_bits=zlib_bits(inputs.TEXTS),
        references={"r": inputs.REFERENCE},
        lowercased=inputs.LOWERCASED,
        conditioned=inputs.CONDITIONED,
        conditioned_members=inputs.AFTER_MEMBERS,
        neighbours=inputs.NEIGHBOURS,
        n_neighbours=inputs.N_NEIGHBOURS,
        token_counts=inputs.COUNTS,
    )
    followed = [r.values for q in questions() for r in q.readings if r.is_followed]
    for name, values in scores.items():
        same = [v for v in followed if len(v) == 3 and np.array_equal(v, values, equal_nan=True)]
        assert same, f"{name} is not on the page, or not as it is computed"
    # Losses under masks are of masked models.
    assert len(scores) == len([s for s in scores_for("texts") if "masks" not in s.needs])


def test_the_point_that_we_follow_is_that_of_our_curves():
    (ours,) = (r for r in READINGS["TPR at an FPR"].values() if r.is_followed)
    # Ten times as many non-members, so that it is not withheld; the curve is the same.
    points = tpr_at_fpr(inputs.MEMBERS, np.tile(inputs.NONMEMBERS, 10), targets=(0.125, 0.2))
    assert ours.values == tuple(point.tpr.value for point in points)


def test_every_question_has_a_reading_that_differs_from_ours():
    for question in questions():
        ours = [r.values for r in question.readings if r.is_followed]
        others = [r.values for r in question.readings if not r.is_followed]
        assert any(str(a) != str(b) for a in ours for b in others), question.title


def test_the_page_has_every_reading_and_no_broken_row():
    text = page()
    for question in questions():
        assert f"\n## {question.title}\n" in text
        for reading in question.readings:
            assert reading.formula in text
            assert "|" not in reading.formula + reading.printed_by
    tables = [block for block in text.split("\n\n") if block.startswith("| ")]
    assert len(tables) == len(questions()) + 2
    for table in tables:
        assert len({line.count("|") for line in table.rstrip().splitlines()}) == 1


def test_the_page_is_what_the_command_prints():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "benchmarks.conformance"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    there = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    assert there == done.stdout.decode(), "run: make docs"
    assert page() == there
