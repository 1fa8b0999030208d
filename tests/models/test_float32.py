"""float32 arithmetic over 16-bit weights: the numbers of the same weights loaded in float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from auditor.errors import ModelError, TooLargeError
from auditor.models import loading
from auditor.models.float32 import Float32Layers, in_float32
from auditor.models.language_model import LanguageModel
from auditor.models.loading import float32_options, load_model
from auditor.models.safety import StoredWeights, stored_weights
from auditor.models.tiny_gpt2 import build_tokenizer
from tests import families
from tests.planted import Ids, tiny_network
from tests.tiny import save_tiny_model

TEXTS = [[5, 9, 7, 8, 3, 2], [11, 4, 19]]


def wrap(network):
    return LanguageModel(network, Ids(), name="", fingerprint="", dtype=torch.float32)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_network_in_16_bits_computes_as_if_it_were_loaded_in_float32(kind, dtype):
    few = tiny_network(kind).to(dtype)
    weights = {name: weight.clone() for name, weight in few.state_dict().items()}
    wide = tiny_network(kind).to(dtype).float()
    Float32Layers(few)
    narrow, exact = wrap(few), wrap(wide)
    assert narrow.slow_because == exact.slow_because == {}
    found, expected = (m.token_stats(TEXTS, moments=True) for m in (narrow, exact))
    assert np.allclose(found.logprob, expected.logprob, atol=1e-5)
    assert np.allclose(found.vocab_std, expected.vocab_std, atol=1e-4)
    assert found.rank.tolist() == expected.rank.tolist()
    for name, weight in few.state_dict().items():
        assert weight.dtype == dtype, name
        assert torch.equal(weight, weights[name]), name


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("family", "width"),
    [("gemma3_text", 40), ("gemma2", 40), ("jamba", 32), ("mixtral", 32), ("mamba", 32)],
)
def test_a_folder_of_16_bits_gives_the_numbers_of_its_weights_in_float32(family, width, tmp_path):
    """A scale that Gemma makes of its width has no bfloat16 number; Mamba looks at its head."""
    network = families.tiny_network(family, hidden_size=width).bfloat16()
    network.save_pretrained(tmp_path)
    build_tokenizer(["a small text"], 270).save_pretrained(tmp_path)
    whole, by_layers = (
        load_model(str(tmp_path), dtype="float32", by_layers=way) for way in (False, True)
    )
    formats = [{p.dtype for p in model.network.parameters()} for model in (whole, by_layers)]
    assert formats == [{torch.float32}, {torch.bfloat16}]
    found, expected = (model.token_stats(TEXTS).logprob for model in (by_layers, whole))
    assert np.allclose(found, expected, atol=1e-4)
    assert by_layers.slow_because == whole.slow_because


def test_damaged_weights_are_not_told_as_too_large(folder):
    network = load_model(str(folder)).network
    with torch.no_grad():
        network.transformer.ln_f.weight.fill_(float("nan"))
    network.bfloat16().save_pretrained(folder)
    with pytest.raises(ModelError, match=r"not numbers \(NaN\) in float32"):
        load_model(str(folder), dtype="float32", by_layers=True)


def test_a_layer_that_fails_has_its_weights_back():
    network = tiny_network().bfloat16()
    with in_float32(network), pytest.raises(IndexError):
        network(input_ids=torch.tensor([[10_000]]))
    assert {weight.dtype for weight in network.parameters()} == {torch.bfloat16}
    assert not any(module._forward_hooks for module in network.modules())


@pytest.fixture
def folder(tmp_path):
    """A model whose files hold bfloat16."""
    from transformers import AutoModelForCausalLM

    save_tiny_model(tmp_path)
    network = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    network.save_pretrained(tmp_path)
    return tmp_path


def test_what_weight_files_hold_is_read_from_their_headers(folder):
    stored = stored_weights(folder)
    network = load_model(str(folder)).network
    assert stored == StoredWeights(sum(p.numel() for p in network.parameters()), torch.bfloat16)
    assert stored.n_bytes(torch.float32) == 2 * stored.n_bytes(torch.bfloat16)
    n = stored.n_bytes(torch.float32)
    assert [stored.fits(torch.float32, free) for free in (n, n * 10 // 9 + 1)] == [False, True]


def test_float32_that_does_not_fit_is_computed_a_layer_at_a_time(folder, monkeypatch):
    whole = load_model(str(folder), dtype="float32")
    assert whole.network.dtype == torch.float32
    stored = stored_weights(folder)
    monkeypatch.setattr(loading, "free_memory", lambda place: stored.n_bytes(torch.float32))
    by_layers = load_model(str(folder), dtype="float32")
    assert (by_layers.network.dtype, by_layers.dtype) == (torch.bfloat16, torch.float32)
    found, exact = (model.token_stats(TEXTS).logprob for model in (by_layers, whole))
    assert np.allclose(found, exact, atol=1e-5)
    assert by_layers.fingerprint == whole.fingerprint


def test_how_models_fit_side_by_side_is_known_before(folder, monkeypatch):
    """Two models of n bytes in 16 bits: whole 4 n, by layers 2 n, with a tenth left."""
    n = stored_weights(folder).n_bytes(torch.bfloat16)
    for free, ways in ((4.5, [False, True]), (4.4, [True]), (2.3, [True]), (2.2, [])):
        monkeypatch.setattr(loading, "free_memory", lambda place, free=free: int(free * n))
        assert float32_options([str(folder)] * 2, "cpu") == ways, free


def test_an_audit_that_cannot_be_exact_says_so_before_and_ends_in_its_own_format(
    folder, tmp_path, monkeypatch
):
    from auditor.audit.pipeline import run_audit
    from auditor.system.progress import NullProgress

    said = []

    class Told(NullProgress):
        def note(self, sentence):
            said.append(sentence)

    plain = loading.load_model

    def small(spec, *, dtype, **options):
        if dtype == "float32":
            raise TooLargeError("too large")
        said.append("loaded")
        return plain(spec, dtype=dtype, **options)

    monkeypatch.setattr(loading, "load_model", small)
    monkeypatch.setattr(loading, "free_memory", lambda place: 0)
    run = run_audit(
        model=str(folder),
        dtype="bfloat16",
        samples=6,
        batch_size=2,
        strategies=("top-n",),
        decoding={"max_new_tokens": 5},
        out=str(tmp_path / "run"),
        progress=Told(),
    )
    assert said[0].startswith("The models do not fit into memory in float32: the reported")
    assert said.index("loaded") > 0
    assert not run.manifest.rescored_in_float32
    assert run.manifest.complete
    page = (tmp_path / "run" / "report.html").read_text()
    assert "scores were computed in bfloat16" in page
