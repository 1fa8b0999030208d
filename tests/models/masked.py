"""Tiny masked models, made in milliseconds."""

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["the", "cat", "dog", "sat", "ran", "on", "mat", "play", "##ing", "##ed", "un", "##s", "."]


def bert_tokenizer(words=WORDS):
    """A WordPiece tokenizer of these pieces, after the special tokens."""
    vocabulary = {piece: i for i, piece in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=SPECIAL[1]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ("pad", "unk", "cls", "sep", "mask")
    named = {f"{name}_token": token for name, token in zip(names, SPECIAL, strict=True)}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)


def bert(n_vocab, *, context=32, seed=0):
    """A random BERT of two layers whose predictions depend on the context."""
    config = BertConfig(
        vocab_size=n_vocab,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=context,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.4,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BertForMaskedLM(config).eval()


def save_bert(folder, *, words=WORDS, context=32, seed=0):
    """Save a random BERT with its tokenizer; return the folder."""
    tokenizer = bert_tokenizer(words)
    bert(len(tokenizer), context=context, seed=seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
