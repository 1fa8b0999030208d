"""The membership page: one file without external resources, with escaped names."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from reports.pages.membership_page import MembersPage, render_members, roc_figure

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e $\\frac$ 文"


@pytest.fixture
def page():
    rng = np.random.default_rng(0)
    return MembersPage(
        title="Members against non-members",
        headline=["No claim follows.", "None is listed."],
        rests_on=["The split is random."],
        notices=["5 scores are undefined."],
        about=[("Model", "m")],
        table=pd.DataFrame({"score": ["loss"], "AUC (95 %)": ["0.7 (0.6–0.8)"]}),
        listed=pd.DataFrame({"rank": range(1, 151), "doc_id": [f"d{i}" for i in range(150)]}),
        list_by="loss",
        curves={"loss": (rng.normal(1, 1, 30), rng.normal(0, 1, 40)), "flat": ([1.0] * 3,) * 2},
        blind=["flat"],
    )


def test_the_page_shows_every_sentence_with_the_verdict_first(page):
    html = render_members(page)
    said = [*page.headline, *page.notices, *page.rests_on]
    assert all(sentence in html for sentence in said)
    assert html.index(page.headline[0]) == min(html.index(s) for s in said)
    assert "0.7 (0.6–0.8)" in html
    assert "The first 20 of 150;" in html
    assert ">d19<" in html
    assert ">d20<" not in html


def test_nothing_comes_from_outside_and_only_its_own_style_is_allowed(page):
    html = render_members(page)
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in html
    assert "default-src 'none'" in html
    assert not re.search(r"<script|<link|<img|src=|https?://(?!www\.w3\.org)", html)


def test_hostile_names_stay_text(page):
    bad = replace(
        page,
        headline=[HOSTILE],
        about=[("Model", HOSTILE)],
        list_by=HOSTILE,
        table=pd.DataFrame({HOSTILE: [HOSTILE]}),
        listed=pd.DataFrame({"doc_id": [HOSTILE]}),
        curves={HOSTILE: page.curves["loss"]},
    )
    html = render_members(bad)
    assert "<script" not in html
    assert not {"\x1b", "\u202e"} & set(html)


def test_same_page_same_text(page):
    assert render_members(page) == render_members(page)


def test_an_empty_list_is_said(page):
    assert "No text is listed." in render_members(replace(page, listed=page.listed.iloc[:0]))


def test_figure_draws_what_varies_and_chance(page):
    axes = roc_figure(page.curves, page.blind).axes[0]
    assert [line.get_label() for line in axes.lines] == ["loss", "chance"]
    assert axes.get_xlim()[0] == pytest.approx(1 / 40)
