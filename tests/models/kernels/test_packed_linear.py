"""Packed weights give the same products, and unsuitable layers are left alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from auditor.models import language_model, lm_head
from auditor.models.adapters import with_lora
from auditor.models.kernels import attention, packed_linear
from auditor.models.kernels.packed_linear import InRows, PackedLinear, can_pack, pack_linears
from auditor.models.language_model import LanguageModel
from auditor.models.loading import load_model
from tests import families
from tests.planted import Ids, tiny_model
from tests.tiny import save_tiny_model

TEXTS = [[5, 9, 7, 8, 3, 2], [11, 4, 19]]


@pytest.fixture(autouse=True)
def packs(monkeypatch):
    """As on a processor with kernels for bfloat16, whatever this one has."""

    def is_plain(weight):
        return weight.device.type == "cpu" and weight.dtype == torch.bfloat16

    monkeypatch.setattr(packed_linear, "can_pack", is_plain)
    monkeypatch.setattr(lm_head, "can_pack", is_plain)
    monkeypatch.setattr(language_model, "can_pack", is_plain)


def made(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


@pytest.mark.parametrize("n", [1, 3, 64, 300])
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_layer_is_the_product_rounded_once(n, bias):
    """The nearest bfloat16 of the sum is off by 2^-9 of it at most; the sum itself by little."""
    x, weight, added = made(n, 48), made(33, 48, seed=1), made(33, seed=2) if bias else None
    exact = x.double() @ weight.double().T + (added.double() if bias else 0)
    with torch.inference_mode():
        found = PackedLinear(weight, added)(x).double()
    assert ((found - exact).abs() <= exact.abs() * 2**-8 + 1e-4).all()


def test_the_activation_is_gpt2s():
    """0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) by hand, after the bias."""
    x, weight, bias = made(7, 5, 16), made(24, 16, seed=1), made(24, seed=2)
    y = x.double() @ weight.double().T + bias.double()
    exact = 0.5 * y * (1 + torch.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
    with torch.inference_mode():
        found = PackedLinear(weight, bias, "tanh")(x).double()
    assert found.shape == (7, 5, 24)
    assert ((found - exact).abs() <= exact.abs() * 2**-8 + 2e-3).all()


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_packed_model_scores_text_as_in_float32(kind):
    plain = tiny_model(kind)
    packed = tiny_model(kind, dtype=torch.bfloat16).pack()
    n_layers = sum(isinstance(m, PackedLinear) for m in packed.network.modules())
    assert n_layers == {"gpt2": 2 * 4, "llama": 2 * 7}[kind]
    assert packed.n_parameters == plain.n_parameters
    exact, after = (m.token_stats(TEXTS).logprob for m in (plain, packed))
    assert np.allclose(after, exact, atol=0.1)
    session = packed.session(2, 8)
    session.prefill([0, 1], [[0], [0]])
    stepped = packed.head.logits(session.step(torch.tensor([5, 11]))).double().log_softmax(-1)
    assert stepped[0, 9].item() == pytest.approx(after[1], abs=0.1)
    assert stepped[1, 4].item() == pytest.approx(after[7], abs=0.1)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("shape", [(1, 1), (4, 64), (257, 1), (3, 200), (2, 256)])
def test_layers_that_take_some_rows_at_a_time_give_what_they_give_at_once(kind, shape):
    packed = tiny_model(kind, dtype=torch.bfloat16).pack()
    blocks = [m for m in packed.network.modules() if isinstance(m, InRows)]
    assert len(blocks) == 2  # one a layer
    x, sizes = made(*shape, 32), []
    blocks[0].layers.register_forward_hook(lambda _, given, found: sizes.append(given[0].numel()))
    with torch.inference_mode():
        found = blocks[0](x)
        assert max(sizes) <= 256 * 32
        at_once = blocks[0].layers(x)
    assert found.shape == at_once.shape == x.shape
    assert torch.allclose(found.float(), at_once.float(), rtol=2**-7, atol=2**-9)


def test_what_cannot_be_packed_is_left_alone():
    assert not can_pack(torch.zeros(3, 3))
    network = tiny_model("gpt2").network
    kinds = [type(module) for module in network.modules()]
    assert pack_linears(network, lambda: True) == []
    assert [type(module) for module in network.modules()] == kinds

    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    own = nn.Sequential(Doubled(4, 4), nn.Linear(4, 4)).bfloat16()
    pack_linears(own, lambda: True)
    assert isinstance(own[0], Doubled)
    assert isinstance(own[1], PackedLinear)


def test_a_block_that_reads_its_weights_is_not_packed():
    """Mamba's mixers do; BLOOM's blocks are given what is added to their result."""

    class Looking(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x):
            return x @ self.inner.weight.t()

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x):
            return self.inner(x)

    network = nn.Sequential(Looking(), Plain(), Looking(), Plain()).bfloat16()
    x = made(3, 4)
    with torch.inference_mode():
        before = network(x)

    def is_right():
        try:
            with torch.inference_mode():
                return torch.allclose(network(x).float(), before.float(), atol=0.05)
        except AttributeError:
            return False

    assert pack_linears(network, is_right) == ["Looking"]
    assert [type(block.inner) for block in network] == [nn.Linear, PackedLinear] * 2
    assert is_right()


@pytest.mark.parametrize("tiles", [False, True])
@pytest.mark.parametrize(
    "family", ["bloom", "deepseek_v3", "jamba", "jetmoe", "mamba", "moshi", "mpt"]
)
@pytest.mark.filterwarnings("ignore")
def test_odd_families_are_scored_in_bfloat16_as_in_float32(family, tiles, monkeypatch):
    monkeypatch.setattr(attention, "has_tiles", lambda: tiles)
    wide = LanguageModel(
        families.tiny_network(family), Ids(), name="", fingerprint="", dtype=torch.float32
    )
    texts = [list(range(3, 3 + n)) for n in (5, 40, 40, 40, 40, 40, 40, 40, 40, 40)]
    exact = wide.token_stats(texts).logprob
    few = LanguageModel(
        families.tiny_network(family).bfloat16(),
        Ids(),
        name="",
        fingerprint="",
        dtype=torch.bfloat16,
    )
    assert np.abs(few.pack().token_stats(texts).logprob - exact).mean() < 0.1


def test_a_loaded_model_is_packed_in_bfloat16_and_takes_an_adapter(tmp_path):
    save_tiny_model(tmp_path / "base")
    folder = str(tmp_path / "base")
    assert any(
        isinstance(m, PackedLinear) for m in load_model(folder, dtype="bfloat16").network.modules()
    )
    tuned = with_lora(load_model(folder).network, rank=2, seed=0)
    tuned.save_pretrained(tmp_path / "adapter")
    named = tmp_path / "adapter" / "adapter_config.json"
    named.write_text(
        named.read_text().replace(
            '"base_model_name_or_path": null', f'"base_model_name_or_path": "{folder}"'
        )
    )
    found = load_model(str(tmp_path / "adapter"), dtype="bfloat16").token_stats([TEXTS[0]])
    assert np.isfinite(found.logprob).all()
    assert not any(isinstance(m, PackedLinear) for m in tuned.modules())
