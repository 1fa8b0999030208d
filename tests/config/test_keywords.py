"""Public functions have real keywords, and their errors name keywords instead of flags."""

import inspect
import re

import pytest

import auditor
from auditor.config.audit import AuditConfig
from auditor.config.keywords import in_python_words, keywords_of
from auditor.config.sampling import Decoding
from auditor.errors import ConfigError, CorpusError

FUNCTIONS = [
    name
    for name in auditor.__all__
    if inspect.isfunction(getattr(auditor, name)) and not name.startswith("_")
]
# Function -> a keyword that comes from its options model, and a misspelling of it.
GENERATED = {
    "run_audit": ("max_new_tokens", "max_new_token"),
    "extract": ("suffix_tokens", "suffix_token"),
    "scan_document": ("stride", "strides"),
    "audit_members": ("drop_shared", "drop_share"),
    "finetune": ("learning_rate", "learn_rate"),
    "score_texts": ("neighbours", "neighbors"),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_public_function_hides_its_keywords(name):
    parameters = inspect.signature(getattr(auditor, name)).parameters.values()
    assert [p.name for p in parameters if p.kind is p.VAR_KEYWORD] == []


def test_the_keywords_of_run_audit_have_the_types_and_defaults_of_the_options():
    parameters = inspect.signature(auditor.run_audit).parameters
    assert set(AuditConfig.model_fields) | set(Decoding.model_fields) <= set(parameters)
    assert parameters["samples"].default == 1000
    assert parameters["samples"].annotation is int
    assert parameters["top_k"].annotation == int | None
    assert {p.kind for name, p in parameters.items() if name != "config"} == {
        inspect.Parameter.KEYWORD_ONLY
    }


@pytest.mark.parametrize("name", GENERATED)
def test_help_documents_each_keyword(name):
    function = getattr(auditor, name)
    page = inspect.getdoc(function)
    assert f"\n{GENERATED[name][0]} : " in page
    missing = [p for p in inspect.signature(function).parameters if f"{p} : " not in page]
    shared = {"device", "out", "reveal", "progress"}  # of scan_document: documented together
    assert set(missing) <= shared
    assert re.findall(r"(?<!\S)--[a-z]", page) == []


@pytest.mark.parametrize("name", GENERATED)
def test_an_unknown_keyword_is_an_error_that_names_the_nearest(name):
    right, wrong = GENERATED[name]
    with pytest.raises(ConfigError) as raised:
        getattr(auditor, name)(**{wrong: 1})
    assert str(raised.value) == f"{name} has no keyword {wrong!r}. Did you mean {right!r}?"


def test_an_unknown_keyword_without_a_near_one_lists_the_known(tmp_path):
    with pytest.raises(ConfigError, match=r"no keyword 'zzz'\. Known: specs, model, progress, "):
        auditor.score_texts([tmp_path], model="x", zzz=1)


def test_a_notebook_completes_the_keywords():
    completer = pytest.importorskip("IPython.core.completer")
    shell = completer.IPCompleter(namespace={"auditor": auditor})
    text = "auditor.run_audit(max_new"
    with completer.provisionalcompleter():
        assert "max_new_tokens=" in [c.text for c in shell.completions(text, len(text))]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"samples": 3, "top": 8},
            r"`top` must be between 1 and the number of samples \(3\); got 8\. Lower `top` or",
        ),
        (
            {"max_new_tokens": 0},
            r"max_new_tokens must be at least 1; got 0\. Raise max_new_tokens\.",
        ),
        (
            {"strategies": "internet"},
            "strategy 'internet' takes its prefixes from your texts; got none. Add `prompts=FILE` ",
        ),
    ],
)
def test_errors_of_run_audit_name_keywords(options, sentence):
    with pytest.raises(ConfigError, match="^" + sentence):
        auditor.run_audit(model="gpt2", **options)


def test_an_error_names_the_keyword_of_the_function_that_was_called(tmp_path):
    with pytest.raises(ConfigError, match=r"^`suffix_tokens` must be at least 1; got 0\. "):
        auditor.extract("gpt2", [], suffix_tokens=0)
    with pytest.raises(ConfigError, match=r"^`merge=True` needs `lora=True`; got none\."):
        auditor.finetune("gpt2", "text", out=tmp_path, merge=True)
    with pytest.raises(CorpusError, match=r"^`corpus` must be given at least once"):
        auditor.extract("gpt2", [])


def test_a_flag_that_is_no_keyword_and_the_flags_of_a_command_stay():
    words = keywords_of(auditor.extract)
    assert in_python_words("Leave out --ray.", words) == "Leave out --ray."
    command = "Finish it with: auditor extract --out a.b --model m. Or lower --suffix-tokens."
    assert in_python_words(command, words) == (
        "Finish it with: auditor extract --out a.b --model m. Or lower `suffix_tokens`."
    )


def test_a_boolean_flag_becomes_its_value():
    words = keywords_of(auditor.extract)
    assert in_python_words("--with-bos, --no-bos, --anywhere, --reveal", words) == (
        "`with_bos=True`, `with_bos=False`, `from_start=False`, `reveal=True`"
    )


def test_the_command_line_keeps_its_flags():
    from auditor.audit.pipeline import run_audit

    with pytest.raises(ConfigError, match=r"^--top must be"):
        run_audit(model="gpt2", samples=3, top=8)


def test_decoding_and_prompts_can_be_given_as_keywords_or_as_tables():
    from auditor.audit.pipeline import _tables

    flat = {"model": "m", "max_new_tokens": 8, "top_k": 3, "words": ["a"]}
    tables = _tables(flat, {"top_p": 0.5}, None, None)
    assert flat == {"model": "m"}
    assert tables == {
        "decoding": {"top_p": 0.5, "max_new_tokens": 8, "top_k": 3},
        "prompts": {"words": ["a"]},
    }
    assert _tables({}, None, "a.txt", None) == {"prompts": {"corpus": ("a.txt",)}}
    assert _tables({}, None, {"corpus": ["a.txt"]}, None) == {"prompts": {"corpus": ["a.txt"]}}
