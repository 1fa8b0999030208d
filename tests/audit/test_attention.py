"""The attention page of a candidate: its weights, and no external resources."""

import shutil

import pytest
import torch

from auditor.audit.attention import Weights, attention_of, attention_page
from auditor.audit.pipeline import run_audit
from auditor.errors import RunError
from reports.safe_text import visible
from tests.browsing import browser, requests_of
from tests.pages.test_hostile import SAID
from tests.tiny import candidates_in, command, save_tiny_model

# bertviz leaves the files of its scripts open until they are collected.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attention")
    model = save_tiny_model(folder / "model")
    return run_audit(
        model=str(model), samples=2, decoding={"max_new_tokens": 20}, out=str(folder / "run")
    )


def test_attention_of_every_token_sums_to_one(run):
    found = attention_of(run, "top-n-000000", n_tokens=12)
    assert len(found.layers) == 1
    (layer,) = found.layers
    assert layer.shape == (1, 2, 12, 12)
    assert torch.allclose(layer.sum(-1), torch.ones(1, 2, 12), atol=1e-5)
    assert torch.equal(layer, layer.tril())
    assert len(found.tokens) == 12
    # BOS and 20 tokens, of which 12 were taken.
    assert found.n_left_out == 9


def test_an_unknown_sample_is_refused_by_name(run):
    with pytest.raises(RunError, match=r"--sample must be a candidate of .*; got 'nobody'"):
        attention_of(run, "nobody", n_tokens=12)


def test_the_report_links_to_the_page(run, tmp_path):
    copy = shutil.copytree(run.path, tmp_path / "run")
    assert candidates_in((copy / "report.html").read_text())["attention"] == []
    ended = command("attention", copy, "--sample", "top-n-000001", "--tokens", 8)
    assert ended.code == 0, ended.err
    assert ended.out.strip() == str(copy / "attention" / "top-n-000001.html")
    linked = candidates_in((copy / "report.html").read_text())["attention"]
    assert linked == ["top-n-000001"]


def test_the_page_renders_without_requests_and_escapes_text(tmp_path):
    tokens = [visible(text[:60], double_backslash=False) for text in SAID]
    n = len(tokens)
    layers = [torch.rand(1, 2, n, n).tril().softmax(-1) for _ in range(2)]
    page = attention_page(Weights(tokens, layers, 3), title="Attention", is_sensitive=False)
    file = tmp_path / "page.html"
    file.write_bytes(page.encode("utf-8", "backslashreplace"))
    with browser(tmp_path / "profile") as driver:
        driver.get("about:blank")
        requests_of(driver)
        driver.get(file.as_uri())
        assert [a for a in requests_of(driver) if not a.startswith(("file:", "data:"))] == []
        severe = [e["message"] for e in driver.get_log("browser") if e["level"] == "SEVERE"]
        assert severe == []
        head, model = driver.find_elements("css selector", ".view svg")
        assert "<script>alert(1)</script>" in head.text
        assert len(model.find_elements("css selector", "line")) >= 4 * n
        assert len(driver.find_elements("tag name", "script")) == 1
