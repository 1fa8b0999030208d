"""Escapes: nothing hidden gets through, nothing is lost, no cell is a formula."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.safe_text import csv_cell, restore, visible

ANY_TEXT = st.text(st.characters(codec=None, categories=None) | st.sampled_from("\\'=nxu0\n\t"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x00", "\\x00"),
        ("\x7f\x9b", "\\x7f\\x9b"),
        ("a\r\n\tb", "a\\r\\n\\tb"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
        ("\u2028", "\\u2028"),
        ("\U000e0041", "\\U000e0041"),
        ("C:\\new", "C:\\\\new"),
        ("naïve 😀 漢字", "naïve 😀 漢字"),
    ],
)
def test_hidden_characters_are_shown(text, expected):
    assert visible(text) == expected


@given(ANY_TEXT)
def test_what_is_visible_is_one_line_of_valid_text(text):
    shown = visible(text)
    shown.encode("utf-8")
    assert len(shown.splitlines()) <= 1
    assert not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in shown)


@given(ANY_TEXT)
def test_restore_gives_the_text_back(text):
    assert restore(visible(text)) == text
    assert restore(visible(text, keep_newlines=True)) == text


@given(ANY_TEXT)
def test_a_cell_gives_the_text_back(text):
    cell = csv_cell(text)
    assert restore(cell.removeprefix("'")) == text


@given(ANY_TEXT)
def test_no_cell_starts_a_formula(text):
    assert not csv_cell(text).startswith(("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠"))


def test_newlines_can_be_kept():
    assert visible("a\n\x0bb\r\n", keep_newlines=True) == "a\n\\x0bb\\r\n"


def test_backslashes_can_be_left_alone():
    assert visible("C:\\new\x00", double_backslash=False) == "C:\\new\\x00"
