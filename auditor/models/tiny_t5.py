"""Build small untrained T5 models with a byte-level BPE tokenizer."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from auditor.models.library_calls import quiet

PAD, END = "<pad>", "</s>"
SENTINELS = 100  # as in T5


def build_t5_tokenizer(
    texts: Iterable[str], n_vocab: int, *, n_sentinels: int = SENTINELS
) -> PreTrainedTokenizerFast:
    """A byte-level BPE of `n_vocab` tokens, among them padding, EOS and sentinels.

    As in T5, EOS is added after a text, and the sentinels are <extra_id_0>, <extra_id_1>, ... T5's
    own tokenizer drops line breaks; this one keeps every character.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    sentinels = [f"<extra_id_{i}>" for i in range(n_sentinels)]
    trainer = trainers.BpeTrainer(
        vocab_size=n_vocab,
        special_tokens=[PAD, END, *sentinels],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    end = (END, tokenizer.token_to_id(END))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[end]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, extra_special_tokens=sentinels
    )


def build_t5(
    *, n_vocab: int, n_layer: int, width: int, n_head: int, context: int, seed: int
) -> T5ForConditionalGeneration:
    """A T5 with random weights determined by `seed`; global random state is unchanged.

    Encoder and decoder have `n_layer` layers each. `context` is written to the config; positions
    are relative.
    """
    config = T5Config(
        vocab_size=n_vocab,
        d_model=width,
        d_kv=width // n_head,
        d_ff=4 * width,
        num_layers=n_layer,
        num_heads=n_head,
        dropout_rate=0.0,
        feed_forward_proj="gelu",
        pad_token_id=0,
        eos_token_id=1,
    )
    config.update({"decoder_start_token_id": 0, "n_positions": context})
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        return T5ForConditionalGeneration(config)
