"""LoRA and other adapters: small weights added to a frozen base model."""

from __future__ import annotations

import copy
import hashlib
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors import safe_open

from auditor.errors import ModelError
from auditor.models.library_calls import failing_with, quiet
from auditor.models.preserve_state import isolated_rng
from auditor.models.safety import read_settings

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# Any of these files is a tokenizer; without one, an adapter uses its base's tokenizer.
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
# Vocabulary axis of embedding tensors in an adapter's file.
_VOCABULARY_AXIS = {"weight": 0, "base_layer.weight": 0, "lora_embedding_A": 1}
_VOCABULARY_AXIS["token_adapter.base_layer.weight"] = 0
# Duplicates of resized embeddings that peft saves and does not read.
_DUPLICATES = (".original_module.", ".modules_to_save.")
_SUPPORTED = "only adapters inside the model's layers are supported (LoRA, DoRA, IA3, LoHa, LoKr)"
_TOLERANCE = 1e-3  # nats


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
    with (
        isolated_rng(seed),
        quiet(),
        failing_with(lambda why: f"LoRA does not support this model ({why}). Leave out --lora."),
    ):
        return peft.get_peft_model(network, config)


def load_adapter(network, folder: Path, *, base_fingerprint: str | None = None):
    """Load a saved adapter into a network and verify it against peft's forward pass.

    The network is changed in place. Embeddings are resized if they were resized in training. If
    the adapter changes the output projection, the change is merged into it in float32.

    Raises ModelError if `peft` or the safetensors file is missing, the kind of adapter is not
    supported, it was trained for another base, or a part of it would have no effect.
    """
    peft = _peft()
    made_for = tuned_from(folder)
    if base_fingerprint and made_for.get("fingerprint") not in (None, base_fingerprint):
        raise ModelError(
            f"{folder} was trained for another base: {made_for.get('spec')}, whose weights differ "
            "from the given base's. Give the base that it was trained for."
        )
    if not (folder / WEIGHTS).is_file():
        raise ModelError(
            f"{folder} has no {WEIGHTS}, and adapters are read only from safetensors. Save the "
            "adapter again with save_pretrained."
        )
    _check_kind(peft, folder)
    with failing_with(
        lambda why: (
            f"{folder} was trained for another base, or is damaged ({why}). Give the base that it "
            f"was trained for ({made_for.get('spec') or 'not recorded'})."
        )
    ):
        old, new = _resize(network, folder)
        with isolated_rng(None), quiet():
            tuned = peft.PeftModel.from_pretrained(network, str(folder)).eval()
            found = tuned.load_adapter(str(folder), "default")  # again: this returns the key report
    extra = [name for name in found.unexpected_keys if not any(s in name for s in _DUPLICATES)]
    for names, fault in (
        (found.missing_keys, "has no weights for some of the base's layers"),
        (extra, "has weights for layers that the base does not have"),
    ):
        if names:
            raise ModelError(
                f"{folder} was trained for another base: it {fault} ({names[0][:120]}). Give the "
                "base that it was trained for."
            )
    _check_applied(tuned, network, folder)
    _merge_projection(network, folder)
    _check_rows(network, folder, old, new)
    return tuned


def _check_kind(peft, folder: Path) -> None:
    """Refuse adapters outside the layers: they would have no effect on the audit."""
    with failing_with(
        lambda why: (
            f"{folder / CONFIG} cannot be read by the installed peft {peft.__version__} ({why}). "
            "Save the adapter again, or update peft."
        )
    ):
        config = peft.PeftConfig.from_pretrained(str(folder))
    kind = str(getattr(config.peft_type, "value", config.peft_type)).lower().replace("_", " ")
    for applies, name, why in (
        (config.is_prompt_learning, kind, "which puts virtual tokens before every text"),
        (kind == "xlora", kind, "which mixes adapters differently for every text"),
        (
            getattr(config, "alora_invocation_tokens", None),
            "aLoRA",
            "which acts only after its invocation tokens",
        ),
    ):
        if applies:
            raise ModelError(
                f"{folder}: {_SUPPORTED}; got {name}, {why}. Train an adapter of a supported kind."
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
                axis = _VOCABULARY_AXIS.get(tail)
                if axis is None and tail == "lora_B.weight" and module is outer:
                    axis = 0
                if axis is not None:
                    rows.add(file.get_slice(key).get_shape()[axis])
    if len(rows) != 1 or rows == {old}:
        return old, old  # contradictory sizes are reported by the loader
    [new] = rows
    with quiet():
        network.resize_token_embeddings(new, mean_resizing=False)
    for module in (network.get_input_embeddings(), network.get_output_embeddings()):
        for values in (getattr(module, "weight", None), getattr(module, "bias", None)):
            if values is not None:
                values.data[old:] = float("nan")
    return old, new


@torch.inference_mode()
def _check_applied(tuned, network, folder: Path) -> None:
    """Require that the layers alone reproduce the output of peft's wrapper."""
    remedy = "Merge it into its base with peft, and give the merged model."
    rows = network.get_input_embeddings().weight.shape[0]
    ids = torch.arange(min(4, rows), device=network.device)[None]
    with failing_with(
        lambda why: f"{folder}: peft cannot run the model with this adapter ({why}). {remedy}"
    ):
        wrapped, layers = (
            m(input_ids=ids, use_cache=False).logits.float().log_softmax(-1)
            for m in (tuned, network)
        )
        is_same = wrapped.shape == layers.shape and torch.allclose(
            wrapped, layers, rtol=0, atol=_TOLERANCE, equal_nan=True
        )
    if not is_same:
        raise ModelError(
            f"{folder}: {_SUPPORTED}; this adapter also acts outside them, because the layers "
            f"alone give different results. {remedy}"
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
def _merge_projection(network, folder: Path) -> None:
    """Merge the adapter's change of the output projection into plain weights.

    `Head` reads the weights without running the module, so a separate change would be lost.
    """
    outer = network.get_output_embeddings()
    if not (hasattr(outer, "base_layer") or hasattr(outer, "unload_and_optionally_merge_module")):
        return

    def sentence(why: str) -> str:
        return (
            f"{folder}: its change of the output projection cannot be merged into the weights "
            f"({why}). Train without the projection in target_modules, or with the projection in "
            "modules_to_save."
        )

    with failing_with(sentence):
        # In float32, because 16 bits would round a small change away.
        wide = copy.deepcopy(outer).float()
        probe = torch.randn(
            (8, network.config.get_text_config().hidden_size),
            generator=torch.Generator().manual_seed(0),
        ).to(network.device)
        expected = wide(probe)
        if hasattr(wide, "unload_and_optionally_merge_module"):
            plain = wide.unload_and_optionally_merge_module(True, False, None)
        else:
            wide.merge()
            plain = wide.get_base_layer()
        plain_linear = _Projection(plain.weight, getattr(plain, "bias", None))
        found = plain_linear(probe)
    if not torch.allclose(found, expected, rtol=1e-3, atol=_TOLERANCE, equal_nan=True):
        raise ModelError(sentence("the merged weights give different results"))
    network.set_output_embeddings(plain_linear)


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
                f"{folder} was trained with {new:,} embeddings, its base has {old:,}, and its "
                f"weight file lacks the new rows of the {which}. Merge it with peft where it was "
                "trained, and give the merged model."
            )


def tuned_from(folder: Path) -> dict[str, str]:
    """`spec` and `fingerprint` of a tuned model's base, where recorded in its folder."""
    recorded = read_settings(folder / "finetune.json").get("base")
    recorded = recorded if isinstance(recorded, dict) else {}
    # The adapter's config takes precedence: users edit it when the base moves.
    spec = read_settings(folder / CONFIG).get("base_model_name_or_path") or recorded.get("spec")
    known = (("spec", spec), ("fingerprint", recorded.get("fingerprint")))
    return {name: value for name, value in known if isinstance(value, str) and value}


def adapter_fingerprint(folder: Path) -> str:
    """sha256 over the sha256 of an adapter's config and weights."""
    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        try:
            digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
        except OSError:
            raise ModelError(f"{folder} has no readable {name}. Save the adapter again.") from None
    return digest.hexdigest()


def merged(network):
    """The network with its adapters merged into the weights."""
    with quiet():
        return network.merge_and_unload()


def _peft():
    if find_spec("peft") is None:
        raise ModelError(
            "LoRA adapters need the package peft, which is not installed. Install it with: "
            "pip install '.[finetune]' in a checkout."
        )
    with quiet():
        import peft

        return peft
