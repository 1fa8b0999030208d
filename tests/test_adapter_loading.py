"""A LoRA adapter's folder as a model spec: its base with the adapter on."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tiny import save_tiny_model

from auditor.errors import ModelError
from auditor.finetuning.adapters import merged, tuned_from, with_lora
from auditor.language_models.loading import load_model, load_vocabulary

TEXT = [5, 9, 7, 8]


@pytest.fixture
def adapter(tmp_path):
    """A base's folder, and that of an adapter on it which changes what it says."""
    save_tiny_model(tmp_path / "base")
    network = with_lora(load_model(str(tmp_path / "base")).network, rank=2, seed=0)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "lora_B" in name:
                weight.normal_(generator=torch.Generator().manual_seed(len(name)))
    network.save_pretrained(tmp_path / "adapter")
    named = tmp_path / "adapter" / "adapter_config.json"
    settings = json.loads(named.read_text()) | {"base_model_name_or_path": str(tmp_path / "base")}
    named.write_text(json.dumps(settings))
    return tmp_path / "adapter", merged(network)


def test_an_adapter_loads_as_its_base_with_the_adapter_on(adapter, tmp_path):
    folder, whole = adapter
    model, base = load_model(str(folder)), load_model(str(tmp_path / "base"))
    with torch.inference_mode():
        expected = whole(input_ids=torch.tensor([TEXT])).logits[0].log_softmax(-1)
    by_hand = [expected[i, t].item() for i, t in enumerate(TEXT[1:])]
    found, before = (m.token_stats([TEXT[1:]], [TEXT[:1]]).logprob for m in (model, base))
    assert np.allclose(found, by_hand, atol=1e-4)
    assert not np.allclose(found, before, atol=1e-2)
    assert model.fingerprint != base.fingerprint
    assert load_vocabulary(str(folder)).fingerprint == base.vocabulary.fingerprint


def test_an_adapter_that_names_no_base_is_refused(adapter):
    folder, _ = adapter
    named = folder / "adapter_config.json"
    named.write_text(json.dumps(json.loads(named.read_text()) | {"base_model_name_or_path": None}))
    for load in (load_model, load_vocabulary):
        with pytest.raises(ModelError, match="does not name its base"):
            load(str(folder))


def test_an_adapter_of_an_adapter_is_refused(tmp_path):
    config = {"base_model_name_or_path": str(tmp_path), "peft_type": "LORA"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    for load in (load_model, load_vocabulary):
        with pytest.raises(ModelError, match=r"which is an adapter itself\. Merge that one"):
            load(str(tmp_path))


@pytest.mark.parametrize("written", ['{"base": "x"}', '{"base": {"spec": 3}}', "[]", "{", ""])
def test_what_a_folder_was_tuned_from_is_text_or_not_known(tmp_path, written):
    (tmp_path / "finetune.json").write_text(written)
    assert tuned_from(tmp_path) == {}
    (tmp_path / "finetune.json").write_text('{"base": {"spec": "gpt2", "fingerprint": null}}')
    assert tuned_from(tmp_path) == {"spec": "gpt2"}
