"""Build small untrained models: a byte-level BPE tokenizer and a GPT-2 of any size."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from auditor.models.library_calls import quiet, silence_logs

END_OF_TEXT = "<|endoftext|>"


def build_tokenizer(texts: Iterable[str], n_vocab: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of `n_vocab` tokens; its only special token is both BOS and EOS."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=n_vocab,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT
    )


def build_gpt2(
    *, n_vocab: int, n_layer: int, width: int, n_head: int, context: int, seed: int
) -> GPT2LMHeadModel:
    """A GPT-2 with random weights determined by `seed`; global random state is unchanged."""
    config = GPT2Config(
        vocab_size=n_vocab,
        n_positions=context,
        n_embd=width,
        n_layer=n_layer,
        n_head=n_head,
        bos_token_id=0,
        eos_token_id=0,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        # Same function as GPT-2's gelu_new, in one kernel instead of eight.
        activation_function="gelu_pytorch_tanh",
    )
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config)


def save_model(network, tokenizer, folder: Path) -> None:
    """Save a transformers model folder with safetensors weights."""
    silence_logs()
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
