"""Which overlaps are long only by runs of one character."""

from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from auditor.corpus.text_files import Document
from auditor.matching.boilerplate import n_varied_chars, n_varied_tokens, without_boilerplate
from auditor.matching.verbatim import Query, find_matches

BORDER = "+" + ("-" * 30 + "+") * 4
WORDS = "".join(f"row {letter} of the table; " for letter in "abcdefghijkl")


def kept(text: str, *, min_tokens: int = 32, min_chars: int = 100, token: int = 40, **options):
    """What of a text counts when it stands whole in the corpus."""
    query = Query("s", text, [*range(token, len(text), token), len(text)])
    least = {"min_tokens": min_tokens, "min_chars": min_chars}
    found = find_matches([query], [Document("d", f"<{text}>", "")], **least, **options)
    assert len(found) == 1
    return without_boilerplate(found, [query], **least)


@given(st.text(alphabet="ab -"))
def test_run_counts_equal_a_grouping(text):
    assert n_varied_chars(text) == len(list(groupby(text)))


def test_a_repeated_border_is_not_an_overlap():
    assert len(BORDER) == 125
    assert kept(BORDER) == []
    [match] = kept(WORDS[:125])
    assert (match.start, match.end, match.n_chars) == (0, 125, 125)


def test_words_between_blanks_count_without_the_blanks():
    spread = WORDS.replace(" ", " " * 9)
    assert n_varied_chars(spread) == len(WORDS) > 100
    assert len(kept(spread)) == 1
    assert kept(spread, min_chars=len(WORDS) + 1) == []


def test_tokens_of_a_run_count_once_and_others_each():
    """Of the border's 42 tokens of 3 characters, 6 hold a plus or the first dash of a run."""
    ends = [*range(3, 125, 3), 125]
    begins = [0, *ends[:-1]]
    n = sum(
        any(i == 0 or BORDER[i] != BORDER[i - 1] for i in range(a, b))
        for a, b in zip(begins, ends, strict=True)
    )
    assert n == n_varied_tokens(Query("s", BORDER, ends), 0, 125) == 6
    assert kept(BORDER, token=3) == []
    assert len(kept(BORDER, token=3, min_tokens=6)) == 1
    assert len(kept(WORDS[:96], token=3)) == 1


def slow_varied(text, ends, start, end):
    """Walk over the tokens; a part of a character goes with the token that completes it."""
    n, begin = 0, 0
    for i, until in enumerate(ends):
        rest = [e for e in ends[i:] if e > begin]
        last = until if until > begin else min(rest[0] if rest else end, end)
        is_inside = start <= begin < end and start < until <= end
        places = range(begin, min(last, end))
        n += is_inside and any(p == start or text[p] != text[p - 1] for p in places)
        begin = until
    return n


@given(st.data())
def test_varied_tokens_equal_a_walk_over_them(data):
    text = data.draw(st.text(alphabet="ab", min_size=1, max_size=12))
    ends = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    assert n_varied_tokens(Query("s", text, ends), start, end) == slow_varied(
        text, ends, start, end
    )


def test_the_least_number_of_characters_is_the_first_that_counts():
    text = "ab" * 50
    assert len(kept(text)) == 1
    assert kept(text[:99] + "a") == []


def test_spaces_that_were_normalized_are_not_counted_in_either_form():
    text = " " * 50 + "ab" * 45 + "\t \n" * 20  # compared as one space, 90 letters, one space
    assert kept(text, normalize="whitespace", min_chars=92)[0].n_chars == 92
