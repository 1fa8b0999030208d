"""Personal data is detected by its form, counted and masked."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.privacy import Item, find_personal, mask
from reports.privacy.candidates import (
    count_personal,
    find_in_candidates,
    mask_candidates,
    searched_kinds,
)
from reports.privacy.keys import bits_per_character

# Numbers from standards and manuals, or made so that their checksum holds; they are nobody's.
FOUND = [
    ("e-mail", "write to ann.lee+x@mail.example.co.uk.", "ann.lee+x@mail.example.co.uk"),
    ("telephone", "ring +44 20 7946 0958 now", "+44 20 7946 0958"),
    ("telephone", "ring (212) 736-5000 now", "(212) 736-5000"),
    ("telephone", "call 2127365000 now", "2127365000"),
    ("payment card", "card 4111 1111 1111 1111.", "4111 1111 1111 1111"),
    ("payment card", "card 378282246310005.", "378282246310005"),
    ("payment card", "card 5555-5555-5555-4444.", "5555-5555-5555-4444"),
    ("IBAN", "IBAN DE89 3704 0044 0532 0130 00 AND MORE", "DE89 3704 0044 0532 0130 00"),
    ("IBAN", "to GB29NWBK60161331926819,", "GB29NWBK60161331926819"),
    ("IP address", "from 198.51.100.7:80", "198.51.100.7"),
    ("IP address", "from fe80::1ff:fe23:4567:890a,", "fe80::1ff:fe23:4567:890a"),
    ("address", "at 221B Baker Street, London NW1 6XE.", "221B Baker Street, London NW1 6XE"),
    (
        "address",
        "to 1600 Pennsylvania Avenue NW\nWashington, DC 20500",
        "1600 Pennsylvania Avenue NW\nWashington, DC 20500",
    ),
    ("address", "in der Hauptstraße 5, 10115 Berlin", "Hauptstraße 5, 10115 Berlin"),
    ("address", "au 12 rue de la Paix, 75002 Paris", "12 rue de la Paix, 75002 Paris"),
    ("national id", "SSN 536-90-4399.", "536-90-4399"),
    ("national id", "DNI 54362315K", "54362315K"),
    ("national id", "CF RCCMNL83S18D969H", "RCCMNL83S18D969H"),
    ("national id", "CPF 390.533.447-05", "390.533.447-05"),
    ("national id", "id 11010519491231002X", "11010519491231002X"),
    ("national id", "BSN: 111222333", "111222333"),
    ("API key", "key AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
    ("API key", "api_key = 'q8Zt4LmX0pRw7KdJ2vNc'", "q8Zt4LmX0pRw7KdJ2vNc"),
]
NOTHING = [
    "an @ alone, user@localhost, and a@b",
    "order 2127365000 of the year 2024-11-24 12:34:56",
    "4111 1111 1111 1112 has a wrong check digit",
    "GB29 NWBK 6016 1331 9268 18 has wrong check digits",
    "version 1.2.3.4, host 127.0.0.1, mask 255.255.255.0, std::vector, 12:34:56",
    "12 Baker Street is a street without a code, and 10115 a code without a street",
    "SSN 000-12-3456 and DNI 54362315A and CPF 390.533.447-06",
    "111222333 has no label, and 111222334 fails: BSN 111222334",
    "AKIAXXXXXXXXXXXXXXXX and api_key = aaaaaaaaaaaaaaaa1",
    "the token is described in the next paragraph of the text",
    "0.123456789012345 and 3.14159265358979 and 1e-40",
]


@pytest.mark.parametrize(("kind", "text", "piece"), FOUND)
def test_valid_forms_are_found_exactly(kind, text, piece):
    got = [(item.kind, text[item.start : item.end]) for item in find_personal(text)]
    assert got == [(kind, piece)]


@pytest.mark.parametrize("text", NOTHING)
def test_lookalikes_are_not_found(text):
    assert [text[i.start : i.end] for i in find_personal(text)] == []


def test_a_changed_digit_breaks_every_card():
    card = "4111111111111111"
    for at in range(1, len(card)):
        other = card[:at] + str((int(card[at]) + 1) % 10) + card[at + 1 :]
        assert find_personal(f"card {other} .") == []


def test_of_two_that_overlap_one_is_counted():
    text = "https://ann@example.org:x and 4111111111111111"
    kinds = [item.kind for item in find_personal(text)]
    assert kinds == ["e-mail", "payment card"]


def test_a_long_text_is_searched_to_its_end():
    for n in (19_985, 19_995, 20_000, 45_000):
        text = "x " * (n // 2) + "ann@example.org" + " y" * 20_000
        (item,) = find_personal(text)
        assert text[item.start : item.end] == "ann@example.org"


def test_entropy_is_shannons():
    assert bits_per_character("aabb") == 1
    assert bits_per_character("abcdefgh") == 3


# ------------------------------------------------------------------------------------ masks
@pytest.mark.parametrize(
    ("kind", "text", "shown"),
    [
        ("e-mail", "joe@abc.org", "j•••@•••.org"),
        ("e-mail", "a@mail.example.com", "•••@•••.com"),
        ("telephone", "+44 20 7946 0958", "+•• •• •••• ••••"),
        ("payment card", "4111 1111 1111 1111", "•••• •••• •••• ••••"),
        ("IP address", "198.51.100.7", "•••.••.•••.•"),
        ("address", "5 High St", "• •••• ••"),
    ],
)
def test_a_mask_keeps_the_shape(kind, text, shown):
    assert mask(text, [Item(0, len(text), kind)]).text == shown


def test_a_key_keeps_its_public_prefix_alone():
    text = "AKIAIOSFODNN7EXAMPLE"
    assert mask(text, [Item(0, 20, "API key", "AWS")]).text == "AKIA••••••••"
    assert mask(text, [Item(0, 20, "API key", "private key")]).text == "••••••••"


SECRETS = st.sampled_from(
    ["joe@abc.org", "4111 1111 1111 1111", "AKIAIOSFODNN7EXAMPLE", "198.51.100.7"]
)
WORDS = st.text("abc \n😀", max_size=6)


@given(st.lists(st.tuples(WORDS, SECRETS), max_size=4), WORDS)
def test_nothing_of_what_is_masked_is_left_and_all_else_keeps_its_place(parts, rest):
    raw = "".join(f"{word} {secret} " for word, secret in parts) + rest
    items = find_personal(raw)
    assert len(items) == len(parts)
    m = mask(raw, items)
    assert not any(secret in m.text for _, secret in parts)
    hidden = {at for item in items for at in range(item.start, item.end)}
    for at, char in enumerate(raw):
        if at not in hidden:
            assert m.text[m.place[at]] == char
    assert m.place[-1] == len(m.text)
    assert [m.text[i.start : i.end] for i in m.items] == [
        mask(raw[i.start : i.end], [Item(0, i.end - i.start, i.kind, i.detail)]).text for i in items
    ]


# ----------------------------------------------------------------------------------- frames
def frame():
    """Tokens of three characters; the overlap covers the first address, not the second."""
    text = "see joe@abc.org or amy@abc.org for more"
    ends = list(range(3, len(text) + 1, 3))
    return pd.DataFrame(
        {
            "text": [text, "nothing here"],
            "prompt": ["from joe@abc.org:", ""],
            "doc_id": ["mail/joe@abc.org.txt", None],
            "match_start": pd.array([0, None], dtype="Int64"),
            "match_end": pd.array([18, None], dtype="Int64"),
            "token_end": [ends, [12]],
            "token_logprob": [[-0.5] * len(ends), [-1.0]],
            "token_rank": [[7] * len(ends), [3]],
        }
    )


def test_counts_tell_what_is_in_the_overlap():
    counts = count_personal(frame(), find_in_candidates(frame()), kinds=searched_kinds(names=False))
    assert counts["n_personal"].tolist() == [2, 0]
    assert counts["n_personal_verbatim"].tolist() == [1, 0]
    assert counts["personal_e_mail"].tolist() == [2, 0]
    assert counts.filter(regex="^personal_").drop(columns="personal_e_mail").sum().sum() == 0


def test_a_masked_frame_holds_it_nowhere():
    masked, places = mask_candidates(frame(), find_in_candidates(frame()))
    assert "joe@" not in masked.to_json() + str(masked.to_dict())
    assert "amy@" not in masked.to_json()
    assert masked["text"][0] == "see j•••@•••.org or a•••@•••.org for more"
    assert masked["prompt"][0] == "from j•••@•••.org:"
    assert masked["doc_id"][0] == "mail/j•••@•••.txt"
    assert [masked["text"][0][i.start : i.end] for i in places[0]] == [
        "j•••@•••.org",
        "a•••@•••.org",
    ]
    assert masked["text"][1] == "nothing here"


def test_the_overlap_keeps_its_place():
    masked, _ = mask_candidates(frame(), find_in_candidates(frame()))
    start, end = masked["match_start"][0], masked["match_end"][0]
    assert masked["text"][0][start:end] == "see j•••@•••.org or"


def test_the_tokens_of_a_mask_are_one_and_tell_nothing():
    masked, places = mask_candidates(frame(), find_in_candidates(frame()))
    ends, text = masked["token_end"][0], masked["text"][0]
    starts = [0, *ends[:-1]]
    logprob, rank = masked["token_logprob"][0], masked["token_rank"][0]
    assert ends[-1] == len(text)
    for item in places[0]:
        touching = [
            at
            for at, (a, b) in enumerate(zip(starts, ends, strict=True))
            if a < item.end and item.start < b
        ]
        assert len(touching) == 1
        assert np.isnan(logprob[touching[0]])
        assert rank[touching[0]] == 0
    free = [lp for lp in logprob if not np.isnan(lp)]
    assert free == [-0.5] * len(free)
    assert masked["token_end"][1] == [12]
    assert masked["token_rank"][1] == [3]
