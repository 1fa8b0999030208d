"""The fused activation: the same function, in every layer."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.activations import ACT2FN

from auditor.models.kernels.gelu import fuse_activations


@pytest.mark.parametrize("name", ["gelu_new", "gelu_fast"])
def test_it_is_the_same_function_in_every_layer(name):
    config = GPT2Config(
        vocab_size=31, n_positions=16, n_embd=32, n_layer=3, n_head=2,
        initializer_range=0.3, activation_function=name,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = GPT2LMHeadModel(config).eval()
    ids = torch.arange(12)[None]
    with torch.inference_mode():
        before = network(input_ids=ids).logits
        fuse_activations(network)
        after = network(input_ids=ids).logits
    assert torch.allclose(before, after, atol=1e-4)
    assert before.abs().max() > 1
    slow = type(ACT2FN[name])
    assert not any(isinstance(module, slow) for module in network.modules())


def test_other_activations_are_left_alone():
    config = GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=9, activation_function="relu")
    network = GPT2LMHeadModel(config)
    own = network.transformer.h[0].mlp.act
    fuse_activations(network)
    assert network.transformer.h[0].mlp.act is own
