"""Tiny random T5 and BART models, and their log-probabilities by a plain forward pass."""

from functools import cache
from pathlib import Path

import torch
from tokenizers import processors
from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast

from auditor.models.tiny_gpt2 import save_model
from auditor.models.tiny_t5 import build_t5, build_t5_tokenizer
from tests.tiny import WORDS

N_VOCAB = 400
_SPECIAL = {"pad": "<pad>", "bos": "<s>", "eos": "</s>", "mask": "<mask>"}


@cache
def t5_tokenizer(n_sentinels=100):
    return build_t5_tokenizer([WORDS] * 4, N_VOCAB, n_sentinels=n_sentinels)


def sharpened(network, seed: int):
    """Random weights large enough that probabilities are far from uniform."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1:
                weight.copy_(0.4 * torch.randn(weight.shape, generator=generator))
    return network


def save_tiny_t5(folder: Path, *, seed: int = 0, n_sentinels: int = 100) -> Path:
    network = build_t5(n_vocab=N_VOCAB, n_layer=1, width=16, n_head=2, context=64, seed=seed)
    save_model(sharpened(network, seed), t5_tokenizer(n_sentinels), folder)
    return folder


def save_tiny_bart(folder: Path, *, seed: int = 0) -> Path:
    """A BART of one layer; its tokenizer adds <s> and </s>, and has a mask token."""
    base = build_t5_tokenizer([WORDS] * 4, 300, n_sentinels=0)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=base.backend_tokenizer,
        **{f"{name}_token": token for name, token in _SPECIAL.items()},
    )
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        special_tokens=[(t, tokenizer.convert_tokens_to_ids(t)) for t in ("<s>", "</s>")],
    )
    config = BartConfig(
        vocab_size=len(tokenizer), d_model=16, max_position_embeddings=64,
        encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, decoder_start_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=None,
    )  # fmt: skip
    network = BartForConditionalGeneration(config)
    save_model(sharpened(network, seed), tokenizer, folder)
    return folder


@torch.inference_mode()
def plain_logprobs(network, source: list[int], decoder: list[int]) -> torch.Tensor:
    """Log-probabilities of the token after each decoder position, float64 (time, vocab)."""
    double = network.double()
    logits = double(
        input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([decoder])
    ).logits[0]
    return logits.log_softmax(-1)
