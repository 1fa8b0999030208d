"""LoRA adapters: small matrices beside a base model's weights, which stay as they are."""

from __future__ import annotations

import contextlib
import hashlib
import json
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from auditor.errors import ModelError, in_short
from auditor.finetuning.leaving import own_randomness

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def is_adapter(path: Path) -> bool:
    """Whether a folder holds an adapter, not a model."""
    return (path / CONFIG).is_file() and not (path / "config.json").is_file()


def with_lora(network, *, rank: int, seed: int):
    """The network with fresh LoRA adapters on every linear layer but the head; only they train.

    Parameters
    ----------
    network : a causal model of transformers, changed in place
    rank : int
        Of each pair of matrices; their product is scaled by 2.
    seed : int
        Decides the random half; the other half is zeros, so at first nothing changes.

    Raises
    ------
    ModelError
        If `peft` is missing, or does not know where to put adapters in such a model.

    Source
    ------
    Hu et al. 2022, "LoRA"; on all linear layers as Dettmers et al. 2023, "QLoRA".
    """
    peft = _peft()
    config = peft.LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    try:
        with own_randomness(seed), _quiet():
            return peft.get_peft_model(network, config)
    except (ValueError, RuntimeError) as error:
        raise ModelError(
            f"LoRA does not fit this model ({in_short(error)}). Leave out --lora."
        ) from None


def load_adapter(network, folder: Path, *, base_fingerprint: str | None = None):
    """The network with a saved adapter on; `adapters_off` gives its base for a while.

    Parameters
    ----------
    network : the base model's network, changed in place: one copy of the weights serves both
    folder : as `save_pretrained` of peft or `auditor finetune --lora` writes it
    base_fingerprint : sha256 of the base, checked where the folder says what it was made for

    Raises
    ------
    ModelError
        If `peft` or the adapter's safetensors are missing, or it was made for another base.
    """
    peft = _peft()
    made_for = tuned_from(folder)
    if base_fingerprint and made_for.get("fingerprint") not in (None, base_fingerprint):
        raise ModelError(
            f"{folder} is an adapter for another base: it was made for {made_for.get('spec')}, "
            "whose weights are not the base's. Give that base."
        )
    if not (folder / WEIGHTS).is_file():
        raise ModelError(
            f"{folder} has no {WEIGHTS}; adapters are read from safetensors alone. Save it again."
        )
    try:
        with own_randomness(None), warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            tuned = peft.PeftModel.from_pretrained(network, str(folder))
    except Exception as error:
        raise ModelError(
            f"{folder} is an adapter for another base, or damaged ({in_short(error)}). "
            f"Give the base that it was made for ({made_for.get('spec') or 'unknown'})."
        ) from None
    if lacking := [w for w in told if "missing adapter keys" in str(w.message)]:
        raise ModelError(
            f"{folder} is an adapter for another base: it has no weights for some of its layers "
            f"({str(lacking[0].message)[:120]}). Give the base that it was made for."
        )
    return tuned.eval()


def tuned_from(folder: Path) -> dict[str, str]:
    """What an adapter or a model was tuned from, as its folder says.

    Returns
    -------
    dict: `spec`, and `fingerprint` where it is known; {} if neither is.
    """
    said = _json(folder / "finetune.json").get("base")
    if not isinstance(said, dict):
        said = {"spec": _json(folder / CONFIG).get("base_model_name_or_path")}
    known = ((name, said.get(name)) for name in ("spec", "fingerprint"))
    return {name: value for name, value in known if isinstance(value, str) and value}


def _json(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def adapter_fingerprint(folder: Path) -> str:
    """sha256 over the sha256 of an adapter's config and weights."""
    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        try:
            digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
        except OSError:
            raise ModelError(f"{folder} has no {name}: save the adapter again.") from None
    return digest.hexdigest()


@contextlib.contextmanager
def adapters_off(network) -> Iterator[None]:
    """The base of a tuned network for a while; of a network without adapters, itself."""
    if hasattr(network, "disable_adapter"):
        with network.disable_adapter():
            yield
    else:
        yield


def merged(network):
    """The network with its adapters added into the weights, and no adapters."""
    with _quiet():
        return network.merge_and_unload()


def _peft():
    if find_spec("peft") is None:
        raise ModelError(
            "LoRA needs peft, not installed here. Install it with: "
            "pip install 'memorization-auditor[finetune]'."
        )
    with _quiet():
        import peft

        return peft


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """peft asks transformers for what it calls deprecated, and sets a layout it then warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
