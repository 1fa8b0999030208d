"""LoRA and other adapters: small weights added to a frozen base model."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors import safe_open

from auditor.errors import ModelError, in_short
from auditor.models.preserve_state import own_randomness
from auditor.models.safety import read_settings

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# Any of these files is a tokenizer; without one, an adapter uses its base's tokenizer.
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
# Vocabulary axis of embedding tensors in an adapter's file.
_COUNTS_ROWS = {"weight": 0, "base_layer.weight": 0, "lora_embedding_A": 1}
_COUNTS_ROWS["token_adapter.base_layer.weight"] = 0
# Duplicates of resized embeddings that peft saves and does not read.
_SPARE = (".original_module.", ".modules_to_save.")
_SUPPORTED = "an adapter must lie in the model's layers, as LoRA, DoRA, IA3, LoHa and LoKr do"
_SAME = 1e-3  # tolerance, nats


def is_adapter(path: Path) -> bool:
    """Whether a folder contains an adapter and no full model."""
    return (path / CONFIG).is_file() and all(
        file.name == WEIGHTS for file in path.glob("*.safetensors")
    )


def has_tokenizer(folder: Path) -> bool:
    """Whether an adapter's folder contains a tokenizer."""
    return any((folder / name).is_file() for name in _TOKENIZERS)


def with_lora(network, *, rank: int, seed: int):
    """Add trainable LoRA adapters to every linear layer but the head; freeze the rest.

    Parameters
    ----------
    network : a causal transformers model, changed in place
    rank : int
        Rank of each pair of matrices; their product is scaled by 2.
    seed : int
        For the random matrix of each pair. The other is zero, so the initial network is unchanged.

    Raises
    ------
    ModelError
        If `peft` is missing or does not support the model.

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
    """Load a saved adapter into a network and verify it against peft's forward pass.

    Embeddings are resized if they were resized in training. If the adapter changes the output
    projection, the change is merged into it in float32.

    Parameters
    ----------
    network : the base model's network, changed in place
    folder : written by `save_pretrained` of peft or by `auditor finetune --lora`
    base_fingerprint : sha256 of the base; compared with the one recorded in the folder, if any

    Raises
    ------
    ModelError
        If `peft` or the safetensors file is missing, the kind of adapter is not supported, it was
        trained for another base, or a part of it would have no effect.
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
    _check_kind(peft, folder)
    try:
        old, new = _resize(network, folder)
        with own_randomness(None), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tuned = peft.PeftModel.from_pretrained(network, str(folder)).eval()
            found = tuned.load_adapter(str(folder), "default")  # again: this returns the key report
    except Exception as error:
        raise ModelError(
            f"{folder} is an adapter for another base, or damaged ({in_short(error)}). "
            f"Give the base that it was made for ({made_for.get('spec') or 'unknown'})."
        ) from None
    beyond = [name for name in found.unexpected_keys if not any(s in name for s in _SPARE)]
    for names, told in (
        (found.missing_keys, "has no weights for some of its layers"),
        (beyond, "has weights for layers that the base has not"),
    ):
        if names:
            raise ModelError(
                f"{folder} is an adapter for another base: it {told} ({names[0][:120]}). Give the "
                "base that it was made for."
            )
    _check_applied(tuned, network, folder)
    _put_whole_head(network, folder)
    _check_rows(network, folder, old, new)
    return tuned


def _check_kind(peft, folder: Path) -> None:
    """Refuse adapters outside the layers: they would have no effect on the audit."""
    try:
        config = peft.PeftConfig.from_pretrained(str(folder))
    except Exception as error:
        raise ModelError(
            f"{folder}: its {CONFIG} cannot be read by the installed peft {peft.__version__} "
            f"({in_short(error)}). Save it again, or update peft."
        ) from None
    kind = str(getattr(config.peft_type, "value", config.peft_type)).lower().replace("_", " ")
    why = ""
    if config.is_prompt_learning:
        why = "whose virtual tokens stand before every text"
    elif kind == "xlora":
        why = "which mixes adapters anew for every text"
    elif getattr(config, "alora_invocation_tokens", None):
        kind, why = "aLoRA", "which acts only after its invocation tokens"
    if why:
        raise ModelError(
            f"{folder}: {_SUPPORTED}; got {kind}, {why} and cannot be merged. Train an adapter of "
            "one of these kinds."
        )


def _resize(network, folder: Path) -> tuple[int, int]:
    """Resize the embeddings to the adapter's size; return the number of rows before and after.

    New rows are NaN until they are loaded from the adapter.
    """
    inner, outer = network.get_input_embeddings(), network.get_output_embeddings()
    names = {name: module for name, module in network.named_modules() if module in (inner, outer)}
    old = inner.weight.shape[0]
    rows = set()
    with safe_open(folder / WEIGHTS, "pt") as file:
        for key in file.keys():  # noqa: SIM118
            for name, module in names.items():
                tail = key.removeprefix(f"base_model.model.{name}.")
                axis = _COUNTS_ROWS.get(tail)
                if axis is None and tail == "lora_B.weight" and module is outer:
                    axis = 0
                if axis is not None:
                    rows.add(file.get_slice(key).get_shape()[axis])
    if len(rows) != 1 or rows == {old}:
        return old, old  # contradictory sizes are reported by the loader
    [new] = rows
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network.resize_token_embeddings(new, mean_resizing=False)
    for module in (network.get_input_embeddings(), network.get_output_embeddings()):
        for values in (getattr(module, "weight", None), getattr(module, "bias", None)):
            if values is not None:
                values.data[old:] = float("nan")
    return old, new


@torch.inference_mode()
def _check_applied(tuned, network, folder: Path) -> None:
    """Require that the layers alone reproduce peft's output, which may do more."""
    rows = network.get_input_embeddings().weight.shape[0]
    ids = torch.arange(min(4, rows), device=network.device)[None]
    try:
        whole, layers = (
            m(input_ids=ids, use_cache=False).logits.float().log_softmax(-1)
            for m in (tuned, network)
        )
        is_same = whole.shape == layers.shape and torch.allclose(
            whole, layers, rtol=0, atol=_SAME, equal_nan=True
        )
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise ModelError(
            f"{folder}: peft cannot run the model with this adapter ({in_short(error)}). Merge it "
            "into its base with peft, and give the merged model."
        ) from None
    if not is_same:
        raise ModelError(
            f"{folder}: {_SUPPORTED}; this one does more, as its layers alone give other numbers. "
            "Merge it into its base with peft, and give the merged model."
        )


class _Projection(torch.nn.Linear):
    """A float32 projection at the end of a network of any dtype."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None):
        super().__init__(1, 1, bias=bias is not None, device="meta")
        self.out_features, self.in_features = weight.shape
        self.weight = torch.nn.Parameter(weight.detach(), requires_grad=False)
        if bias is not None:
            self.bias = torch.nn.Parameter(bias.detach(), requires_grad=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return super().forward(hidden.to(self.weight.dtype))


@torch.no_grad()
def _put_whole_head(network, folder: Path) -> None:
    """Merge the adapter's change of the output projection into plain weights.

    `Head` reads the weights without running the module, so a separate change would be lost.
    """
    outer = network.get_output_embeddings()
    if not (hasattr(outer, "base_layer") or hasattr(outer, "unload_and_optionally_merge_module")):
        return
    try:
        # In float32, because 16 bits would round a small change away.
        apart = copy.deepcopy(outer).float()
        probe = torch.randn(
            (8, network.config.get_text_config().hidden_size),
            generator=torch.Generator().manual_seed(0),
        ).to(network.device)
        expected = apart(probe)
        if hasattr(apart, "unload_and_optionally_merge_module"):
            plain = apart.unload_and_optionally_merge_module(True, False, None)
        else:
            apart.merge()
            plain = apart.get_base_layer()
        whole = _Projection(plain.weight, getattr(plain, "bias", None))
        is_same = torch.allclose(whole(probe), expected, rtol=1e-3, atol=_SAME, equal_nan=True)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise _unmergeable(folder, in_short(error)) from None
    if not is_same:
        raise _unmergeable(folder, "merged it gives other numbers")
    network.set_output_embeddings(whole)


def _unmergeable(folder: Path, why: str) -> ModelError:
    return ModelError(
        f"{folder}: what it changes in the output projection cannot be merged into its weights "
        f"({why}). Leave the projection out of its target_modules, or train it whole with "
        "modules_to_save."
    )


@torch.no_grad()
def _check_rows(network, folder: Path, old: int, new: int) -> None:
    """Require that the file contains every embedding row added before training."""
    added = torch.arange(old, max(old, new), device=network.device)
    outer = network.get_output_embeddings()
    for which, values in (
        ("embeddings", network.get_input_embeddings()(added)),
        ("output projection", getattr(outer, "weight", added)[old:]),
    ):
        if not values.isfinite().all():
            raise ModelError(
                f"{folder} was trained with {new:,} embeddings, its base has {old:,}, and the "
                f"file lacks the new rows of the {which}. Merge it with peft where it was trained, "
                "and give the merged model."
            )


def tuned_from(folder: Path) -> dict[str, str]:
    """The base of an adapter or a fine-tuned model, as recorded in its folder.

    Returns
    -------
    dict with `spec` and `fingerprint`, each only where known.
    """
    said = read_settings(folder / "finetune.json").get("base")
    said = said if isinstance(said, dict) else {}
    # The adapter's config takes precedence: users edit it when the base moves.
    spec = read_settings(folder / CONFIG).get("base_model_name_or_path") or said.get("spec")
    known = (("spec", spec), ("fingerprint", said.get("fingerprint")))
    return {name: value for name, value in known if isinstance(value, str) and value}


def adapter_fingerprint(folder: Path) -> str:
    """sha256 over the sha256 of an adapter's config and weights."""
    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        try:
            digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
        except OSError:
            raise ModelError(f"{folder} has no {name}: save the adapter again.") from None
    return digest.hexdigest()


def merged(network):
    """The network with its adapters merged into the weights."""
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
    """Suppress warnings: peft uses deprecated features of transformers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
