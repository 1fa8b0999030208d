"""Readings of the scores of Carlini et al. 2021."""

from __future__ import annotations

import math

import numpy as np

from attacks.scores.paper import (
    likelihood,
    lowercase,
    reference,
    window,
    zlib,
    zlib_bits,
)
from attacks.scores.reference_difference import reference_difference
from benchmarks.conformance import inputs as given
from benchmarks.conformance.question import Question, other, ours


def paper_questions() -> tuple[Question, ...]:
    """What papers and code read differently in the scores of Carlini et al. 2021."""
    return (_loss(), _reference(), _lowercase(), _zlib(), _window())


def _loss() -> Question:
    nll, total = given.TARGET.nll(), given.TARGET.total_nll()
    return Question(
        "Likelihood and loss: mean or sum, and the unit",
        given.NAMES,
        (
            ours("-L, mean nats per token", likelihood(given.TARGET), "Carlini et al. 2021, §4.2"),
            other("-sum of nats", -total, "log-likelihood of the whole text"),
            other("-L / ln 2, mean bits per token", -nll / math.log(2), "logarithms to base 2"),
            other("exp(L), perplexity", np.exp(nll), "Shi et al. 2024, code (lower = member)"),
        ),
        "The sum grows with the length and would rank short texts first. Bits and perplexity give "
        "the same order as nats.",
    )


def _reference() -> Question:
    target, small = given.TARGET, given.REFERENCE
    return Question(
        "Reference model: ratio or difference",
        given.NAMES,
        (
            ours("L_reference / L", reference(target, small), "Carlini et al. 2021, §5.2"),
            ours(
                "L_reference - L",
                reference_difference(target, small),
                "Duan et al. 2024; Shi et al. 2024, code (its negative, lower = member)",
            ),
            other(
                "exp(L_reference - L), ratio of the perplexities",
                np.exp(small.nll() - target.nll()),
                "the same order as the difference",
            ),
        ),
        "Both are columns, `reference:NAME` and `reference_difference:NAME`. They rank texts "
        'differently (here b and c), and papers use "reference" for either.',
    )


def _lowercase() -> Question:
    target, lowered = given.TARGET, given.LOWERCASED
    return Question(
        "Lower-cased text: of perplexities or of their logarithms",
        given.NAMES,
        (
            ours("L(lower-cased) / L", lowercase(target, lowered), "Carlini et al. 2021, code"),
            other(
                "exp(L(lower-cased) - L)",
                np.exp(lowered.nll() - target.nll()),
                "Carlini et al. 2021, §5.2, text",
            ),
            other(
                "-L(lower-cased) / L", -lowercase(target, lowered), "Shi et al. 2024, code (lower)"
            ),
        ),
        "The paper's other ratios are of logarithms, and its code computes this one the same way. "
        "The two rank texts differently (here a and b).",
    )


def _zlib() -> Question:
    bits = {level: zlib_bits(given.TEXTS, level=level) for level in (0, 1, 6, 9)}
    ratio = {level: zlib(given.TARGET, n) for level, n in bits.items()}
    return Question(
        "zlib: bits or bytes, level, direction",
        given.NAMES,
        (
            ours("bits at level 6 / L", ratio[6], "Carlini et al. 2021, §5.2"),
            other("bytes at level 6 / L", ratio[6] / 8, "Carlini et al. 2021, code"),
            other("L / bytes at level 6", 8 / ratio[6], "Shi et al. 2024, code (lower)"),
            other("bits at level 9 / L", ratio[9], "zlib's highest effort"),
            other("bits at level 1 / L", ratio[1], "zlib's lowest effort"),
            other("bits at level 0 / L", ratio[0], "stored, not compressed: only the length"),
        ),
        "Entropy is measured in bits; the ratio of bytes is an eighth of it. Level 6 is the "
        "default of `zlib.compress`, which all public code uses. On texts this short, levels 1 to "
        "9 give the same size; on longer texts other builds of zlib may differ slightly.",
    )


def _window() -> Question:
    target = given.TARGET
    return Question(
        "Sliding window: texts shorter than the window",
        given.NAMES,
        (
            ours(
                "-min over windows of 50 tokens of L",
                window(target),
                "Carlini et al. 2021, §5.2",
            ),
            other("the same, windows of 3", window(target, width=3), "for comparison"),
        ),
        "A shorter text counts as one window, so that it has a score. The stride is 1; the paper "
        "does not name one.",
    )
