"""Near-verbatim matches against a table of edits, filled one cell at a time."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.errors import AuditError
from auditor.matching.edit_distance import near, nearest_passage

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
def test_no_passage_is_nearer_and_the_distance_is_that_of_the_passage(span, text):
    found = nearest_passage(span, text)
    assert found.distance == min(edits(span, text[i:j]) for i, j in every_passage(text))
    assert found.distance == edits(span, text[found.start : found.end])


@few
@given(short, short, st.integers(0, 9), st.integers(0, 5))
def test_the_passage_lies_within_the_margin_of_its_place(span, document, place, margin):
    place = min(place, len(document))
    first, last = max(0, place - margin), min(len(document), place + len(span) + margin)
    got = near(span, document, place=place, n_tokens=1, margin=margin, encode=list)
    assert first <= got.doc_start <= got.doc_end <= last
    best = min(
        edits(span, document[first:last][i:j]) for i, j in every_passage(document[first:last])
    )
    assert got.char_distance == best
    # Encoded letter by letter, tokens are characters.
    assert got.token_distance == best
    assert got.n_chars == len(span)


@pytest.mark.parametrize(
    ("n_wrong", "n_tokens", "is_near"), [(5, 50, True), (6, 50, False), (4, 49, False)]
)
def test_near_is_one_token_in_ten_of_fifty_or_more(n_wrong, n_tokens, is_near):
    source = [f"w{i}" for i in range(n_tokens)]
    said = [f"Y{i}" if i % 7 == 3 and i // 7 < n_wrong else w for i, w in enumerate(source)]
    text = "before it all " + " ".join(source) + " and after"
    got = near(" ".join(said), text, place=14, n_tokens=n_tokens, encode=str.split)
    assert (got.token_distance, got.is_near) == (n_wrong, is_near)
    assert text[got.doc_start : got.doc_end] == " ".join(source)


@pytest.mark.parametrize(("n_wrong", "is_near"), [(0, True), (20, True), (21, False)])
def test_without_an_encoding_near_is_one_character_in_ten(n_wrong, is_near):
    source = "abcdefghij" * 20
    said = "".join("#" if i % 9 == 4 and i // 9 < n_wrong else c for i, c in enumerate(source))
    got = near(said, "??" + source + "??", place=2, n_tokens=50)
    assert (got.char_distance, got.token_distance) == (n_wrong, None)
    assert got.is_near is is_near


@pytest.mark.parametrize("change", [{"place": 5}, {"place": -1}, {"n_tokens": -1}, {"margin": -1}])
def test_places_that_do_not_exist_are_refused(change):
    with pytest.raises(AuditError, match="place must lie within the document's 4 characters"):
        near("abc", "abcd", **{"place": 0, "n_tokens": 3, **change})
