"""Document scans: coverage and heat map of known values, and a page without scripts."""

import base64
import hashlib
import math
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.canaries.canaries import make_canaries
from auditor.canaries.insertion import insert_canaries
from auditor.corpus.reading import Document
from auditor.errors import ConfigError, CorpusError
from auditor.extraction.document_scan import scan_document
from auditor.models.loading import load_model
from reports.figures.extraction import figure_files, heatmap_figure, laws_figure
from reports.pages.extraction_page import ScanPage, pieces, render_scan
from tests.tiny import WORDS, save_tiny_model

HOSTILE = [
    "<script>alert(1)</script>",
    "</div></body><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "{{ 7 * 7 }}{% raw %}",
    "\x1b[31mred\x00",
    "\u202egnp \u2028 \ud800",
    "$\\frac{$ _hidden",
]
VOID = {"meta", "img", "link", "br"}


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.shown, self.styles = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        (self.styles if self.open and self.open[-1] == "style" else self.shown).append(data)


def page_of(text, best=None, title="t"):
    best = np.full(len(text), -1.0) if best is None else np.asarray(best, float)
    coverage = pd.DataFrame(
        [{"tau": 0.5, "n_chars": 3, "share": 0.25, "longest_run": 2, "window_share": 0.5}]
    )
    return render_scan(ScanPage(title, ["One sentence."], [("Model", title)], coverage, text, best))


# --------------------------------------------------------------------------------- page
@pytest.mark.parametrize("text", HOSTILE)
def test_document_text_is_escaped(text):
    plain, hostile = Page(page_of("a" * len(text))), Page(page_of(text, title=text))
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    assert hostile.open == []
    names = {name for _, attributes in hostile.tags for name in attributes}
    assert not {n for n in names if n.startswith("on") or n in ("src", "style", "srcset")}
    assert "49" not in "".join(hostile.shown).replace("0.49", "")
    page_of(text, title=text).encode("utf-8")


def test_the_text_is_whole_and_in_order():
    text = "first <b>line</b>\nsecond & last\n"
    best = np.repeat([-0.1, np.nan, -3.0, -50.0], len(text) // 4 + 1)[: len(text)]
    shown = "".join(Page(page_of(text, best)).shown)
    assert text in shown


def test_the_policy_allows_the_style_sheet_there_is_and_no_script():
    page = Page(page_of("abc"))
    [policy] = [a["content"] for t, a in page.tags if a.get("http-equiv")]
    digest = base64.b64encode(hashlib.sha256("".join(page.styles).encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert not [t for t, _ in page.tags if t in ("script", "link", "img", "iframe")]


def test_the_page_makes_no_requests():
    html = page_of("see http://example.org/x")
    outside = re.findall(r"(?:src|href)=\"(?!#)|url\(|@import", html)
    assert outside == []


def test_the_page_follows_light_and_dark():
    html = page_of("abc")
    assert "prefers-color-scheme: dark" in html
    assert 'content="light dark"' in html


values = st.sampled_from([np.nan, -np.inf, 0.0, math.log(0.5), -1.0, math.log(0.001), -9.0, -80.0])


@given(st.lists(st.tuples(st.sampled_from("ab<\n"), values), max_size=20))
def test_pieces_are_the_text_in_runs_of_one_value(rows):
    text = "".join(c for c, _ in rows)
    found = pieces(text, [v for _, v in rows])
    assert "".join(characters for *_, characters in found) == text
    assert all(characters for *_, characters in found)
    shades = [shade for shade, _, characters in found for _ in characters]
    assert shades == [slow_shade(v) for _, v in rows]


def slow_shade(value):
    if math.isnan(value):
        return ""
    p = math.exp(value)
    taus = (0.5, 0.1, 0.01, 0.001)
    return next((f"p{4 - i}" for i, tau in enumerate(taus) if p >= tau * (1 - 1e-9)), "p0")


def test_a_value_a_character_is_needed():
    with pytest.raises(ValueError, match="one value a character"):
        pieces("abc", [0.0])


# ------------------------------------------------------------------------------ figures
def image_of(figure):
    return np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)


def test_the_heat_map_shows_each_character_once_while_there_is_room():
    nats = np.log(10) * np.array([-1.0, -2.0, np.nan, -np.inf, -9.0])
    found = image_of(heatmap_figure(nats, columns=3))
    assert found == pytest.approx(np.array([[-1, -2, np.nan], [-30, -9, np.nan]]), nan_ok=True)


def test_of_many_characters_a_cell_shows_the_best():
    log10 = -np.arange(1, 241) / 40.0  # 2 columns of 60 rows hold 120: two characters a cell
    found = image_of(heatmap_figure(np.log(10) * log10, columns=2))
    assert found.shape == (60, 2)
    assert found.ravel() == pytest.approx(log10[::2])


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_title_is_drawn_and_not_run(text):
    figure = heatmap_figure([-1.0, -2.0], title=text)
    svg = figure_files(figure, "x")["x.svg"].decode()
    assert "<script" not in svg
    assert "<img" not in svg


def test_the_same_figure_gives_the_same_bytes():
    one, other = (figure_files(heatmap_figure([-1.0, -2.0]), "x") for _ in range(2))
    assert one == other
    assert one["x.png"].startswith(b"\x89PNG")


def test_the_figure_of_laws_has_a_panel_for_what_varies():
    rows = [
        {"model": m, "n_parameters": n, "prefix_tokens": p, "outcome": "greedy", "repeats_from": r,
         "repeats_to": r, "share": 0.5, "low": 0.2, "high": 0.8}
        for m, n in (("a", 10), ("$_b{", 100)) for p in (10, 20) for r in (None, 1, 4)
    ]  # fmt: skip
    summary = pd.DataFrame(rows).astype({"repeats_from": "Int64", "repeats_to": "Int64"})
    figure = laws_figure(summary, pd.DataFrame())
    assert [axis.get_xlabel() for axis in figure.axes] == [
        "Repeats in the training text", "Prefix tokens", "Model parameters",
    ]  # fmt: skip
    told = [[t.get_text().strip() for t in a.get_legend().get_texts()] for a in figure.axes]
    assert told == [["a", "$_b{", "10 tokens", "20 tokens"], ["a", "$_b{"], told[0][2:]]
    # In the first panel a model has a colour, a length of prefix a shape.
    points = [line for line in figure.axes[0].lines if line.get_marker() not in ("None", "_", "|")]
    looks = {(line.get_color(), line.get_marker()) for line in points}
    assert [len({look[i] for look in looks}) for i in (0, 1)] == [2, 2]
    assert len(looks) == 4
    figure_files(figure, "laws")


def test_numbers_of_repeats_that_are_taken_together_are_named_by_their_ends():
    rows = [
        {"model": "a", "n_parameters": 3_400_000, "prefix_tokens": 10, "outcome": "greedy",
         "repeats_from": r, "repeats_to": until, "share": 0.5, "low": 0.2, "high": 0.8}
        for r, until in ((None, None), (1, 1), (2, 3), (4, 7))
    ]  # fmt: skip
    summary = pd.DataFrame(rows).astype({"repeats_from": "Int64", "repeats_to": "Int64"})
    [panel] = [a for a in laws_figure(summary, pd.DataFrame()).axes if a.get_xlabel()]
    assert [t.get_text() for t in panel.get_xticklabels()] == ["1", "2–3", "4–7"]
    assert panel.get_xticks().tolist() == pytest.approx([1, 6**0.5, 28**0.5])


# --------------------------------------------------------------------------------- scan
@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(str(save_tiny_model(tmp_path_factory.mktemp("m"))), dtype="float32")


def test_each_character_has_the_best_of_the_suffixes_over_it(model):
    scan = scan_document(
        model, Document("d", WORDS, ""), prefix_tokens=3, suffix_tokens=4, stride=2
    )
    ids = model.vocabulary.encode(WORDS)
    ends = [0, *model.vocabulary.token_ends(ids).tolist()]
    expected = [math.nan] * len(WORDS)
    for at in sorted({*range(0, len(ids) - 6, 2), len(ids) - 7}):
        stats = model.token_stats([ids[at + 3 : at + 7]], [ids[at : at + 3]])
        for i in range(ends[at + 3], ends[at + 7]):
            expected[i] = max(-stats.total_nll()[0], *(x for x in [expected[i]] if x == x), -1e9)
    assert scan.best == pytest.approx(expected, rel=1e-4, nan_ok=True)
    assert np.isnan(scan.best[: ends[3]]).all()
    assert not np.isnan(scan.best[ends[3] :]).any()


def test_coverage_is_of_what_came_out_and_told_apart_from_what_was_shown(bed):
    target = load_model(bed.target, dtype="float32")
    truth = bed.truth()
    text = truth[truth["repeats"] == 16].iloc[0]["text"]
    scan = scan_document(
        target, Document("d", text, ""), prefix_tokens=8, suffix_tokens=8, stride=1, with_bos=True
    )
    p = np.exp(scan.best)
    for row in scan.coverage.to_dict("records"):
        assert row["n_chars"] == int((p >= row["tau"]).sum())
        assert row["share"] <= row["window_share"]
    assert scan.coverage["share"].iloc[0] > 0
    assert scan.coverage["share"].is_monotonic_increasing
    held = truth[(truth["repeats"] == 0) & (truth["kind"] == "text")].iloc[0]["text"]
    other = scan_document(target, Document("h", held, ""), prefix_tokens=8, suffix_tokens=8)
    assert (other.coverage["n_chars"] == 0).all()


def test_a_folder_holds_table_figure_and_page(tmp_path, model):
    (tmp_path / "d.txt").write_text(WORDS, encoding="utf-8")
    out = tmp_path / "out"
    scan_document(model, tmp_path / "d.txt", prefix_tokens=3, suffix_tokens=4, stride=5, out=out)
    assert {p.name for p in out.iterdir()} == {
        "windows.csv", "windows.parquet", "coverage.csv", "coverage.parquet", "extraction.json",
        "heatmap.html", "heatmap.png", "heatmap.svg",
    }  # fmt: skip
    assert WORDS[20:40] in "".join(Page((out / "heatmap.html").read_text("utf-8")).shown)


@pytest.mark.parametrize("reveal", [False, True])
def test_personal_data_is_masked_in_every_file_for_people_unless_revealed(tmp_path, model, reveal):
    address, name = "jane.doe@example.org", "joe@example.com.txt"
    (tmp_path / name).write_text(f"{WORDS} {address} {WORDS}", encoding="utf-8")
    out = tmp_path / "out"
    args = {"prefix_tokens": 3, "suffix_tokens": 4, "stride": 5}
    scan_document(model, tmp_path / name, **args, out=out, reveal=reveal)
    html = (out / "heatmap.html").read_text("utf-8")
    shown = "".join(Page(html).shown)
    assert (address in shown) == reveal
    assert ("j•••@•••.org" in shown) != reveal
    assert ("Sensitive: this page shows personal data." in html) == reveal
    for file in ("heatmap.html", "windows.csv"):
        assert ("joe@example.com" in (out / file).read_text("utf-8")) == reveal
    assert pd.read_parquet(out / "windows.parquet")["doc_id"].str.contains("joe@example.com").all()


def test_a_mask_lies_where_the_text_does():
    text, best = "to joe@abc.org!", np.log([0.9] * 5 + [0.4] * 10)
    joined = "".join(part for _, _, part in pieces(text, best))
    assert joined == "to j•••@•••.org!"
    assert [part for _, told, part in pieces(text, best) if told == "p_z 0.9"] == ["to "]
    assert "".join(part for _, _, part in pieces(text, best, reveal=True)) == text


def test_an_invalid_document_is_a_one_line_error(tmp_path, model):
    def scan(document, **options):
        return scan_document(model, document, **{"prefix_tokens": 4, "suffix_tokens": 4} | options)

    with pytest.raises(CorpusError, match=r"must have at least 8 tokens .* got 1"):
        scan(Document("d", "a", ""))
    (tmp_path / "two.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    with pytest.raises(CorpusError, match="must contain one document; got 2"):
        scan(tmp_path / "two.jsonl")
    with pytest.raises(ConfigError, match="--stride must be at least 1"):
        scan(Document("d", WORDS, ""), stride=0)
    with pytest.raises(ConfigError, match=r"between 1 and 60 .context 64 minus suffix 4"):
        scan(Document("d", WORDS * 9, ""), prefix_tokens=61)


def test_a_text_of_which_nothing_comes_out_has_no_colour():
    """The scale is absolute: p_z of 10^-12 is as pale as one of 10^-31."""
    nats = np.log(10) * np.array([-12.5, *[-20.0] * 8, -31.0, np.nan, -np.inf])
    found = pieces("abbbbbbbbcde", nats)
    assert [shade for shade, _, _ in found] == ["p0", "p0", "p0", "", "p0"]
    figure = heatmap_figure(nats)
    image = figure.axes[0].images[0]
    white = image.cmap(image.norm(-12.5))
    assert white == (1.0, 1.0, 1.0, 1.0) == image.cmap(image.norm(-31.0))
    assert image.cmap(image.norm(-2.9)) != white
    bar = [t.get_text() for t in figure.axes[1].get_yticklabels()]
    assert bar == ["0.001", "0.01", "0.1", "1"]
    coverage = pd.DataFrame(columns=["tau", "n_chars", "share", "longest_run", "window_share"])
    page = render_scan(ScanPage("t", ["h"], [], coverage, "abbbbbbbbcde", nats))
    assert "No suffix reaches 0.001, so no text is coloured." in page
    assert "below 0.001: no colour" in page


@pytest.mark.parametrize("reveal", [False, True])
def test_canary_secrets_are_masked_where_canaries_were_inserted(tmp_path, model, reveal):
    made = make_canaries("The code of {n} is {digits:8}.", count=1, controls=2)
    made.save(tmp_path / "canaries.json")
    (tmp_path / "book.txt").write_text(f"{WORDS}\n", encoding="utf-8")
    insert_canaries(made, [tmp_path / "book.txt"], tmp_path / "d.txt")
    scan = scan_document(
        model, tmp_path / "d.txt", prefix_tokens=3, suffix_tokens=4, stride=5, reveal=reveal
    )
    shown = "".join(Page(scan.page()).shown)
    secret = made.canaries[0].secret
    assert (secret in shown) == reveal
    assert ("The code of 1 is ••••••••." in shown) != reveal
