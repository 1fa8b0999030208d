"""Canary secrets: found whole, at the edges of a text, and within other personal data."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.privacy import find_personal, mask
from reports.privacy.candidates import searched_kinds
from reports.privacy.items import SECRET
from reports.privacy.redaction import mask_personal
from reports.privacy.secrets import secret_finder


def masked(text, *secrets):
    return mask_personal(text, more=(secret_finder(secrets),))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("code 51949800.", "code ••••••••."),
        ("CODE ABCD-51949800", "CODE ABCD-••••••••"),
        ("1519498001", "1519498001"),  # another number
        ("the text ends in 5194", "the text ends in ••••"),
        ("49800 begins it", "••••• begins it"),
        ("ends in 519", "ends in 519"),  # three digits tell nothing
    ],
)
def test_a_secret_is_masked_as_a_word_and_where_the_text_cuts_it(text, shown):
    assert masked(text, ("p ", "51949800")) == shown


def test_case_does_not_matter():
    assert masked("Blue Horse Staple", ("", "blue horse staple")) == "•••• ••••• ••••••"


def test_a_secret_within_an_address_leaves_no_part_of_either():
    text = "to x.519498@example.org now"
    (item,) = find_personal(text, more=(secret_finder([("", "519498")]),))
    assert (item.kind, text[item.start : item.end]) == (SECRET, "x.519498@example.org")
    assert mask(text, [item]).text == "to •.••••••@•••••••.••• now"


def test_secrets_do_not_count_as_personal_data():
    assert SECRET not in searched_kinds(names=True)


@given(st.text("ab1 é\u0130", max_size=12), st.text("ab1 é\u0130", max_size=12))
def test_a_secret_among_other_words_is_never_shown(before, after):
    secret = "-".join(["q7k2", "m9x4"])
    assert secret not in masked(f"{before} {secret} {after}", ("", secret))
