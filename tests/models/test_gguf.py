"""GGUF files: read as the network that was written, or refused with a sentence."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from auditor.errors import ModelError
from auditor.models import registry
from auditor.models.loading import fingerprint, load_model
from auditor.models.tiny_gpt2 import build_tokenizer
from tests.planted import tiny_network

TEXTS = ["the cat sat on the mat", "a small text for a small model"] * 5


def refusal(path):
    with pytest.raises(ModelError) as told:
        load_model(str(path))
    return str(told.value)


def write_gguf(path, network, tokenizer):
    """A Llama as llama.cpp writes it, in float32: its names, and its order of rotary dimensions."""
    gguf = pytest.importorskip("gguf")
    c, writer = network.config, gguf.GGUFWriter(path, "llama")
    writer.add_context_length(c.max_position_embeddings)
    writer.add_embedding_length(c.hidden_size)
    writer.add_block_count(c.num_hidden_layers)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(c.vocab_size)
    described = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(described["vocab"], key=described["vocab"].get))
    writer.add_token_types([3] + [1] * (c.vocab_size - 1))
    writer.add_token_merges([" ".join(pair) for pair in described["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, c.num_hidden_layers)
    for name, weight in network.state_dict().items():
        for part, heads in (("q_proj", c.num_attention_heads), ("k_proj", c.num_key_value_heads)):
            if part in name:
                halves = weight.reshape(heads, 2, -1, c.hidden_size)
                weight = halves.swapaxes(1, 2).reshape(weight.shape)
        where = names.get_name(name, try_suffixes=(".weight",))
        writer.add_tensor(where, weight.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_gives_what_its_network_gives(tmp_path, capfd):
    pytest.importorskip("accelerate")
    tokenizer = build_tokenizer(TEXTS, 270)
    network, path = tiny_network("llama", n_vocab=270), tmp_path / "tiny.gguf"
    write_gguf(path, network, tokenizer)
    capfd.readouterr()
    model = load_model(str(path))
    assert capfd.readouterr().err == ""
    text = [0, *tokenizer.encode("the cat sat", add_special_tokens=False)]
    with torch.inference_mode():
        whole = network(torch.tensor([text])).logits[0].log_softmax(-1)
    expected = whole[torch.arange(len(text) - 1), torch.tensor(text[1:])]
    stats = model.token_stats([text[1:]], [[0]])
    assert np.allclose(stats.logprob, expected, atol=1e-4)
    assert model.vocabulary.encode("the cat sat") == text[1:]
    assert model.vocabulary.decode(text) == "the cat sat"
    assert model.fingerprint == fingerprint(path)


def test_an_invalid_gguf_is_refused(tmp_path):
    path = tmp_path / "broken.gguf"
    for content in (b"", b"GGUF", b"GGUF" + b"\0" * 100, b"not a gguf at all"):
        path.write_bytes(content)
        assert f"{path}: its config or tokenizer cannot be read (" in refusal(path)


def test_a_gguf_without_the_packages_that_read_it_names_them(tmp_path, monkeypatch):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF")
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    assert refusal(path) == (
        "Reading GGUF files needs the packages gguf and accelerate; gguf and accelerate are "
        "missing. Install them with: pip install '.[gguf]' in a checkout."
    )
