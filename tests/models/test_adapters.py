"""A LoRA adapter's folder as a model spec: its base with the adapter on."""

from __future__ import annotations

import json
import shutil
import warnings

import numpy as np
import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from auditor.comparison.models import compare_models
from auditor.errors import ModelError
from auditor.models.adapters import merged, tuned_from, with_lora
from auditor.models.loading import load_model, load_vocabulary
from tests.tiny import WORDS, save_texts, save_tiny_model

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
        with pytest.raises(ModelError, match="does not name a base"):
            load(str(folder))


def test_an_adapter_of_an_adapter_is_refused(tmp_path):
    config = {"base_model_name_or_path": str(tmp_path), "peft_type": "LORA"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    for load in (load_model, load_vocabulary):
        with pytest.raises(ModelError, match=r"which is an adapter itself\. Merge .* first"):
            load(str(tmp_path))


@pytest.mark.parametrize("written", ['{"base": "x"}', '{"base": {"spec": 3}}', "[]", "{", ""])
def test_the_base_of_a_tuned_folder_is_text_or_unknown(tmp_path, written):
    (tmp_path / "finetune.json").write_text(written)
    assert tuned_from(tmp_path) == {}
    (tmp_path / "finetune.json").write_text('{"base": {"spec": "gpt2", "fingerprint": null}}')
    assert tuned_from(tmp_path) == {"spec": "gpt2"}


# ------------------------------------------------------------ what peft itself gives, in float64
def save_llama(folder, *, tied):
    """A random Llama with the tokenizer of 300 tokens, and 310 embeddings."""
    save_tiny_model(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    shutil.rmtree(folder)
    config = LlamaConfig(
        vocab_size=310, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, intermediate_size=32, max_position_embeddings=64,
        tie_word_embeddings=tied, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    network = LlamaForCausalLM(config)
    stir(network, 1)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@torch.no_grad()
def stir(network, seed, only_trained=False):
    draw = torch.Generator().manual_seed(seed)
    for weight in network.parameters():
        if weight.requires_grad or not only_trained:
            weight.add_(torch.randn(weight.shape, generator=draw) * 0.2)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    root = tmp_path_factory.mktemp("bases")
    return {tied: save_llama(root / f"tied-{tied}", tied=tied) for tied in (False, True)}


def adapt(base, folder, config, rows=None):
    """An adapter's folder, and the trained model that it was saved from, in float64."""
    network = AutoModelForCausalLM.from_pretrained(base)
    if rows:
        network.resize_token_embeddings(rows)
    with warnings.catch_warnings():  # peft's own, of what it makes
        warnings.simplefilter("ignore")
        tuned = peft.get_peft_model(network, config)
        stir(tuned, 2, only_trained=True)
        tuned.save_pretrained(folder)
    named = folder / "adapter_config.json"
    told = json.loads(named.read_text()) | {"base_model_name_or_path": str(base)}
    named.write_text(json.dumps(told))
    return tuned.eval().double()


@torch.no_grad()
def judged(network, ids):
    """Log-probability of each token after the first."""
    said = network(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    return said[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0].numpy()


def lora(*layers, **more):
    return peft.LoraConfig(
        r=2, lora_alpha=4, target_modules=list(layers), task_type="CAUSAL_LM", **more
    )


WHOLE = {"modules_to_save": ["embed_tokens", "lm_head"]}
# Name -> (whether the base's embeddings are tied, the adapter, its number of embeddings).
RIGHT = {
    "projection": (False, lora("q_proj", "lm_head"), None),
    "projection, tied": (True, lora("q_proj", "lm_head"), None),
    "projection, DoRA": (False, lora("lm_head", use_dora=True), None),
    "projection, IA3": (
        False,
        peft.IA3Config(target_modules=["lm_head"], feedforward_modules=[], task_type="CAUSAL_LM"),
        None,
    ),
    "projection saved whole": (False, lora("q_proj", modules_to_save=["lm_head"]), None),
    "tokens, tied": (True, lora("q_proj", trainable_token_indices=[5, 6, 7]), None),
    "more embeddings": (False, lora("q_proj", **WHOLE), 320),
    "more embeddings, as they were": (False, lora("q_proj"), 320),
    "more embeddings, tied": (True, lora("q_proj"), 320),
    "fewer embeddings": (False, lora("q_proj", **WHOLE), 300),
}


@pytest.mark.parametrize("name", RIGHT)
def test_an_adapter_gives_what_peft_gives(bases, tmp_path, name):
    tied, config, rows = RIGHT[name]
    whole = adapt(bases[tied], tmp_path / "adapter", config, rows)
    ids = [0, *load_vocabulary(str(bases[tied])).encode(WORDS)]
    base = AutoModelForCausalLM.from_pretrained(bases[tied], dtype=torch.float64)
    expected = judged(whole, ids)
    assert abs(expected - judged(base, ids)).max() > 0.1
    for dtype, allowed in (("float32", 1e-4), ("bfloat16", 0.1)):
        model = load_model(str(tmp_path / "adapter"), dtype=dtype)
        found = model.token_stats([ids[1:]], [ids[:1]]).logprob
        assert found == pytest.approx(expected, abs=allowed)
        assert model.head.n_vocab == (rows or 310)


VIRTUAL = {"num_virtual_tokens": 3, "task_type": "CAUSAL_LM"}


@pytest.mark.parametrize(
    ("config", "rows", "told"),
    [
        (peft.PromptTuningConfig(**VIRTUAL), None, "got prompt tuning, which puts virtual"),
        (peft.PrefixTuningConfig(**VIRTUAL), None, "got prefix tuning, which puts virtual"),
        (peft.PromptEncoderConfig(**VIRTUAL, encoder_hidden_size=8), None, "got p tuning"),
        (lora("q_proj", alora_invocation_tokens=[5]), None, "got aLoRA, which acts only after"),
        (
            lora("q_proj", "lm_head"),
            320,
            "has 310, and its weight file lacks the new rows of the embedd",
        ),
    ],
)
def test_what_is_not_in_the_layers_or_the_file_is_refused(bases, tmp_path, config, rows, told):
    adapt(bases[False], tmp_path / "adapter", config, rows)
    with pytest.raises(ModelError, match=told):
        load_model(str(tmp_path / "adapter"))


def test_weights_for_layers_that_are_not_there_are_refused(bases, tmp_path):
    adapt(bases[False], tmp_path / "adapter", lora("q_proj", "v_proj"))
    named = tmp_path / "adapter" / "adapter_config.json"
    named.write_text(json.dumps(json.loads(named.read_text()) | {"target_modules": ["q_proj"]}))
    with pytest.raises(
        ModelError, match=r"has weights for layers that the base does not have .*v_proj"
    ):
        load_model(str(tmp_path / "adapter"))


@pytest.mark.parametrize(
    "config", [lora("q_proj", "lm_head", bias="all"), lora("q_proj", init_lora_weights="pissa")]
)
def test_a_comparison_has_the_numbers_of_each_model_by_itself(bases, tmp_path, config):
    whole = adapt(bases[False], tmp_path / "adapter", config)
    base = AutoModelForCausalLM.from_pretrained(bases[False], dtype=torch.float64)
    ids = [0, *load_vocabulary(str(bases[False])).encode(WORDS)]
    found = compare_models(
        None, str(tmp_path / "adapter"), texts=[save_texts(tmp_path / "t.jsonl", [WORDS])],
        prefix_tokens=2, suffix_tokens=2,
    )  # fmt: skip
    [row] = found.texts.itertuples()
    assert row.likelihood_base == pytest.approx(judged(base, ids).mean(), abs=1e-5)
    assert row.likelihood_tuned == pytest.approx(judged(whole, ids).mean(), abs=1e-5)


# ------------------------------------------------------------ tokenizers beside adapters
CHAT = f"<|user|>{WORDS}<|bot|>the dog"


@pytest.fixture
def chat(bases, tmp_path):
    """An adapter with two tokens of its own, in rows that its base has spare; the trained model."""
    whole = adapt(bases[False], tmp_path / "chat", lora("q_proj", **WHOLE))
    tokenizer = AutoTokenizer.from_pretrained(bases[False])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|bot|>"]})
    tokenizer.save_pretrained(tmp_path / "chat")
    return tmp_path / "chat", whole, tokenizer


def test_an_adapters_own_tokenizer_makes_its_tokens(chat):
    folder, whole, tokenizer = chat
    ids = tokenizer(CHAT, add_special_tokens=False)["input_ids"]
    assert {300, 301} <= set(ids)
    model = load_model(str(folder))
    assert model.vocabulary.encode(CHAT) == load_vocabulary(str(folder)).encode(CHAT) == ids
    found = model.token_stats([ids], [[0]]).logprob
    assert found == pytest.approx(judged(whole, [0, *ids]), abs=1e-4)


def test_an_adapters_tokenizer_past_the_embeddings_is_refused(chat):
    folder, _, tokenizer = chat
    tokenizer.add_tokens([f"<{i}>" for i in range(20)])
    tokenizer.save_pretrained(folder)
    with pytest.raises(
        ModelError, match="a token with id 321, but the model has only 310 embeddings"
    ):
        load_model(str(folder))


def test_a_comparison_takes_texts_that_are_the_same_tokens_to_both(chat, bases, tmp_path):
    folder, whole, _ = chat
    sizes = {"prefix_tokens": 2, "suffix_tokens": 2}
    plain = save_texts(tmp_path / "plain.jsonl", [WORDS])
    [row] = compare_models(None, str(folder), texts=[plain], **sizes).texts.itertuples()
    ids = [0, *load_vocabulary(str(bases[False])).encode(WORDS)]
    assert row.likelihood_tuned == pytest.approx(judged(whole, ids).mean(), abs=1e-5)
    other = save_texts(tmp_path / "chat.jsonl", [WORDS, CHAT])
    with pytest.raises(ModelError, match="must split every text into the same tokens"):
        compare_models(None, str(folder), texts=[other], **sizes)


# ------------------------------------------------------------ bases, and folders of both kinds
def test_a_base_that_is_missing_is_reported_with_the_adapter(adapter, tmp_path):
    folder, _ = adapter
    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(
        ModelError, match=r"is an adapter whose base cannot be loaded: .*base_model"
    ):
        load_model(str(folder))
    load_model(str(folder), base=str(tmp_path / "moved"))
    named = folder / "adapter_config.json"
    told = json.loads(named.read_text()) | {"base_model_name_or_path": str(tmp_path / "moved")}
    named.write_text(json.dumps(told))
    load_model(str(folder))


def test_a_model_and_an_adapter_in_one_folder_are_refused(adapter, tmp_path):
    folder, _ = adapter
    # Whatever config lies beside it, an adapter is one while no model's weights do.
    shutil.copy(tmp_path / "base" / "config.json", folder)
    load_model(str(folder))
    shutil.copy(tmp_path / "base" / "model.safetensors", folder)
    with pytest.raises(ModelError, match="contains both a model and an adapter"):
        load_model(str(folder))
