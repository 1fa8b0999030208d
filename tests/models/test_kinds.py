"""The kind of a model by its config, and models that cannot be compared."""

from dataclasses import dataclass

import pytest
from transformers import (
    BartConfig,
    BertConfig,
    GPT2Config,
    RobertaConfig,
    T5Config,
    ViTConfig,
    WhisperConfig,
)

from auditor.errors import ModelError
from auditor.models.kinds import check_comparable, check_kind, kind_of


@dataclass
class Named:
    name: str
    kind: str


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (GPT2Config(), "causal"),
        (BertConfig(), "masked"),
        (BertConfig(architectures=["BertForMaskedLM"]), "masked"),
        (BertConfig(architectures=["BertLMHeadModel"], is_decoder=True), "causal"),
        (RobertaConfig(architectures=["RobertaForCausalLM"], is_decoder=True), "causal"),
        (T5Config(), "encoder-decoder"),
        (BartConfig(), "encoder-decoder"),
        (ViTConfig(), None),
        (WhisperConfig(), None),
    ],
)
def test_the_kind_follows_from_the_config(config, kind):
    assert kind_of(config) == kind


def test_a_reference_must_be_of_the_same_kind():
    bert, gpt2 = Named("bert", "masked"), Named("gpt2", "causal")
    check_comparable(gpt2, {"small": gpt2})
    with pytest.raises(ModelError) as told:
        check_comparable(bert, {"small": gpt2})
    assert str(told.value) == (
        "Reference small (gpt2) must be a masked language model, as bert is; got a causal language "
        "model. Use another reference, or leave it out."
    )


def test_a_loaded_model_of_another_kind_is_refused():
    with pytest.raises(ModelError) as told:
        check_kind(Named("bert", "masked"), ("causal",))
    assert str(told.value) == (
        "bert is a masked language model; here it must be a causal language model. Use a model "
        "such as GPT-2, Llama or Pythia. --masked-model takes a masked model, to create "
        "neighbours of texts."
    )
