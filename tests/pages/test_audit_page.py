"""The report page: one file without external resources; model output is escaped."""

import base64
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.pages.audit_page import ReportPage, render_report
from reports.pages.gates_section import ShownGate, ShownOutcome
from reports.pages.page_content import draw_figures
from reports.pages.passages_section import shown_passages
from reports.pages.payload import packed_candidates

HOSTILE = [
    "=cmd()",
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "<!-- <script>",
    "\x1b[31mred",
    "nul\x00",
    "\ud800",
    "\u202egnp",
    "+1",
    "@x",
    "line\u2028line",
    "{{ 7 * 7 }}",
    '" onmouseover="alert(1)',
]
VOID = {"meta", "input", "link", "br", "img"}


def candidates_of(texts):
    n = len(texts)
    rank = pd.array(range(1, n + 1), dtype="Int64")
    return pd.DataFrame(
        {
            "sample_id": [f"s-{at}" for at in range(n)],
            "strategy": "top-n",
            "text": pd.Series(texts, dtype=object),
            "prompt": pd.Series(texts[::-1], dtype=object),
            "n_tokens": 1,
            "nll": np.linspace(0.1, 3, n),
            "zlib_bits": 800.0,
            "zlib": np.r_[np.nan, np.inf, np.linspace(1, 9, n)][:n],
            "rank:zlib": rank,
            "rank:random": pd.array([None] * (n - 1) + [1], dtype="Int64"),
            "best_rank": rank,
            "duplicate_of": None,
            "verdict": np.resize(["verbatim", "not found"], n),
            "match_start": pd.array([0] + [None] * (n - 1), dtype="Int64"),
            "match_end": pd.array([1] + [None] * (n - 1), dtype="Int64"),
            "doc_id": pd.Series(texts, dtype=object),
            "token_logprob": [[-0.5]] * n,
            "token_rank": [[0]] * n,
            "token_end": [[len(text)] for text in texts],
        }
    )


def report_of(texts, **changes):
    candidates = candidates_of(texts)
    summary = pd.DataFrame(
        {
            "strategy": "top-n",
            "score": ["zlib", "random"],
            "n_chosen": [len(texts), 1],
            "n_verbatim": [1, 0],
            "precision": [0.5, 0.0],
            "precision_low": [0.2, 0.0],
            "precision_high": [0.8, 0.9],
        }
    )
    sentence = " ".join(texts)
    parts = {
        "title": sentence,
        "headline": [sentence, "Second."],
        "not_claimed": [sentence],
        "notices": [sentence],
        "outcome": ShownOutcome([ShownGate("max_verified", "fail", "failed", sentence)], sentence),
        "about": [(sentence, sentence)],
        "command": sentence,
        "config_toml": sentence,
        "summary": summary,
        "scores": candidates[["sample_id", "strategy", "nll", "zlib_bits"]],
        "candidates": candidates,
    }
    return ReportPage(**parts | changes)


def unpacked(text):
    return json.loads(gzip.decompress(base64.b64decode(text)))


class Page(HTMLParser):
    """What a browser would make of the page: elements, attributes, text, data, balance."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.stack, self.code = [], [], {}
        self.words = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, text):
        if self.stack and self.stack[-1] in ("script", "style"):
            attributes = self.elements[-1][1]
            name = attributes.get("type", self.stack[-1])
            self.code[name] = self.code.get(name, "") + text
        else:
            self.words.append(text)

    def payload(self):
        return unpacked(self.code["application/gzip"])


@pytest.fixture(scope="module")
def page():
    return Page(render_report(report_of(HOSTILE)))


def test_the_page_is_well_formed(page):
    assert page.stack == []
    names = [tag for tag, _ in page.elements]
    assert names.count("h1") == names.count("title") == names.count("main") == 1
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_every_link_and_label_is_valid(page):
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    for tag, attributes in page.elements:
        if tag == "a":
            href = attributes["href"]
            assert href.startswith("#sample=s-") or href.removeprefix("#") in ids
        if tag == "label":
            assert attributes["for"] in ids


def test_nothing_comes_from_outside(page):
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "img", "object", "embed", "base", "form")
        for name in ("src", "href", "action", "srcset", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;"))
    assert "url(" not in page.code["style"]
    assert "@import" not in page.code["style"]


def test_only_the_pages_own_script_and_style_may_run(page):
    policies = [a["content"] for tag, a in page.elements if "http-equiv" in a]
    (policy,) = policies
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for kind in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(page.code[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert [a.get("type") for tag, a in page.elements if tag == "script"] == [
        "application/gzip",
        None,
    ]
    assert not any(name.startswith("on") or name == "style" for _, a in page.elements for name in a)


def test_the_script_never_parses_markup(page):
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert word not in page.code["script"]


def test_hostile_texts_are_shown_as_text(page):
    words = "".join(page.words)
    assert "<script>alert(1)</script>" in words
    assert "\\x1b[31mred" in words
    assert "{{ 7 * 7 }}" in words
    whole = words + json.dumps(page.payload(), ensure_ascii=False)
    whole.encode("utf-8")
    assert not set(whole) & set("\x00\x1b\u202e\u2028")


def test_candidates_come_back_from_the_page(page):
    payload = page.payload()
    assert payload["n"] == len(HOSTILE)
    assert payload["text"][1] == HOSTILE[1]
    assert payload["text"][4:8] == ["\\x1b[31mred", "nul\\x00", "\\ud800", "\\u202egnp"]
    assert payload["prompts"][payload["prompt"][0]] == HOSTILE[-1]
    assert payload["scores"]["zlib"][:3] == [None, "inf", 1.0]
    assert payload["lists"]["random"] == [None] * (len(HOSTILE) - 1) + [1]
    assert payload["verdicts"][payload["verdict"][0]] == "verbatim"


def test_data_cannot_end_its_element():
    assert re.fullmatch("[A-Za-z0-9+/=]+", packed_candidates(candidates_of(HOSTILE)))


def test_same_report_gives_same_page():
    assert render_report(report_of(HOSTILE)) == render_report(report_of(HOSTILE))


def test_first_candidates_are_there_without_scripts():
    text = render_report(report_of([f"text number {at}" for at in range(30)]))
    static = text[text.index("<noscript>") : text.index("</noscript>")]
    # The fifteen with even numbers are verbatim and come first.
    for at in range(30):
        assert (f"text number {at}<" in static) == (at % 2 == 0 or at < 10)
    assert "first 20 of\n    30 candidates" in static


def test_optional_parts_come_and_go():
    bare = render_report(report_of(["x"]))
    assert 'id="truth"' not in bare
    truth = pd.DataFrame(
        {"kind": ["text"], "repeats": [8], "n_documents": [4], "n_extracted": [1],
         "n_by_candidates": [0], "n_samples": 64, "share": [0.25], "low": [0.006], "high": [0.806]}
    )  # fmt: skip
    full = render_report(report_of(["x"], truth_table=truth))
    assert "25.0 % (0.6–80.6)" in full
    assert "extracted by any of 64 samples" in full
    assert "<td>0 of 4</td>" in full


def test_a_report_without_training_text_or_candidates_renders():
    report = report_of(["x"])
    nothing = report.summary.assign(precision=np.nan, n_chosen=0)
    page = Page(
        render_report(
            report_of(["x"], summary=nothing, candidates=report.candidates.iloc[:0], notices=[])
        )
    )
    assert page.payload()["n"] == 0
    assert "none chosen" in "".join(page.words)


def test_an_unknown_score_is_refused():
    report = report_of(["x"])
    summary = report.summary.assign(score=["colour", "random"])
    with pytest.raises(ValueError, match="got 'colour'"):
        render_report(report_of(["x"], summary=summary))


ODD = st.text(st.sampled_from("ab \n\x00\u202e\ud800😀漢\\<"), max_size=12)


@given(st.lists(ODD, min_size=1, max_size=6), st.data())
def test_tokens_and_matches_keep_their_place_in_the_shown_text(tokens, data):
    text = "".join(tokens)
    start, end = sorted(data.draw(st.integers(0, len(text))) for _ in range(2))
    frame = pd.DataFrame(
        {
            "sample_id": ["s"],
            "text": pd.Series([text], dtype=object),
            "match_start": pd.array([start], dtype="Int64"),
            "match_end": pd.array([end], dtype="Int64"),
            "token_end": [np.cumsum([len(token) for token in tokens]).tolist()],
            "token_logprob": [[np.nan] + [-1.23] * (len(tokens) - 1)],
            "token_rank": [list(range(len(tokens)))],
        }
    )
    payload = unpacked(packed_candidates(frame))
    units = payload["text"][0].encode("utf-16-le")  # two bytes a unit, as a browser counts

    def shown(piece):
        only = pd.DataFrame({"sample_id": ["s"], "text": pd.Series([piece], dtype=object)})
        return unpacked(packed_candidates(only))["text"][0]

    at = 0
    for token, length in zip(tokens, payload["lengths"][0], strict=True):
        assert units[2 * at : 2 * (at + length)].decode("utf-16-le") == shown(token)
        at += length
    assert 2 * at == len(units)
    match = units[2 * payload["start"][0] : 2 * payload["end"][0]].decode("utf-16-le")
    assert match == shown(text[start:end])
    assert payload["surprise"][0] == [0] + [13] * (len(tokens) - 1)
    assert payload["ranks"][0] == list(range(len(tokens)))


def test_a_thousand_candidates_of_256_tokens_stay_under_three_megabytes():
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcde fghij"), 1100)) for _ in range(1000)]
    candidates = candidates_of(texts).assign(prompt="", doc_id="corpus.jsonl:123")
    candidates["token_end"] = [np.sort(rng.integers(0, 1100, 256)).tolist() for _ in texts]
    candidates["token_logprob"] = [(-rng.exponential(2.5, 256)).tolist() for _ in texts]
    candidates["token_rank"] = [rng.geometric(0.05, 256).tolist() for _ in texts]
    about = dict.fromkeys(("title", "command", "config_toml"), "x")
    lists = {name: ["x"] for name in ("headline", "not_claimed", "notices")}
    lists["outcome"] = ShownOutcome()
    page = render_report(report_of(texts, candidates=candidates, about=[], **about, **lists))
    assert len(page.encode()) < 3_000_000


def test_candidates_of_the_control_only_are_marked():
    report = report_of(["a", "b", "c"])
    assert "the control. They are not candidates" not in render_report(report)
    ranks = pd.array([1, None, None], dtype="Int64")
    told = report_of(["a", "b", "c"], candidates=report.candidates.assign(best_rank=ranks))
    said = " ".join(" ".join(Page(render_report(told)).words).split())
    assert "2 more samples are only in the random draw, the control. They are not cand" in said


def matched(texts, **columns):
    """Candidates that are verbatim as a whole; each passage has a document of its own."""
    n = len(texts)
    frame = candidates_of(texts).assign(
        verdict="verbatim",
        match_start=pd.array([0] * n, dtype="Int64"),
        match_end=pd.array([len(text) for text in texts], dtype="Int64"),
        match_n_chars=[len(text) for text in texts],
        doc_offset=0,
        doc_id=[f"doc-{at}" for at in range(n)],
        n_occurrences=1,
        n_documents=1,
    )
    return frame.assign(**columns)


LONG = "the ship left the harbour at dawn and nobody on the quay waved a hand to it"
SHORT = "a fox and a dog met"


def test_the_page_opens_with_the_longest_and_rarest_passages_once_each():
    """The repeated passage is as long as LONG, but occurs 1,000 times: it counts a tenth."""
    common = "press any key to continue or wait for the countdown to reach zero again today"
    texts = [common, SHORT, LONG, LONG[4:], "not the same as any of the others here"]
    often = [1000, 1, 1, 1, 1]
    doc_id = ["doc-0", "doc-1", "doc-2", "doc-2", "doc-4"]
    frame = matched(texts, n_occurrences=often, doc_id=doc_id, doc_offset=[0, 0, 0, 4, 0])
    shown = [passage.text for passage in shown_passages(frame)]
    assert shown == [LONG, texts[4], SHORT, common]
    page = "".join(Page(render_report(report_of(["x"], candidates=frame))).words)
    assert page.index(LONG) < page.index("How precise each list is")
    assert "doc-2, from character 0, occurs once. 75 characters" in " ".join(page.split())


def test_passages_are_masked_and_only_those_of_lists_that_are_verbatim():
    texts = [f"{LONG} writes joe@abc.org to us", SHORT, "drawn by the control alone, at random"]
    ranks = pd.array([1, 2, None], dtype="Int64")
    frame = matched(texts, best_rank=ranks, verdict=["verbatim", "not found", "verbatim"])
    words = "".join(Page(render_report(report_of(["x"], candidates=frame))).words)
    head = words[: words.index("Sections") if "Sections" in words else words.index("Candidates")]
    assert "writes j•••@•••.org to us" in head
    assert SHORT not in head
    assert "drawn by the control" not in head
    revealed = render_report(report_of(["x"], candidates=frame, reveal=True))
    assert "writes joe@abc.org to us" in revealed


def test_a_long_passage_is_cut_between_words_if_it_has_any():
    text = " ".join(f"word{at}" for at in range(200))
    (passage,) = shown_passages(matched([text]))
    assert text.startswith(passage.text.removesuffix(" …") + " ")
    assert 250 < len(passage.text) <= 322
    (whole,) = shown_passages(matched(["".join(f"{at}z" for at in range(900))]))
    assert len(whole.text) == 322


def test_without_a_verbatim_candidate_there_are_no_passages():
    frame = matched([LONG, SHORT], verdict="not found")
    assert 'id="passages"' not in render_report(report_of(["x"], candidates=frame))


def test_strategies_without_a_find_have_no_empty_plot():
    report = report_of(["a", "b"])
    more = report.summary.assign(strategy="temperature", n_verbatim=0)
    summary = pd.concat([report.summary, more], ignore_index=True)
    drawn = draw_figures(report_of(["a", "b"], summary=summary))
    assert [panel.get_title(loc="left") for panel in drawn["precision"].figure.axes] == ["top-n"]
    nothing = draw_figures(report_of(["a", "b"], summary=summary.assign(n_verbatim=0)))
    assert not {"precision", "ranks"} & set(nothing)


def test_counts_have_headings_for_a_reader():
    page = render_report(report_of(["x", "y"]))
    assert '<th scope="col">Listed</th>' in page
    assert "n_chosen" not in page
