"""Near-verbatim matches against a table of edits, filled one cell at a time."""

from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.matching.edit_distance import nearest_passage

few = settings(max_examples=150, deadline=None)
short = st.text("abé", max_size=9)


def edits(a, b):
    """Levenshtein's distance by its definition."""
    table = [[i + j if not i * j else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            swap = table[i - 1][j - 1] + (a[i - 1] != b[j - 1])
            table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, swap)
    return table[-1][-1]


def every_passage(text):
    return [(i, j) for i in range(len(text) + 1) for j in range(i, len(text) + 1)]


@few
@given(short, short)
def test_the_nearest_passage_is_found_with_its_distance(span, text):
    found = nearest_passage(span, text)
    assert found.distance == min(edits(span, text[i:j]) for i, j in every_passage(text))
    assert found.distance == edits(span, text[found.start : found.end])
