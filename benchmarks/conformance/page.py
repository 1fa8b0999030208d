"""The readings as a page in Markdown."""

from __future__ import annotations

import math
import textwrap

import numpy as np

from benchmarks.conformance import inputs as given
from benchmarks.conformance.membership import membership_questions
from benchmarks.conformance.paper import paper_questions
from benchmarks.conformance.question import Question


def questions() -> tuple[Question, ...]:
    """Every question of the page, its readings computed.

    >>> all(any(r.is_followed for r in question.readings) for question in questions())
    True
    """
    return (*paper_questions(), *membership_questions())


def page() -> str:
    """docs/conformance.md.

    >>> page().startswith("# Conformance")
    True
    """
    parts = [_HEAD, _SEQUENCES, _inputs()]
    for question in questions():
        why = textwrap.fill(question.why, 100)
        parts += [f"## {question.title}\n", _table(question), f"{why}\n"]
    return "\n".join(parts)


_HEAD = """# Conformance

Made by `make docs`; change `benchmarks/conformance/`, not this page.

Papers and public code print different numbers under the same name. Here is every such choice that
we know of, computed on the same small inputs by `python -m benchmarks.conformance`: find the number
you have, and you know how it was made. **Bold** is what we follow. L is the mean nats a token,
log p the natural logarithm of a token's probability, m a text's number of tokens. "Code" is the
authors' public code, "lower" what ranks members low; ours rank them high without exception.
"""


_SEQUENCES = """## What is judged

A sample goes on past the end of a document, as sampling does; the tokens between its documents
(EOS, and others that write nothing) are in L like any other. They stay in what it is compared
with. The lower-cased text is each document lower-cased, with the same tokens between. A reference
with the target's tokenizer judges the same tokens; one with another judges each document's text,
with the special token of the same name between, else for EOS and BOS its own EOS (its BOS if it
has none), else nothing. Both ratios are thus of one sequence of documents. zlib's bits are of the
text alone.

What follows a prompt is encoded with it as one string. A token that reaches across the cut is the
text's: all of the text is judged, and the prompt's last characters with it. Where lower-casing
changes neither prompt nor text, `lowercase` is 1, and nothing is judged again. A sample that
holds a token without a row in a reference's weights has no figure of that reference.

`auditor score SAMPLES` takes samples that come with `token_ids` and `prompt_token_ids`, as a run
has them, by these: its figures are the audit's. In a text without them the name of a special token
is that token.
"""


def _inputs() -> str:
    target = given.TARGET
    lines = ["## Inputs\n", "| text | | token ids | log p | mean | deviation |", "|" + " --- |" * 6]
    for i, name in enumerate(given.NAMES):
        own = slice(target.offsets[i], target.offsets[i + 1])
        columns = (target.token_ids, target.logprob, target.vocab_mean, target.vocab_std)
        cells = [" ".join(f"{x:.6g}" for x in c[own]) for c in columns if c is not None]
        lines.append(f"| {name} | {given.TEXTS[i]} | {' | '.join(cells)} |")
    lines.append("\nMean and deviation are those of log p over the vocabulary.\n")
    rows = {
        "reference": given.REFERENCE,
        "lower-cased": given.LOWERCASED,
        "after non-members": given.CONDITIONED,
        "neighbours": given.NEIGHBOURS,
    }
    lines += ["| log p | " + " | ".join(given.NAMES) + " |", "|" + " --- |" * 4]
    for name, stats in rows.items():
        texts = [" ".join(f"{x:.6g}" for x in stats.take([i]).logprob) for i in range(len(stats))]
        if name == "neighbours":
            ends = np.cumsum(given.N_NEIGHBOURS)
            starts = ends - given.N_NEIGHBOURS
            texts = ["; ".join(texts[a:b]) for a, b in zip(starts, ends, strict=True)]
        lines.append(f"| {name} | {' | '.join(texts)} |")
    for name, values in (
        ("Counts of tokens 0, 1, ... in a corpus", given.COUNTS),
        ("Scores of members", given.MEMBERS),
        ("Scores of non-members", given.NONMEMBERS),
    ):
        lines.append(f"\n{name}: {', '.join(f'{x:.6g}' for x in values)}.")
    return "\n".join(lines) + "\n"


def _table(question: Question) -> str:
    header = f"| reading | {' | '.join(question.columns)} | printed by |"
    lines = [header, "|" + " --- |" * (len(question.columns) + 2)]
    for reading in question.readings:
        formula = f"**{reading.formula}**" if reading.is_followed else reading.formula
        values = " | ".join(_number(x) for x in reading.values)
        lines.append(f"| {formula} | {values} | {reading.printed_by} |")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    """Six digits; what is no number in words.

    >>> _number(1 / 3), _number(-math.inf), _number(math.nan), _number(-0.0)
    ('0.333333', '-infinite', 'undefined', '0')
    """
    if math.isnan(value):
        return "undefined"
    if math.isinf(value):
        return "infinite" if value > 0 else "-infinite"
    return f"{value + 0.0:.6g}"
