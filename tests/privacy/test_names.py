"""Names of people: found by a planted pipeline, masked in text, only on request."""

import numpy as np
import pytest

from auditor.audit.context import name_finders
from auditor.config.audit import make_config
from auditor.errors import ConfigError
from auditor.runs.run import load_run
from reports.privacy import find_personal, mask
from reports.privacy.names import name_finder
from tests.histories import small_audit
from tests.tiny import candidates_in, command

WITHOUT = "NAMES NOT TESTED: presidio or spaCy is missing. Install the extra `names`."
spacy = pytest.importorskip("spacy", reason=WITHOUT)
pytest.importorskip("presidio_analyzer", reason=WITHOUT)


def save_pipeline(folder, *people, tags=True):
    """A pipeline that recognises only these people."""
    nlp = spacy.blank("en")
    if tags:
        ruler = nlp.add_pipe("entity_ruler")
        ruler.add_patterns([{"label": "PERSON", "pattern": name} for name in people])
        ruler.add_patterns([{"label": "ORG", "pattern": "Acme"}])
    nlp.to_disk(folder)
    return str(folder)


@pytest.fixture
def pipeline(tmp_path):
    return save_pipeline(tmp_path / "people", "Ada Lovelace", "O'Neil", "range(3)", "bin", "李明")


def names_in(text, pipeline):
    items = find_personal(text, more=[name_finder(pipeline)])
    return [(item.kind, text[item.start : item.end]) for item in items]


def test_people_are_found_beside_what_the_rules_tell(pipeline):
    text = "Ada Lovelace of Acme (ada@example.org) wrote to O'Neil and 李明 about range(3) and bin."
    assert names_in(text, pipeline) == [
        ("name", "Ada Lovelace"),
        ("e-mail", "ada@example.org"),
        ("name", "O'Neil"),
        ("name", "李明"),
    ]


def test_a_name_is_masked_and_its_shape_kept(pipeline):
    text = "by Ada Lovelace, 1843"
    items = find_personal(text, more=[name_finder(pipeline)])
    assert mask(text, items).text == "by ••• ••••••••, 1843"


def test_a_name_is_found_in_a_text_of_any_length(pipeline):
    text = "and so on " * 3000 + "Ada Lovelace" + " and so on" * 3000
    assert names_in(text, pipeline) == [("name", "Ada Lovelace")]


def test_names_are_not_searched_by_default():
    assert name_finders(make_config({"model": "gpt2"})) == ()


@pytest.mark.parametrize("tags", [True, False])
def test_a_pipeline_that_is_missing_or_tags_nobody_is_a_one_line_error(tmp_path, tags):
    name = "no_such_pipeline" if tags else save_pipeline(tmp_path / "blank", tags=False)
    config = make_config({"model": "gpt2", "names": name})
    with pytest.raises(ConfigError, match=r"^--names (must be|needs)") as raised:
        name_finders(config)
    assert "\n" not in str(raised.value)
    assert name in str(raised.value)


def test_a_report_masks_names_counts_them_and_says_what_looked(tmp_path):
    """The pipeline knows a word that the samples hold; it is a name from then on."""
    file, out = small_audit(tmp_path), tmp_path / "run"
    assert command("audit", file, "--out", out).code == 0
    run = load_run(out)
    assert "personal_name" not in run.candidates()
    assert "Names were not searched for" in (out / "report.html").read_text()
    blank = spacy.blank("en")
    words = [{str(token) for token in blank(text)} for text in run.candidates()["text"]]
    word = max(w for row in words for w in row if w.isalpha() and w[0] == w[0].upper())
    holds = np.array([word in row for row in words])
    people = save_pipeline(tmp_path / "people", word)
    ended = command("report", out, "--names", people)
    assert ended.code == 0, ended.err
    run = load_run(out)
    frame = run.candidates()
    assert ((frame["personal_name"] > 0) == holds).all()
    assert (frame["n_personal"] >= frame["personal_name"]).all()
    assert frame["text"][holds].str.contains(word).all()  # the run's own folder keeps the text
    page = (out / "report.html").read_text()
    assert "looked for by presidio" in page
    assert "Names were not searched for" not in page
    shown = candidates_in(page)["text"]
    assert not any(word in {str(token) for token in blank(text)} for text in shown)


def test_a_missing_name_detector_is_reported_before_sampling(tmp_path):
    file = small_audit(tmp_path)
    ended = command("audit", file, "--names", "no_such_pipeline")
    assert ended.code == 2
    assert ended.err.splitlines()[-1].startswith("auditor: --names must be an installed spaCy")
    assert not (tmp_path / "runs" / "audit").exists()
