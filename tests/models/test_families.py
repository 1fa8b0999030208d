"""Every causal family that transformers knows: its numbers against a plain pass in float64."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from auditor.errors import ModelError
from tests import families

pytestmark = pytest.mark.filterwarnings("ignore")

ALLOWED = 3e-4  # nats
LONGROPE = {
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10_000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [4.0, 8.0, 16.0, 32.0],
        "original_max_position_embeddings": 24,
        "short_mscale": 1.0,
        "long_mscale": 1.0,
    },
    "original_max_position_embeddings": 24,
}


@pytest.mark.parametrize("family", families.TRIED)
def test_text_and_samples_get_the_numbers_of_a_plain_pass(family):
    """Texts and samples go beyond every sliding window."""
    network = families.tiny_network(family)
    judge, model = families.judge_of(network, family), families.loaded(network, family)
    assert families.text_error(model, judge) < ALLOWED
    context = min(model.context or families.CONTEXT, families.CONTEXT)
    assert all(window < context - 12 for window in model.limits.windows)
    assert families.sample_error(model, judge, context - 12) < ALLOWED


@pytest.mark.parametrize("family", ["phi3", "phimoe"])
def test_the_rotary_factors_of_a_text_are_by_its_own_length(family):
    network = families.tiny_network(family, **LONGROPE)
    judge, model = families.judge_of(network, family), families.loaded(network, family)
    assert model.limits.rope_switch == 24
    assert families.text_error(model, judge) < ALLOWED
    assert families.sample_error(model, judge, 12) < ALLOWED
    with pytest.raises(ModelError, match=r"beyond 24 tokens .* got 12 \+ 13\. Lower --max-new"):
        families.sample_error(model, judge, 13)


@pytest.mark.parametrize("family", sorted(families.REFUSED))
def test_a_model_that_is_not_causal_is_refused_as_such(family):
    with pytest.raises(ModelError, match=families.REFUSED[family]):
        families.loaded(families.tiny_network(family), family)


def test_the_documentation_names_what_is_refused_and_what_was_not_tried():
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    named = set(re.findall(r"`([\w-]+)`", page[page.index("## Rejected or untested families") :]))
    assert named == set(families.REFUSED) | set(families.UNTRIED)
    assert f"{len(families.TRIED)} families" in page
