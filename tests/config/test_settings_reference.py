"""The commented audit file and the page of settings: complete, current, and true to the options."""

import re
import tomllib
from pathlib import Path

import pytest

from auditor.config.audit import make_config
from auditor.config.settings_reference import TABLES, audit_file, page, settings_of

PAGE = Path(__file__).parents[2] / "docs" / "audit_file.md"


def commented(text):
    """Every setting of a file by its table, whether it is a comment or not."""
    found, table = {}, ""
    for line in text.splitlines():
        if header := re.match(r"\[(\w+)\]", line):
            table = header[1]
        elif setting := re.match(r"#?(\w+) = *(.*)", line):
            found[table, setting[1]] = setting[2]
    return found


def test_the_page_is_current():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: make docs"


@pytest.mark.parametrize("table", TABLES)
def test_every_setting_is_in_the_file_and_on_the_page_with_its_help(table):
    model, _ = TABLES[table]
    names = set(model.model_fields) - set(TABLES)
    assert {s.name for s in settings_of(model)} == names
    assert {name for home, name in commented(audit_file()) if home == table} >= names
    section = page().split(f"\n## {f'[{table}]' if table else 'Top of the file'}\n")[1]
    for setting in settings_of(model):
        assert re.search(rf"^\| `{setting.name}` \|.*\S\. \|$", section, re.MULTILINE)


def test_all_comments_uncommented_are_the_defaults():
    lines = audit_file({"model": "gpt2"}).splitlines()
    # The example of a strategy of its own is no default; a setting without a value is not set.
    lines = [line for line in lines if "=    #" not in line and "cold" not in line]
    text = "\n".join(line[1:] if re.match(r"#\w+ = ", line) else line for line in lines)
    text = text.replace('preset = "top-n"\ntemperature = 0.7\n', "")
    plain = make_config(tomllib.loads(text))
    # `workers = 1` is the default in words.
    assert plain.model_copy(update={"workers": None}) == make_config({"model": "gpt2"})
    assert len(tomllib.loads(text)["decoding"]) > 4


def test_a_new_file_is_the_default_audit_once_the_model_is_filled_in():
    text = audit_file()
    filled = text.replace('model = ""', 'model = "gpt2"')
    assert text != filled
    assert make_config(tomllib.loads(filled)) == make_config({"model": "gpt2"})


def test_values_that_are_given_are_set_and_nothing_else():
    values = {"model": 'a"b', "references": ("small=x",), "strategies": ("pure",), "corpus": ("t",)}
    assert make_config(tomllib.loads(audit_file(values))) == make_config(values)


def test_a_setting_without_a_value_is_an_error_if_it_is_uncommented():
    text = audit_file({"model": "m"}).replace("#top_k =", "top_k =")
    with pytest.raises(tomllib.TOMLDecodeError, match="line"):
        tomllib.loads(text)


def test_no_help_speaks_of_flags():
    assert re.findall(r"--[a-z]", audit_file()) == []
