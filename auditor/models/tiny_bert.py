"""Build small untrained masked models: the tokenizer of `tiny_gpt2` and a BERT of any size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from auditor.models.library_calls import quiet
from auditor.models.tiny_gpt2 import build_tokenizer

_SPECIAL: dict[str, Any] = {
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
    "pad_token": "[PAD]",
}


def build_masked_tokenizer(texts: Iterable[str], n_vocab: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of `n_vocab` tokens, four of them special; CLS is BOS and SEP is EOS."""
    learned = build_tokenizer(texts, n_vocab - len(_SPECIAL))
    ends = {"bos_token": _SPECIAL["cls_token"], "eos_token": _SPECIAL["sep_token"]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=learned.backend_tokenizer, **ends)
    tokenizer.add_special_tokens(dict(_SPECIAL))
    return tokenizer


def build_bert(
    *, n_vocab: int, n_layer: int, width: int, n_head: int, context: int, pad_id: int, seed: int
) -> BertForMaskedLM:
    """A BERT with random weights determined by `seed`; global random state is unchanged."""
    config = BertConfig(
        vocab_size=n_vocab,
        hidden_size=width,
        num_hidden_layers=n_layer,
        num_attention_heads=n_head,
        intermediate_size=4 * width,
        max_position_embeddings=context,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=pad_id,
    )
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        return BertForMaskedLM(config)
