"""Texts cut to the context: every token once, each with enough preceding tokens."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.models.context_windows import cut_to_context

few = settings(max_examples=300, deadline=None)
SHAPES = st.tuples(st.integers(2, 12), st.integers(0, 30), st.integers(0, 40))


def cut(context, n_prefix, n_text):
    prefix, text = list(range(-n_prefix, 0)), list(range(n_text))
    return cut_to_context([text], [prefix], context), prefix, text


@few
@given(SHAPES)
def test_every_token_is_in_one_piece_and_in_order(shape):
    pieces, _, text = cut(*shape)
    assert [token for piece in pieces for token in piece.tokens] == text


@few
@given(SHAPES)
def test_every_piece_fits_the_context(shape):
    pieces, _, _ = cut(*shape)
    assert all(len(piece.prefix) + len(piece.tokens) <= shape[0] for piece in pieces)


@few
@given(SHAPES)
def test_a_piece_stands_right_before_its_tokens_with_half_a_context_in_sight(shape):
    context, _, _ = shape
    pieces, prefix, text = cut(*shape)
    for piece in pieces[1:]:
        assert len(piece.prefix) == max(1, context // 2)
        whole = prefix + text
        at = whole.index(piece.tokens[0])
        kept = whole[max(0, at - len(piece.prefix)) : at]
        # A long prefix was cut behind its first token, so there the two may differ by one.
        assert piece.prefix[1:] == kept[1:]


@few
@given(SHAPES)
def test_what_fits_is_left_whole(shape):
    context, n_prefix, n_text = shape
    pieces, prefix, text = cut(*shape)
    if n_prefix + n_text <= context:
        assert [(p.prefix, p.tokens) for p in pieces] == [(prefix, text)]


def test_a_long_prefix_keeps_its_first_token_and_its_end():
    pieces, _, _ = cut(6, 10, 9)
    assert [(p.prefix, p.tokens) for p in pieces] == [
        ([-10, -2, -1], [0, 1, 2]),
        ([0, 1, 2], [3, 4, 5]),
        ([3, 4, 5], [6, 7, 8]),
    ]


def test_pieces_name_their_text_and_no_context_cuts_nothing():
    pieces = cut_to_context([[1] * 5, [], [2] * 3], [[0], [0], [0]], 4)
    assert [piece.owner for piece in pieces] == [0, 0, 1, 2]
    assert len(cut_to_context([[1] * 10_000], [[0]], None)) == 1
