"""Loading models from specs: accepted and refused files."""

from __future__ import annotations

import contextlib
import json
import pickle
import re
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from auditor.errors import ConfigError, ModelError
from auditor.models import description_checks, loading
from auditor.models.language_model import LanguageModel
from auditor.models.loading import fingerprint, load_model, load_vocabulary
from auditor.models.tiny_gpt2 import build_gpt2, build_tokenizer, save_model

TEXTS = ["the cat sat on the mat", "a small text for a small model"] * 5


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder as save_pretrained writes it, read only."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = build_tokenizer(TEXTS, 270)
    network = build_gpt2(n_vocab=270, n_layer=1, width=16, n_head=2, context=32, seed=0)
    save_model(network, tokenizer, folder)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(made, tmp_path / "model")


def sentence(spec, kind=ModelError, **options):
    with pytest.raises(kind) as told:
        load_model(str(spec), **options)
    return str(told.value)


# ---------------------------------------------------------------- local folders


def test_a_folder_comes_back_with_its_weights_and_its_vocabulary(made):
    model = load_model(str(made))
    network = build_gpt2(n_vocab=270, n_layer=1, width=16, n_head=2, context=32, seed=0)
    for name, weight in network.state_dict().items():
        assert torch.equal(model.network.state_dict()[name], weight), name
    assert (model.name, model.context, model.dtype) == (str(made), 32, torch.float32)
    assert model.n_parameters == sum(p.numel() for p in network.parameters())
    ids = model.vocabulary.encode("the cat")
    assert model.vocabulary.decode(ids) == "the cat"
    assert model.vocabulary.bos_id == model.vocabulary.eos_id == 0
    assert not model.network.training
    assert np.isfinite(model.token_stats([ids]).logprob).all()


def test_a_vocabulary_is_read_without_the_weights(folder):
    (folder / "model.safetensors").write_bytes(b"")
    whole = load_vocabulary(str(folder))
    assert whole.decode(whole.encode("the mat")) == "the mat"


def test_shards_are_read_as_one(made, tmp_path):
    network = build_gpt2(n_vocab=270, n_layer=1, width=16, n_head=2, context=32, seed=0)
    shutil.copytree(made, tmp_path / "cut", ignore=shutil.ignore_patterns("*.safetensors"))
    network.save_pretrained(tmp_path / "cut", max_shard_size="20KB")
    assert len(list((tmp_path / "cut").glob("*.safetensors"))) > 1
    one, other = load_model(str(made)), load_model(str(tmp_path / "cut"))
    text = [[1, 2, 3]]
    assert (one.token_stats(text).logprob == other.token_stats(text).logprob).all()
    next((tmp_path / "cut").glob("*-00002-*.safetensors")).unlink()
    assert "its weights cannot be read" in sentence(tmp_path / "cut")


def test_bfloat16_is_used_where_it_is_requested(made):
    model = load_model(str(made), dtype="bfloat16")
    assert model.dtype == next(model.network.parameters()).dtype == torch.bfloat16
    exact = load_model(str(made)).token_stats([[1, 2, 3]])
    assert np.allclose(model.token_stats([[1, 2, 3]]).logprob, exact.logprob, atol=0.05)


def test_a_small_model_is_not_worth_the_rounding(made, monkeypatch):
    """auto: bfloat16 only for a large model on a machine that has it."""
    monkeypatch.setattr(loading, "native_bfloat16", lambda device: True)
    assert load_model(str(made)).dtype == torch.float32
    monkeypatch.setattr(loading, "_SMALL", 100)
    assert load_model(str(made)).dtype == torch.bfloat16
    monkeypatch.setattr(loading, "native_bfloat16", lambda device: False)
    assert load_model(str(made)).dtype == torch.float32


def test_a_named_bos_starts_texts(made):
    model = load_model(str(made), bos="a")
    assert model.vocabulary.bos_id == model.vocabulary.encode("a")[0]
    assert "--bos must be a token of" in sentence(made, ConfigError, bos="<none>")


# ---------------------------------------------------------------- what is refused


def test_a_folder_without_a_config_is_refused(folder):
    (folder / "config.json").unlink()
    assert sentence(folder) == (
        f"{folder} has no config.json, so it is not a model folder. Give a folder saved with "
        "save_pretrained."
    )


def test_pickles_are_never_read_and_named(folder):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    assert sentence(folder) == (
        f"{folder} has no weights in safetensors, only pickles (pytorch_model.bin), which are "
        "never read. Save it again with save_pretrained, or give a GGUF file."
    )
    (folder / "pytorch_model.bin").unlink()
    assert "has no weights in safetensors. Save it again" in sentence(folder)


def test_code_of_a_model_is_never_run(folder, tmp_path):
    ran = tmp_path / "ran"
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    assert "needs its own code (auto_map in config.json), and a model's code is never" in sentence(
        folder
    )
    # A tokenizer that brings code is read as the plain kind of tokenizer, or is refused.
    del config["auto_map"]
    (folder / "config.json").write_text(json.dumps(config))
    path = folder / "tokenizer_config.json"
    own = {**json.loads(path.read_text()), "auto_map": {"AutoTokenizer": ["own.T", "own.T"]}}
    path.write_text(json.dumps(own))
    with contextlib.suppress(ModelError):
        load_model(str(folder))
    assert not ran.exists()


@pytest.mark.parametrize("text", ["{", "", "\ufeff{}x"])
def test_a_config_that_is_no_json_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    assert f"{folder}: config.json cannot be read as JSON (" in sentence(folder)


@pytest.mark.parametrize("text", ["[]", "{}", '{"model_type": "no-such"}', '"text"'])
def test_a_config_of_no_known_model_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    said = sentence(folder)
    assert (
        "its config or tokenizer cannot be read (" in said
        or "has an architecture (no-such)" in said
    )


def test_a_tokenizer_that_numbers_a_token_beyond_all_vocabularies_is_refused(folder):
    """A table of all ids up to there would take all memory."""
    path = folder / "tokenizer.json"
    told = json.loads(path.read_text())
    token = max(told["model"]["vocab"], key=told["model"]["vocab"].get)
    told["model"]["vocab"][token] = 2**31 - 1
    path.write_text(json.dumps(told))
    assert sentence(folder) == (
        f"{folder}: token ids must be below 10,000,000; its tokenizer has 2,147,483,647. The "
        "tokenizer files may be damaged: download or save the model again."
    )


def test_a_folder_without_a_tokenizer_is_refused(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()
    assert sentence(folder) == (
        f"{folder} has no tokenizer files. Put them beside config.json: tokenizer.json, or "
        "vocab.json and merges.txt, or tokenizer.model."
    )


@pytest.mark.parametrize("kept", [0, 7, 100, 5_000])
def test_broken_off_weights_are_refused(folder, kept):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    assert f"{folder}: its weights cannot be read as a causal language model (" in sentence(folder)


def test_weights_that_lack_a_tensor_are_refused_and_not_filled_with_noise(folder):
    path = folder / "model.safetensors"
    weights = load_file(path)
    name = next(name for name in weights if name.endswith("mlp.c_fc.weight"))
    del weights[name]
    save_file(weights, path, metadata={"format": "pt"})
    told = sentence(folder)
    assert "its weight files lack 1 of the model's tensors (" in told
    assert "mlp.c_fc.weight" in told


def test_weights_of_another_shape_are_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "n_embd": 24}))
    assert f"{folder}: its weights cannot be read as a causal language model (" in sentence(folder)


def test_a_model_that_continues_no_text_is_refused_by_its_kind(folder):
    from transformers import (
        BertConfig,
        BertForMaskedLM,
        DistilBertConfig,
        DistilBertForSequenceClassification,
        T5Config,
        T5ForConditionalGeneration,
        ViTConfig,
        ViTForImageClassification,
    )

    small = {"vocab_size": 270, "d_model": 16, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    T5ForConditionalGeneration(T5Config(**small, d_kv=8)).save_pretrained(folder)
    assert (
        f"{folder} is an encoder-decoder (T5ForConditionalGeneration); here it must be a causal"
        in sentence(folder, kinds=("causal",))
    )
    layers = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    layers |= {"intermediate_size": 16}
    BertForMaskedLM(BertConfig(vocab_size=270, **layers)).save_pretrained(folder)
    causal = {"kinds": ("causal",)}
    said = "is a masked language model (BertForMaskedLM); here it must be"
    assert said in sentence(folder, **causal)
    DistilBertForSequenceClassification(
        DistilBertConfig(vocab_size=270, dim=16, n_layers=1, n_heads=2, hidden_dim=16)
    ).save_pretrained(folder)
    assert "is a masked language model (DistilBertForSequenceCl" in sentence(folder, **causal)
    assert "Use a model trained to fill masks" in sentence(folder)
    ViTForImageClassification(ViTConfig(**layers, image_size=8, patch_size=4)).save_pretrained(
        folder
    )
    assert "is not a language model (ViTForImageClas" in sentence(folder)


def test_a_kind_that_transformers_does_not_know_is_named(folder):
    (folder / "config.json").write_text('{"model_type": "gpt9"}')
    assert f"{folder} has an architecture (gpt9) that the installed transformers (" in sentence(
        folder
    )


def test_a_tokenizer_of_sentencepiece_names_what_to_install(folder, monkeypatch):
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).unlink(missing_ok=True)
    (folder / "tokenizer.model").write_bytes(b"\x0a\x00")
    (folder / "config.json").write_text(
        json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]})
    )
    monkeypatch.setattr(description_checks, "_is_installed", lambda name: False)
    said = sentence(folder)
    assert "its tokenizer (tokenizer.model) needs the packages sentencepiece and protobuf" in said
    assert said.endswith("pip install '.[sentencepiece]' in a checkout.")


def test_a_folder_of_gguf_files_names_them(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    assert sentence(tmp_path) == (
        f"{tmp_path} contains GGUF files but no config.json. Give the file: {tmp_path / 'x.gguf'}."
    )


@pytest.mark.parametrize("spec", ["http://localhost:8000/v1", "https://example.org/model"])
def test_a_url_needs_the_name_of_a_served_model(spec):
    with pytest.raises(ConfigError) as told:
        load_model(spec)
    assert str(told.value).endswith("Add --served-model NAME.")


def test_layers_that_the_config_does_not_name_are_not_left_out(tmp_path):
    tokenizer = build_tokenizer(TEXTS, 270)
    network = build_gpt2(n_vocab=270, n_layer=2, width=16, n_head=2, context=32, seed=0)
    save_model(network, tokenizer, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "n_layer": 1}))
    assert "weight files contain more layers than its config.json (h" in sentence(
        tmp_path
    ) or "config.json (transformer.h.1" in sentence(tmp_path)


def test_tensors_that_the_model_does_not_use_are_reported(folder):
    weights = load_file(folder / "model.safetensors")
    save_file(
        {**weights, "vision.patch": torch.zeros(2)}, folder / "model.safetensors", {"format": "pt"}
    )
    (told,) = load_model(str(folder)).notes
    assert told == f"{folder}: the model does not use 1 tensor of its weight files (vision.patch)."


def test_a_quantised_model_that_cannot_be_read_names_its_method(folder):
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))
    assert f"{folder} is quantised with gptq and cannot be read (" in sentence(folder)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bits_give_the_numbers_of_float32_but_for_rounding(made, dtype):
    exact, few = (load_model(str(made), dtype=name) for name in ("float32", dtype))
    assert few.dtype == getattr(torch, dtype)
    ids = [few.vocabulary.encode("the cat sat on the mat")]
    off = np.abs(exact.token_stats(ids).logprob - few.token_stats(ids).logprob).max()
    assert off < {"float16": 0.005, "bfloat16": 0.05}[dtype]


def test_an_unknown_dtype_or_device_is_refused(made):
    assert sentence(made, ConfigError, dtype="float8") == (
        "--dtype must be auto, float32, bfloat16 or float16; got 'float8'. Use auto if unsure."
    )
    assert "--device abacus cannot be used here (" in sentence(made, device="abacus")


@pytest.mark.parametrize(
    ("kind", "name"), [(torch.nn.Module, "to"), (LanguageModel, "pack")], ids=["moved", "packed"]
)
def test_a_device_that_is_too_small_is_a_one_line_error(made, monkeypatch, kind, name):
    def too_small(self, *args):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(kind, name, too_small)
    assert f"{made} does not fit into the memory of cpu in float32. Save its" in sentence(made)
    said = sentence(made, dtype="bfloat16")
    assert said.endswith("cpu in bfloat16. Use a smaller model, or a machine with more memory.")


# ---------------------------------------------------------------- specs


def test_a_testbed_spec_names_its_folder(made):
    assert load_model(f"testbed:{made}").fingerprint == load_model(str(made)).fingerprint
    assert sentence("testbed:no-such/target") == (
        "testbed:no-such/target: no such testbed model. Build one with `auditor testbed no-such`, "
        "then give testbed:DIR/target, testbed:DIR/small or testbed:DIR/medium."
    )


def test_a_shipped_model_that_is_not_here_names_the_command(tmp_path, made, monkeypatch):
    monkeypatch.setenv("AUDITOR_CACHE", str(tmp_path))
    assert sentence("smollm2") == (
        "smollm2 is not installed. Install it with `auditor models add smollm2`."
    )
    shutil.copytree(made, tmp_path / "models" / "smollm2")
    assert load_model("smollm2").fingerprint == fingerprint(made)


@pytest.mark.parametrize("spec", ["./none", "/none/at/all", "~/none", "none.gguf", "a/b/c"])
def test_a_path_that_is_missing_is_not_looked_up_on_the_hub(spec):
    assert sentence(spec) == (
        f"{spec}: no such file or folder. Give an existing path, or a hub id such as gpt2."
    )


def test_a_file_of_another_kind_is_refused(folder):
    path = folder / "model.safetensors"
    assert sentence(path) == (
        f"{path} is a file, but not a .gguf file. Give a .gguf file or a model folder."
    )


# ---------------------------------------------------------------- the hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of the hub's client, which is told to stay offline."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.mark.parametrize("spec", ["tiny", "some-one/tiny"])
def test_a_hub_id_is_read_from_the_local_copy(hub, made, spec):
    commit = "0123456789abcdef0123456789abcdef01234567"
    place = hub / f"models--{spec.replace('/', '--')}"
    shutil.copytree(made, place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    model = load_model(spec)
    assert model.name == spec
    assert model.fingerprint == fingerprint(made)


def test_an_unknown_hub_id_is_a_one_line_error(hub):
    told = sentence("no-one/no-such-model")
    assert told.startswith(
        "no-one/no-such-model is not a local folder, and the hub does not provide"
    )
    assert told.endswith("Check the spelling and the network, or give a local folder.")


def test_an_invalid_hub_id_is_a_one_line_error(hub):
    assert sentence("not a spec!").startswith("'not a spec!' is not a valid model. Give a folder,")


@pytest.mark.parametrize("package", ["httpx", "httpx2._exceptions", "requests.exceptions"])
def test_a_hub_that_cannot_be_reached_is_a_one_line_error(monkeypatch, package):
    """The client lets its transport's errors through, and has changed its transport before."""
    import huggingface_hub

    kind = type("ReadTimeout", (Exception,), {"__module__": package})

    def fail(*args, **kwargs):
        raise kind("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    assert sentence("gpt2") == (
        "gpt2 is not a local folder, and the hub cannot be reached. Check the "
        "network, or give a local folder."
    )


def test_a_fault_of_the_program_is_not_taken_for_one_of_the_network(monkeypatch):
    import huggingface_hub

    def fail(*args, **kwargs):
        raise KeyError("bug")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(KeyError):
        load_model("gpt2")


# ---------------------------------------------------------------- folders not to be trusted


@pytest.mark.parametrize(
    "name",
    [
        "../outside.safetensors",
        "/etc/model.safetensors",
        "pytorch_model.bin",
        "below/a.safetensors",
        "..",
        3,
        "a\0.safetensors",
    ],
)
def test_an_index_names_only_safetensors_of_its_own_folder(folder, name):
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    index = {"metadata": {}, "weight_map": {"transformer.wte.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert (
        "model.safetensors.index.json must list only *.safetensors files in the same"
        in sentence(folder)
    )


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}'])
def test_an_index_that_is_none_is_refused(folder, text):
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    (folder / "model.safetensors.index.json").write_text(text)
    assert "model.safetensors.index.json " in sentence(folder)


@pytest.mark.parametrize(
    ("name", "value"), [("n_layer", 10**9), ("vocab_size", 10**13), ("n_embd", 10**13)]
)
def test_a_config_of_a_huge_model_is_refused_before_allocation(folder, name, value):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, name: value}))
    assert re.search(
        r"\w+ in config.json must be at most [\d,]+ to match the weight files; got",
        sentence(folder),
    )


def test_pickles_beside_safetensors_are_passed_over(folder, tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt"):
        (folder / name).write_bytes(pickle.dumps(Trap()))
    assert load_model(str(folder)).fingerprint == fingerprint(folder)
    assert not (tmp_path / "ran").exists()


# -------------------------------------------------------------------------- several devices
@pytest.fixture
def two_devices(monkeypatch):
    """`--device balanced` on a machine without GPUs: one layer stays on the disk."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(loading, "usable_device", lambda name: "cpu")
    places = {"transformer.wte": "cpu", "transformer.wpe": "cpu", "transformer.drop": "cpu"}
    places |= {"transformer.h.0": "disk", "transformer.ln_f": "cpu", "lm_head": "cpu"}
    monkeypatch.setattr(loading, "_device_map", lambda: places)


def test_a_model_on_several_devices_gives_the_same_numbers(made, two_devices):
    spread = load_model(str(made), dtype="float32", device="balanced")
    assert spread.slow_because == dict.fromkeys(
        ("head", "steps"), "its layers are on several devices"
    )
    ids = [spread.vocabulary.encode(text) for text in TEXTS[:2]]
    found, expected = (m.token_stats(ids) for m in (spread, load_model(str(made))))
    assert np.allclose(found.logprob, expected.logprob, atol=1e-5)
    assert found.rank.tolist() == expected.rank.tolist()


def test_balanced_needs_gpus(folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "--device balanced spreads a model over GPUs" in sentence(folder, device="balanced")


def test_bitsandbytes_without_a_gpu_is_named(folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps(config))
    told = sentence(folder)
    assert told.startswith(f"{folder} is quantised with bitsandbytes, which needs a GPU")
