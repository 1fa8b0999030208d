"""Models for the benchmarks: random weights in the shapes of known models, and their tokenizers."""

from __future__ import annotations

import copy
import sysconfig
import warnings
from pathlib import Path

# GPT-2 small and XL, one of 2.2 million parameters (an earlier testbed's), and one made in no time.
GEOMETRIES: dict[str, dict[str, int]] = {
    "gpt2": {"n_vocab": 50257, "n_layer": 12, "width": 768, "n_head": 12, "context": 1024},
    "gpt2-xl": {"n_vocab": 50257, "n_layer": 48, "width": 1600, "n_head": 25, "context": 1024},
    "testbed": {"n_vocab": 2048, "n_layer": 4, "width": 192, "n_head": 6, "context": 288},
    "small": {"n_vocab": 5000, "n_layer": 2, "width": 64, "n_head": 2, "context": 320},
}


def made_network(name: str, seed: int = 0):
    """A Hugging Face GPT-2 with random weights, as transformers itself sets it up."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = GEOMETRIES[name]
    config = GPT2Config(
        vocab_size=shape["n_vocab"],
        n_positions=shape["context"],
        n_embd=shape["width"],
        n_layer=shape["n_layer"],
        n_head=shape["n_head"],
        bos_token_id=0,
        eos_token_id=0,
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config).to(device=device, dtype=number_format(name)).eval()


def number_format(name: str):
    """What `load_model` takes for a model of that size on this machine."""
    import torch

    from auditor.models.device import native_bfloat16

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    large = name.startswith("gpt2")
    return torch.bfloat16 if large and native_bfloat16(device) else torch.float32


def as_model(network, tokenizer):
    """A copy of the network as a LanguageModel, ready as `load_model` makes it."""
    from auditor.models.language_model import LanguageModel
    from auditor.models.tokenizer import Vocabulary

    dtype = next(network.parameters()).dtype
    return LanguageModel(
        copy.deepcopy(network), Vocabulary(tokenizer), name="random", fingerprint="", dtype=dtype
    ).pack()


def made_tokenizer(n_vocab: int):
    """A byte-level BPE of that many tokens from no text: all bytes, and pairs of them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from auditor.models.tiny_gpt2 import END_OF_TEXT

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [(a, b) for a in alphabet for b in alphabet][: n_vocab - len(alphabet) - 1]
    pieces = [END_OF_TEXT, *alphabet, *(a + b for a, b in merges)]
    tokenizer = Tokenizer(models.BPE({p: i for i, p in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT
    )


def learnt_tokenizer(n_vocab: int):
    """A byte-level BPE of that many tokens, learnt from the standard library's sources.

    Like those of known models it has words with and without capitals, so that lower-cased text
    takes somewhat more tokens than the text, and not twice as many as with pairs of bytes.
    """
    from auditor.models.tiny_gpt2 import build_tokenizer

    root = Path(sysconfig.get_path("stdlib"))
    files = sorted(p for p in root.rglob("*.py") if "site-packages" not in p.parts)
    return build_tokenizer((p.read_text(errors="replace") for p in files), n_vocab)
