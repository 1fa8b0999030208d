"""Every number that a user can set has an upper bound, and no number is infinite or NaN."""

import re
import types
from typing import Annotated, Union, get_args, get_origin

import click
import pytest
from pydantic import BaseModel, ValidationError

from auditor.cli.command import cli
from auditor.cli.reference import _commands
from auditor.config.audit import AuditConfig, make_config
from auditor.config.canaries import CreateOptions, InsertOptions, MeasureOptions
from auditor.config.extraction import CorpusExtractionConfig, DocumentScanConfig
from auditor.config.finetuning import FinetuneConfig
from auditor.config.gates import Gates, Notify, Schedule
from auditor.config.membership import MembershipConfig
from auditor.config.sampling import Decoding, Prompts
from auditor.config.scoring import ScoringConfig
from auditor.errors import ConfigError
from tests.tiny import command

MODELS = [
    *(AuditConfig, Decoding, Prompts, Gates, Notify, Schedule, FinetuneConfig, ScoringConfig),
    *(CorpusExtractionConfig, DocumentScanConfig, MembershipConfig),
    *(CreateOptions, InsertOptions, MeasureOptions),
]


def numbers(annotation):
    """The number types inside an annotation."""
    if get_origin(annotation) is Annotated:
        return numbers(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType, tuple):
        return set().union(*(numbers(part) for part in get_args(annotation)))
    return {annotation} & {int, float}


def required(model):
    """The fields without a default; all of them are texts or lists of texts."""
    return [name for name, field in model.model_fields.items() if field.is_required()]


FIELDS = [
    (model, name)
    for model in MODELS
    for name, field in model.model_fields.items()
    if numbers(field.annotation)
]


@pytest.mark.parametrize(("model", "name"), FIELDS)
@pytest.mark.parametrize("value", [10**30, -(10**30), float("inf"), float("nan")])
def test_a_number_out_of_all_proportion_is_refused(model, name, value):
    is_list = get_origin(model.model_fields[name].annotation) is tuple
    given = {n: "x" if n in ("model", "out") else ("x",) for n in required(model)}
    given[name] = (value,) if is_list else value
    with pytest.raises((ValidationError, ConfigError)) as caught:
        model(**given)
    if isinstance(caught.value, ValidationError):
        assert name in {error["loc"][0] for error in caught.value.errors()}
    else:
        assert name.rstrip("s").replace("_", "-") in str(caught.value).replace("_", "-")


def test_the_fields_of_every_model_are_looked_at():
    assert len(FIELDS) > 50
    assert {model for model, _ in FIELDS} == set(MODELS) - {Schedule}
    assert all(issubclass(model, BaseModel) for model in MODELS)


NUMBERS = [
    (names[1:], param.opts[0])
    for names, verb, _ in _commands(cli, ("auditor",), None)
    for param in verb.params
    if isinstance(param, click.Option) and isinstance(param.type, click.types.IntRange)
]


@pytest.mark.parametrize(("verb", "flag"), NUMBERS)
def test_numbers_of_the_command_line_alone_are_bounded_too(verb, flag):
    ended = command(*verb, f"{flag}=99999999999999999999")
    assert ended.code == 2
    assert "is not in the range" in ended.err


def test_the_message_has_the_bound_and_the_remedy():
    with pytest.raises(ConfigError) as caught:
        make_config({"model": "gpt2", "samples": 99999999999999999999})
    assert str(caught.value) == (
        "samples must be at most 1,000,000,000; got 99999999999999999999. Lower samples."
    )


@pytest.mark.parametrize("flag", ["--examples", "--prefix-tokens", "--suffix-tokens", "--seed"])
def test_a_comparison_refuses_such_numbers_before_it_loads_anything(flag):
    ended = command("compare", "--base", "a", "--tuned", "b", "--texts", "c", f"{flag}={10**30}")
    assert ended.code == 2
    assert re.search(
        rf"{flag} must be (at most 1,000,000,000|below 9,223,\S+); got 10+\.", ended.err
    )


def test_the_message_names_the_bound_of_the_field_itself():
    with pytest.raises(ConfigError, match=r"top must be at most 1,000,000; got 10{20}\. Lower top"):
        make_config({"model": "gpt2", "top": 10**20})
