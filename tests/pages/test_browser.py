"""The report in a real browser: sorting, filtering, searching, and escaping."""

import json
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd
import pytest

from reports.pages.audit_page import render_report
from tests.browsing import browser, requests_of
from tests.pages.test_audit_page import HOSTILE, candidates_of, matched, report_of
from tests.tiny import candidates_in

MANY = 5000
# Filler words that make each text its own; an address in every tenth.
TEXTS = [
    *HOSTILE[:10],
    *(
        f"text number {at} " + ("from joe@abc.org" if at % 10 == 0 else "of no kind")
        for at in range(10, MANY)
    ),
]


def page_of(texts, **changes):
    candidates = candidates_of(texts)
    candidates["prompt"] = ""
    candidates["doc_id"] = "doc"
    candidates["strategy"] = ["internet" if at % 4 == 0 else "top-n" for at in range(len(texts))]
    candidates["content_kinds"] = pd.Series(
        ["code" if at % 5 == 0 else None for at in range(len(texts))], dtype="str"
    )
    return render_report(report_of(["x"], candidates=candidates, **changes))


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as chrome:
        yield chrome


WIDE = [
    "x" * 4000,
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629" * 200,
    "a" + "\u0301\u0335\u0489" * 400 + " b",
    "W" * 30 + " " + "\u6f22" * 300,
]


def wide_page():
    """Texts without a space, from right to left, and with piles of accents; two scores disagree."""
    n = len(WIDE)
    candidates = matched(WIDE, prompt=WIDE, **{"rank:random": pd.array([None] * n, dtype="Int64")})
    candidates = candidates.assign(
        zlib=[1.0, 4.0, 3.0, 2.0], window=[300.0, 100.0, 200.0, 400.0],
        **{"rank:window": pd.array([1, 2, 3, 4], dtype="Int64")},
        **{"rank:zlib": pd.array([4, 1, 2, 3], dtype="Int64")},
    )  # fmt: skip
    return render_report(report_of(["x"], candidates=candidates))


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    for name, page in (
        ("masked", page_of(TEXTS)),
        ("revealed", page_of(TEXTS[:60], reveal=True)),
        ("hostile", render_report(report_of(HOSTILE))),
        ("wide", wide_page()),
    ):
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    return folder


@pytest.fixture
def opened(driver, pages, request):
    """The page, opened; it must have asked for itself alone and complained of nothing."""
    address = (pages / f"{request.param}.html").as_uri()
    requests_of(driver), driver.get_log("browser")
    driver.get(address)
    wait_for(driver, driver.find_element("id", "browser").is_displayed)
    yield driver
    own = urlsplit(address).path
    others = [a for a in requests_of(driver) if urlsplit(a).path != own and a[:5] != "data:"]
    assert others == []
    assert [entry["message"] for entry in driver.get_log("browser")] == []


def on(name):
    return pytest.mark.parametrize("opened", [name], indirect=True)


def column(driver, at):
    """The cells of a column of the page shown."""
    return driver.execute_script(
        "return [...document.querySelectorAll('#rows .row')]"
        ".map((row) => row.children[arguments[0]].textContent)",
        at,
    )


def count(driver):
    return driver.find_element("id", "count").text


def choose(driver, name, label):
    from selenium.webdriver.support.ui import Select

    Select(driver.find_element("id", f"f-{name}")).select_by_visible_text(label)


def wait_for(driver, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 10, poll_frequency=0.05).until(lambda _: condition())


@on("masked")
def test_it_opens_with_the_first_page_of_all_candidates(opened):
    assert count(opened).startswith("1–20 of 5,000 candidates")
    assert len(column(opened, 0)) == 20
    assert set(column(opened, 1)) == {"verbatim"}


@on("masked")
def test_a_head_sorts_and_says_so(opened):
    head = opened.find_element("css selector", "th[data-key='score'] button")
    head.click()
    cell = opened.find_element("css selector", "th[data-key='score']")
    assert cell.get_attribute("aria-sort") == "descending"
    falling = [float(v.replace("∞", "inf").replace(",", "")) for v in column(opened, 3)]
    assert falling == sorted(falling, reverse=True)
    head.click()
    assert cell.get_attribute("aria-sort") == "ascending"
    rising = [float(v.replace(",", "")) for v in column(opened, 3)]
    assert rising == sorted(rising)
    assert rising[0] == 1


@on("masked")
def test_filters_keep_what_they_name(opened):
    choose(opened, "verdict", "verbatim")
    assert set(column(opened, 1)) == {"verbatim"}
    assert "of 2,500 candidates that match; 5,000 in all" in count(opened)
    choose(opened, "strategy", "internet")
    assert {int(name.removeprefix("s-")) % 4 for name in column(opened, 0)} == {0}
    choose(opened, "content", "code")
    assert "of 250 candidates that match" in count(opened)  # multiples of 20
    choose(opened, "list", "random")
    assert "None of 5,000 candidates matches" in count(opened)


@on("masked")
def test_the_filter_of_personal_data_finds_each_tenth(opened):
    choose(opened, "personal", "e-mail")
    assert "of 499 candidates that match" in count(opened)
    assert all("j•••@•••.org" in text for text in column(opened, 8))


@on("masked")
def test_search_finds_a_text(opened):
    opened.find_element("id", "f-text").send_keys("NUMBER 4321 ")
    wait_for(opened, lambda: "1–1 of 1 candidates" in count(opened))
    assert column(opened, 0) == ["s-4321"]


@on("masked")
def test_pages_turn_to_the_last(opened):
    first, back, following, last = opened.find_elements("css selector", ".pager button")
    assert not first.is_enabled()
    following.click()
    assert count(opened).startswith("21–40")
    last.click()
    assert count(opened).startswith("4,981–5,000")
    assert not following.is_enabled()
    back.click()
    assert count(opened).startswith("4,961–4,980")


@on("masked")
def test_a_row_opens_by_keyboard_and_shows_its_tokens(opened):
    from selenium.webdriver.common.keys import Keys

    opened.find_element("id", "f-text").send_keys("number 1000 ")
    wait_for(opened, lambda: column(opened, 0) == ["s-1000"])
    button = opened.find_element("css selector", "#rows .row button")
    button.send_keys(Keys.ENTER)
    opened_button = opened.switch_to.active_element
    assert opened_button.get_attribute("aria-expanded") == "true"
    detail = opened.find_element("id", opened_button.get_attribute("aria-controls"))
    assert "text number 1000 from j•••@•••.org" in detail.text
    assert detail.find_elements("css selector", ".sample .personal")


@on("masked")
def test_masked_text_is_nowhere_in_the_page(opened):
    assert "joe@" not in opened.page_source
    page = Path(urlsplit(opened.current_url).path).read_text(encoding="utf-8")
    assert "joe@" not in json.dumps(candidates_in(page))


@on("revealed")
def test_a_revealed_page_says_so_and_masks_when_asked(opened):
    assert (
        "Sensitive: this report shows personal data"
        in opened.find_element("tag name", "header").text
    )
    choose(opened, "personal", "any")
    assert any("joe@abc.org" in text for text in column(opened, 8))
    opened.find_element("id", "f-hide").click()
    texts = column(opened, 8)
    assert len(texts) == 5
    assert all("j•••@•••.org" in text and "joe@" not in text for text in texts)
    opened.find_element("css selector", "#rows .row button").click()
    shown = opened.find_element("css selector", ".opened .sample").text
    assert "j•••@•••.org" in shown
    assert "joe@" not in shown
    opened.find_element("id", "f-hide").click()
    assert "joe@abc.org" in opened.find_element("css selector", ".opened .sample").text


@on("hostile")
def test_hostile_texts_stay_text(opened):
    opened.execute_script("window.ran = []; window.alert = (x) => window.ran.push(x)")
    for at in range(len(HOSTILE)):
        opened.find_elements("css selector", "#rows .row button")[at].click()
    assert opened.execute_script("return window.ran") == []
    shown = [e.text for e in opened.find_elements("css selector", ".opened .sample")]
    assert "<script>alert(1)</script>" in shown
    assert opened.find_elements("css selector", ".opened img, .opened script") == []
    assert opened.execute_script("return document.querySelectorAll('script').length") == 2


def click_head(driver, key):
    driver.find_element("css selector", f"th[data-key='{key}'] button").click()


@on("wide")
def test_rows_sorted_by_score_show_one_score(opened):
    """Each row's best list is another: by their own scores 400 would stand before 4."""
    click_head(opened, "score")
    shown = [cell.split()[0] for cell in column(opened, 3)]
    assert shown == ["4", "3", "2", "1"]
    assert "Sorted by zlib" in count(opened)
    choose(opened, "list", "window")
    assert [cell.split()[0] for cell in column(opened, 3)] == ["400", "300", "200", "100"]


@on("masked")
def test_filters_order_and_page_survive_a_reload(opened):
    choose(opened, "strategy", "internet")
    choose(opened, "verdict", "verbatim")
    click_head(opened, "score")
    opened.find_elements("css selector", ".pager button")[2].click()
    before = count(opened), column(opened, 0)
    opened.refresh()
    wait_for(opened, opened.find_element("id", "browser").is_displayed)
    assert (count(opened), column(opened, 0)) == before
    assert "21–40 of 1,250 candidates that match" in before[0]
    assert opened.find_element("id", "f-verdict").get_attribute("value") == "0"


@on("masked")
def test_a_link_with_unknown_names_opens_the_page_unfiltered(opened):
    opened.get(opened.current_url.partition("#")[0] + "#strategy=nowhere&sort=nothing&page=x")
    opened.refresh()
    wait_for(opened, opened.find_element("id", "browser").is_displayed)
    assert count(opened).startswith("1–20 of 5,000 candidates")


@on("revealed")
def test_paper_has_every_verbatim_candidate_and_what_is_folded(opened):
    opened.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert column(opened, 0) == [f"s-{at}" for at in range(0, 60, 2)]
    assert count(opened) == "All 30 verbatim candidates of 60."
    folded = opened.find_elements("css selector", "details")
    assert folded
    assert all(part.get_property("open") for part in folded)
    opened.execute_script("dispatchEvent(new Event('afterprint'))")
    assert len(column(opened, 0)) == 20
    assert not any(part.get_property("open") for part in folded)


OUTSIDE = """
return [...document.querySelectorAll(".passages blockquote, .sample, .prompt, .excerpt > div")]
  .filter((box) => {
    const range = document.createRange();
    range.selectNodeContents(box);
    const own = box.getBoundingClientRect();
    const clips = getComputedStyle(box).overflowX === "hidden";
    return !clips || own.right > innerWidth + 1 && !box.closest(".scroll");
  }).length"""


@on("wide")
@pytest.mark.parametrize("width", [1400, 400])
def test_generated_text_stays_in_its_box(opened, width):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for button in opened.find_elements("css selector", "#rows .row button"):
        opened.execute_script("arguments[0].click()", button)
    assert len(opened.find_elements("css selector", ".opened .sample")) == len(WIDE)
    assert opened.execute_script(OUTSIDE) == 0
    page = opened.execute_script("return document.documentElement.scrollWidth")
    around = opened.find_element("css selector", "#browser .scroll")
    own, room = (around.get_property(name) for name in ("scrollWidth", "clientWidth"))
    assert own <= room or width == 400  # on a phone the table scrolls
    opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert page <= width
