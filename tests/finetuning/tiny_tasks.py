"""Tiny models for tasks, and copies of GLUE in the hub's layout with known answers."""

import random

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
)

from auditor.models.tiny_gpt2 import build_gpt2, build_tokenizer, save_model

THINGS = [f"{a}{b}" for a in ("bo", "ki", "lu", "ma", "ne", "po") for b in ("dra", "fen", "gol")]
VOCABULARY = [*"good bad sentence question : label sst2 qnli negative positive".split(), *THINGS]


def sentence(rng, *, opinion=None):
    """Six random words, with an opinion among them."""
    words = [rng.choice(THINGS) for _ in range(6)]
    if opinion:
        words[rng.randrange(6)] = opinion
    return " ".join(words)


def sst2(n, seed):
    """Rows whose label follows from a word."""
    rng = random.Random(seed)
    labels = [i % 2 for i in range(n)]
    texts = [sentence(rng, opinion=("bad", "good")[label]) for label in labels]
    return {"sentence": texts, "label": labels, "idx": list(range(n))}


def qnli(n, seed):
    """Rows whose label is random: it can only be memorized."""
    rng = random.Random(seed)
    columns = {name: [sentence(rng) for _ in range(n)] for name in ("question", "sentence")}
    return {**columns, "label": [rng.randrange(2) for _ in range(n)], "idx": list(range(n))}


def save_copy(folder, configs):
    """A repository of parquet files: {config: {split: {column: values}}}."""
    lines = ["---", "configs:"]
    for config, splits in configs.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        (folder / config).mkdir(parents=True, exist_ok=True)
        for split, columns in splits.items():
            path = f"{config}/{split}-00000-of-00001.parquet"
            pq.write_table(pa.table(columns), folder / path)
            lines += [f"  - split: {split}", f"    path: {path}"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    return folder


def save_glue(folder, n_train=90, n_validation=40):
    """Copies of sst2 (learnable) and qnli (random labels)."""
    return save_copy(
        folder,
        {
            name: {"train": make(n_train, 1), "validation": make(n_validation, 2)}
            for name, make in (("sst2", sst2), ("qnli", qnli))
        },
    )


def _words(*, pair, single, special, **names):
    table = {word: i for i, word in enumerate([*special, *VOCABULARY])}
    tokenizer = Tokenizer(models.WordLevel(table, unk_token=names["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ids = [(token, table[token]) for token in special]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=ids
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def save_bert(folder, *, roberta=False, seed=0):
    """A random BERT (or RoBERTa) of one layer that knows VOCABULARY."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = _words(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1", special=special,
        pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_input_names=["input_ids", "attention_mask"]
        + ([] if roberta else ["token_type_ids"]),
    )  # fmt: skip
    sizes = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 34,
        "initializer_range": 0.2, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "pad_token_id": 0,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = (
            RobertaForMaskedLM(RobertaConfig(**sizes))
            if roberta
            else BertForMaskedLM(BertConfig(**sizes))
        )
    save_model(network, tokenizer, folder)
    return folder


def save_t5(folder, *, seed=0):
    """A random T5 of one layer that knows VOCABULARY."""
    special = ["<pad>", "</s>", "<unk>"]
    tokenizer = _words(
        single="$A </s>", pair="$A </s> $B </s>", special=special, pad_token="<pad>",
        eos_token="</s>", unk_token="<unk>",
    )  # fmt: skip
    config = T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2,
        dropout_rate=0.0, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = T5ForConditionalGeneration(config)
    save_model(network, tokenizer, folder)
    return folder


def save_gpt2(folder, *, seed=0):
    """A random GPT-2 of one layer with a byte-level vocabulary and a context of 128."""
    network = build_gpt2(n_vocab=330, n_layer=1, width=32, n_head=2, context=128, seed=seed)
    save_model(network, build_tokenizer([" ".join(VOCABULARY)] * 4, 330), folder)
    return folder
