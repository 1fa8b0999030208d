"""Safety checks of a model folder before it is loaded.

Pickles and `auto_map` could run code, so both are refused. Weight files must lie inside the folder.
The sizes in config.json must match the weight files, so that a corrupt config cannot allocate more
memory than the weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from auditor.errors import ModelError, in_short

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_INDEX = "model.safetensors.index.json"
# A safetensors header: its length in 8 bytes, then JSON of at most this many bytes.
_LENGTH_BYTES, _HEADER_BYTES = 8, 100_000_000
# 16-bit dtypes by their safetensors names.
_FORMATS = {"BF16": torch.bfloat16, "F16": torch.float16}
# Config keys of the number of layers, which are allocated before the weights are read.
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")


def check_folder(spec: str, path: Path) -> None:
    """Raise ModelError for a folder that is not a model or is not safe to load."""
    has_config = (path / "config.json").is_file()
    config = _read_json(spec, path / "config.json") if has_config else {}
    gguf = sorted(path.glob("*.gguf"))
    pickles = sorted(f.name for kind in _PICKLES for f in path.glob(kind))
    only = f", only pickles ({', '.join(pickles[:3])}), which are never read" if pickles else ""
    refusals = {
        f"contains GGUF files but no config.json. Give the file: {gguf[0] if gguf else path}.": (
            not has_config and gguf
        ),
        "has no config.json, so it is not a model folder. Give a folder saved with "
        "save_pretrained.": not has_config,
        "needs its own code (auto_map in config.json), and a model's code is never run. Use a "
        "model whose architecture is part of transformers.": (
            isinstance(config, dict) and config.get("auto_map")
        ),
        # transformers would load the base that this file names.
        "contains both a model and an adapter (adapter_config.json). Move the adapter's files "
        "into another folder.": (path / "adapter_config.json").is_file(),
        f"has no weights in safetensors{only}. Save it again with save_pretrained, or give a "
        "GGUF file.": not list(path.glob("*.safetensors")),
    }
    for sentence, applies in refusals.items():
        if applies:
            raise ModelError(f"{spec} {sentence}")
    if (path / _INDEX).exists() and not (path / "model.safetensors").exists():
        _check_index(spec, _read_json(spec, path / _INDEX))


def check_sizes(spec: str, path: Path, config: Any) -> None:
    """Raise ModelError for a config whose sizes exceed those of the weight files."""
    shapes = [shape for _, shape in _tensors(path)]
    if not shapes:
        return  # corrupt files are reported by the loader
    text = config.get_text_config()
    most = max(map(math.prod, shapes))
    limits = {name: len(shapes) for name in _LAYERS}
    limits |= dict.fromkeys(("vocab_size", "hidden_size", "n_embd", "intermediate_size"), most)
    for name, limit in limits.items():
        value = getattr(text, name, None)
        if isinstance(value, int) and value > limit:
            raise ModelError(
                f"{spec}: {name} in config.json must be at most {limit:,} to match the weight "
                f"files; got {value:,}. Download or save the model again."
            )


def read_settings(file: Path) -> dict[str, Any]:
    """The object in a JSON file; {} if it is missing or unreadable."""
    try:
        read = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def _read_json(spec: str, file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{spec}: {file.name} cannot be read as JSON ({in_short(error)}). Download or save the "
            "model again."
        ) from None


def _check_index(spec: str, index: Any) -> None:
    """Require that the index names only safetensors files in the folder itself."""
    named = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(named, dict) or not named:
        raise ModelError(f"{spec}: {_INDEX} has no weight_map. Download or save the model again.")
    for name in named.values():
        plain = isinstance(name, str) and Path(name).name == name and "\0" not in name
        if not plain or not name.endswith(".safetensors"):
            raise ModelError(
                f"{spec}: {_INDEX} must list only *.safetensors files in the same folder; got "
                f"{str(name)[:80]!r}. Download or save the model again."
            )


@dataclass(frozen=True)
class StoredWeights:
    """Number and dtype of the weights in a model's files."""

    n_numbers: int
    dtype: torch.dtype

    def n_bytes(self, dtype: torch.dtype) -> int:
        """Memory of all weights in a dtype."""
        return self.n_numbers * torch.finfo(dtype).bits // 8

    def fits(self, dtype: torch.dtype, free: int) -> bool:
        """Whether the weights fit into 90 % of `free` bytes."""
        return self.n_bytes(dtype) <= 0.9 * free


def stored_weights(path: Path) -> StoredWeights | None:
    """Size and dtype of a folder's safetensors (float32 if mixed); None for other files."""
    tensors = list(_tensors(path)) if path.is_dir() else []
    if not tensors:
        return None
    kinds = {_FORMATS.get(kind, torch.float32) for kind, _ in tensors}
    dtype = kinds.pop() if len(kinds) == 1 else torch.float32
    return StoredWeights(sum(math.prod(shape) for _, shape in tensors), dtype)


def _tensors(path: Path) -> Iterator[tuple[str, list[int]]]:
    """Dtype and shape of every tensor in a folder's weight files, from their headers."""
    for file in sorted(path.glob("*.safetensors")):
        try:
            with file.open("rb") as stream:
                length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
                header = json.loads(stream.read(length) if length <= _HEADER_BYTES else b"")
            for name, tensor in header.items():
                if name != "__metadata__":
                    yield str(tensor["dtype"]), [int(size) for size in tensor["shape"]]
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return
