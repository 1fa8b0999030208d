"""Content types: each rule matches text of its type, and none matches plain prose."""

import pandas as pd
import pytest

from reports.analysis.content_types import CONTENT_KINDS, content_kinds, content_table
from reports.privacy import find_personal

PROSE = (
    "The museum stands by the river. Visitors walk through three halls, where paintings of the "
    "harbour hang beside tools that sailors used, and most of them stay for about an hour."
)
EXAMPLES = {
    "URLs": "More at https://example.org/a/b?c=1 for those who care.",
    "licence or terms": "Copyright (c) 2003 by the authors. All rights reserved. Redistribution "
    "and use in source and binary forms are permitted.",
    "log lines or error report": "2021-03-01 10:00:01 ERROR disk full\n"
    "2021-03-01 10:00:02 INFO retry\n2021-03-01 10:00:09 ERROR disk full",
    "high entropy": "the id is 3f2a9c1e-77b4-4d0a-9e2f-0b1c2d3e4f5a as before",
    "contact data": "Write to the desk at desk@example.org.",
    "code": "def area(r):\n    import math\n    for i in range(3):\n        print(i)\n    return r",
    "configuration": "[server]\nport = 8080\nhost = localhost\nworkers = 4",
    "religious text": "And the LORD said unto Moses, Thou shalt speak; and he hath spoken.",
    "list of numbers": "1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233",
    "forum or wiki": "Posted by anna\nQuote: what he said\nOriginally posted on Friday",
    "web form or menu": "Home page About us Contact us Sign in Privacy policy",
    "promotion": "Order now and get 20% off, free shipping on all shoes",
    "news": "LONDON (Reuters) - Shares rose on Tuesday.",
}


@pytest.mark.parametrize("kind", CONTENT_KINDS)
def test_each_content_type_is_recognised(kind):
    text = EXAMPLES[kind]
    assert kind in content_kinds(text, find_personal(text))


def test_plain_prose_has_no_content_type():
    assert content_kinds(PROSE, find_personal(PROSE)) == []


@pytest.mark.parametrize("kind", [k for k in CONTENT_KINDS if k not in ("URLs", "news")])
def test_an_example_of_one_type_does_not_match_another(kind):
    text = EXAMPLES[kind]
    assert content_kinds(text, find_personal(text)) == [kind]


def test_one_marker_is_not_enough():
    assert content_kinds("He sold the house at a discount and went home.") == []
    assert content_kinds("x = 1 is what he wrote on the board.") == []


def test_the_table_counts_each_kind_once_a_candidate_and_leaves_the_control_out():
    candidates = pd.DataFrame(
        {
            "content_kinds": ["code; URLs", "code", None, "code"],
            "verdict": ["verbatim", "not found", "verbatim", "verbatim"],
            "best_rank": pd.array([1, 2, 3, None], dtype="Int64"),
        }
    )
    got = {
        row.kind: (row.n_candidates, row.n_verbatim)
        for row in content_table(candidates).itertuples()
    }
    assert got == {"code": (2, 1), "URLs": (1, 1), "none of these": (1, 1)}
