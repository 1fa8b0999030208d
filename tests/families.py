"""Tiny random networks of every causal model family in transformers."""

from __future__ import annotations

import copy
import inspect
import warnings

import numpy as np
import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from auditor.config.audit import Decoding
from auditor.models.language_model import LanguageModel
from auditor.sampling.generate import generate
from tests.planted import Ids

FAMILIES = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
N_VOCAB, CONTEXT, WINDOW = 61, 48, 8

# Refused, with what the sentence says.
REFUSED = {
    **dict.fromkeys(("cpmant", "prophetnet", "xlm", "xlnet"), "is not a causal language model"),
    "xmod": "Input language unknown",
}
# Not tried, since a tiny one cannot be made of its config alone.
UNTRIED = {
    **dict.fromkeys(
        (
            *("blt", "dots3_note", "emu3", "fuyu", "gemma3", "gemma3n", "gemma4", "git"),
            *("gemma4_assistant", "gemma4_unified", "gemma4_unified_assistant", "got_ocr2"),
            *("llama4", "mllama", "moss_transcribe_diarize", "phi4_multimodal", "qwen3_5"),
            *("qwen3_5_moe", "qwen4_exp", "musicgen", "musicgen_melody"),
        ),
        "made of parts for other media",
    ),
    **dict.fromkeys(("dbrx", "kimi_linear", "zamba"), "no small config"),
}
# Families that compute in float32 whatever they are asked for.
IN_FLOAT32 = {"inkling2_text", "xglm"}
TRIED = [name for name in FAMILIES if name not in REFUSED | UNTRIED]

# Config values, used for each family that has a setting of that name.
_SIZES = {
    "vocab_size": N_VOCAB,
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "emb_dim", "embedding_size", "dim"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 2),
    **dict.fromkeys(("encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_encoder_layers", "num_decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads", "attention_heads"), 4),
    **dict.fromkeys(("num_encoder_attention_heads", "num_decoder_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), 2),
    "head_dim": 8,
    "global_head_dim": 8,
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "dff", "ffn_hidden_size"), 48),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 48),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len"), CONTEXT),
    "max_target_positions": CONTEXT,
    **dict.fromkeys(("sliding_window", "window_size", "attention_window_size"), WINDOW),
    "local_attention": 2 * WINDOW,
    "sliding_window_size": WINDOW,
    "attention_chunk_size": WINDOW,
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k"), 2),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 16),
    "moe_shared_expert_intermediate_size": 16,
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "first_k_dense_replace"), 1),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 8),
    **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 0),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads"), 4),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim"), 16),
    **dict.fromkeys(("mamba_d_state", "ssm_state_size", "state_size"), 8),
    "mamba_expand": 2,
    "mamba_d_ssm": 64,
    "mamba_chunk_size": 8,
    "chunk_size": 8,
    "n_mamba_heads": 2,
    "mamba_dt_rank": 4,
    **dict.fromkeys(("lru_width", "attention_hidden_size"), 32),
    "rotary_dim": 4,
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 2),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 8),
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": N_VOCAB,
    # Ties make the top k ambiguous, so select all.
    "index_topk": CONTEXT,
    "index_n_heads": 2,
    "index_head_dim": 16,
    "is_decoder": True,
}
# Further settings by family.
_OWN: dict[str, dict] = {
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 10_000.0}
            for kind in ("sliding_attention", "full_attention")
        },
    },
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "longcat_flash": {"ffn_hidden_size": 48, "expert_ffn_hidden_size": 16, "zero_expert_num": 1},
    "mamba2": {"num_heads": 8},
    "reformer": {"axial_pos_embds": False},
    "nemotron_h": {"layers_block_type": ["mamba", "attention"], "n_groups": 1},
    "zamba2": {"layers_block_type": ["mamba", "hybrid"]},
    "zaya": {"num_experts_per_tok": 1},
}


def tiny_config(family: str, **settings):
    """A minimal config of a family; `settings` override it."""
    kind = CONFIG_MAPPING[family]
    known = set()
    for base in kind.__mro__:
        known |= set(getattr(base, "__annotations__", {}))
        if "__init__" in vars(base):
            known |= set(inspect.signature(base.__init__).parameters)
    sizes = _SIZES | ({"num_key_value_heads": 4} if "kv_lora_rank" in known else {})
    used = {name: value for name, value in sizes.items() if name in known}
    return kind(**{**used, **_OWN.get(family, {}), **settings})


def tiny_network(family: str, *, seed: int = 0, **settings):
    """A random float32 network whose probabilities are far from uniform."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        network = AutoModelForCausalLM.from_config(tiny_config(family, **settings)).float().eval()
        with torch.no_grad():
            for weight in network.parameters():
                if weight.ndim > 1:
                    weight.normal_(std=0.25)
    return network


def loaded(network, name: str = "odd") -> LanguageModel:
    """A network as the tool runs it."""
    return LanguageModel(network, Ids(0, 0), name=name, fingerprint="", dtype=torch.float32)


def judge_of(network, family: str):
    """The same network for plain passes, in float64, with none of the fast kernels."""
    plain = copy.deepcopy(network)
    for module in plain.modules():
        if hasattr(module, "config"):
            module.config._experts_implementation = "eager"
    return plain if family in IN_FLOAT32 else plain.double()


@torch.no_grad()
def plain_logprob(judge, tokens: list[int]) -> np.ndarray:
    """log p of each token but the first, one pass over the whole sequence."""
    ids = torch.tensor([tokens])
    logits = judge(input_ids=ids, use_cache=False).logits[0].double()
    return logits.log_softmax(-1)[:-1].gather(1, ids[0, 1:, None])[:, 0].numpy()


def text_error(model: LanguageModel, judge) -> float:
    """Largest error of a token's log-probability (nats), of texts in one batch and alone."""
    context = min(model.context or CONTEXT, CONTEXT)
    draw = np.random.default_rng(0)
    texts = [draw.integers(3, 60, n).tolist() for n in (3, context - 1, 9, 17, 5)]
    together = model.token_stats(texts)
    errors = []
    for i, text in enumerate(texts):
        expected = plain_logprob(judge, [0, *text])
        for found in (
            together.logprob[together.offsets[i] : together.offsets[i + 1]],
            model.token_stats([text]).logprob,
        ):
            errors.append(np.abs(found - expected).max())
    return float(np.max(errors))


def sample_error(model: LanguageModel, judge, n_new: int) -> float:
    """Largest error of a sampled token's recorded log-probability (nats)."""
    draw = np.random.default_rng(1)
    prompts = [[0, *draw.integers(3, 60, n).tolist()] for n in (0, 4, 11, 2, 0, 7)]
    drawn, _ = generate(
        model,
        prompts,
        list(range(6)),
        seed=0,
        stream="s",
        decoding=Decoding(max_new_tokens=n_new, top_k=None),
        n_slots=3,
    )
    errors = []
    for i, prompt in enumerate(prompts):
        new = drawn.token_ids[i, : drawn.length[i]].tolist()
        expected = plain_logprob(judge, prompt + new)[len(prompt) - 1 :]
        errors.append(np.abs(drawn.logprob[i, : len(new)] - expected).max())
    return float(np.max(errors))
