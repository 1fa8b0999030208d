"""Checks of a model's config and tokenizer files, and the error for unreadable ones."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from auditor.errors import ModelError
from auditor.models.safety import read_settings

# Larger than any vocabulary; bounds the in-memory table of all ids.
_MOST_TOKENS = 10_000_000


def check_tokenizer(spec: str, tokenizer) -> None:
    """Refuse a tokenizer without ordinary tokens or with absurdly large ids."""
    # If its files are missing, transformers builds a tokenizer of special tokens only.
    if len(tokenizer.get_vocab()) <= len(tokenizer.all_special_ids):
        raise ModelError(
            f"{spec} has no tokenizer files. Put them beside config.json: tokenizer.json, or "
            "vocab.json and merges.txt, or tokenizer.model."
        )
    if (last := max(tokenizer.get_vocab().values())) >= _MOST_TOKENS:
        raise ModelError(
            f"{spec}: token ids must be below {_MOST_TOKENS:,}; its tokenizer has {last:,}. The "
            "tokenizer files may be damaged: download or save the model again."
        )


def undescribed(spec: str, folder: Path, why: str) -> str:
    """The error message for an unreadable config or tokenizer."""
    pieces = sorted(file.name for file in folder.glob("*.model"))
    missing = [name for name in ("sentencepiece", "google.protobuf") if not _is_installed(name)]
    if pieces and missing and not (folder / "tokenizer.json").exists():
        return (
            f"{spec}: its tokenizer ({pieces[0]}) needs the packages sentencepiece and protobuf, "
            "which are not installed. Install them with: "
            "pip install '.[sentencepiece]' in a checkout."
        )
    kind = read_settings(folder / "config.json").get("model_type")
    if isinstance(kind, str) and kind not in CONFIG_MAPPING_NAMES:
        return (
            f"{spec} has an architecture ({kind[:80]}) that the installed transformers "
            f"({transformers.__version__}) does not support. Update transformers, or use another "
            "model."
        )
    return (
        f"{spec}: its config or tokenizer cannot be read ({why}). A model folder needs "
        "config.json, tokenizer files and *.safetensors, and must not need its own code."
    )


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False
