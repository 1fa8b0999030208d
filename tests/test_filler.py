"""Which overlaps are long only by runs of one character."""

from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from auditor.corpora.filler import n_varied_chars, without_filler
from auditor.corpora.formats import Document
from auditor.corpora.matching import Needle, find_matches

BORDER = "+" + ("-" * 30 + "+") * 4
WORDS = "".join(f"row {letter} of the table; " for letter in "abcdefghijkl")


def kept(text: str, *, min_tokens: int = 32, min_chars: int = 100, token: int = 40, **options):
    """What of a text counts when it stands whole in the corpus."""
    needle = Needle("s", text, [*range(token, len(text), token), len(text)])
    least = {"min_tokens": min_tokens, "min_chars": min_chars}
    found = find_matches([needle], [Document("d", f"<{text}>", "")], **least, **options)
    assert len(found) == 1
    return without_filler(found, [needle], **least)


@given(st.text(alphabet="ab -"))
def test_a_run_counts_as_often_as_grouping_finds_one(text):
    assert n_varied_chars(text) == len(list(groupby(text)))


def test_a_border_is_no_overlap_and_words_of_its_length_are():
    assert len(BORDER) == 125
    assert kept(BORDER) == []
    [match] = kept(WORDS[:125])
    assert (match.start, match.end, match.n_chars) == (0, 125, 125)


def test_words_between_blanks_count_without_the_blanks():
    spread = WORDS.replace(" ", " " * 9)
    assert n_varied_chars(spread) == len(WORDS) > 100
    assert len(kept(spread)) == 1
    assert kept(spread, min_chars=len(WORDS) + 1) == []


def test_enough_tokens_count_whatever_they_are():
    assert len(kept(BORDER, token=3)) == 1


def test_the_least_number_of_characters_is_the_first_that_counts():
    text = "ab" * 50
    assert len(kept(text)) == 1
    assert kept(text[:99] + "a") == []


def test_spaces_that_were_normalized_are_not_counted_in_either_form():
    text = " " * 50 + "ab" * 45 + "\t \n" * 20  # compared as one space, 90 letters, one space
    assert kept(text, normalize="whitespace", min_chars=92)[0].n_chars == 92
