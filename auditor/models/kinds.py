"""The kind of a model by its config, before its weights are read."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from auditor.errors import ModelError
from reports.number_text import count

_LAYER = re.compile(r"\.\d+\.")


KINDS = ("causal", "masked", "encoder-decoder", "served")
_NAMES = {
    "causal": "a causal language model",
    "masked": "a masked language model",
    "encoder-decoder": "an encoder-decoder",
    "served": "a model behind a server",
}
_EXAMPLES = {
    "causal": "GPT-2, Llama or Pythia",
    "masked": "BERT or RoBERTa",
    "encoder-decoder": "T5 or BART",
    "served": "http://localhost:8000/v1",
}


def kind_of(config: Any) -> str | None:
    """One of KINDS by a model's config; None for a model that is not a language model.

    >>> from transformers import BertConfig, GPT2Config, T5Config
    >>> kind_of(GPT2Config()), kind_of(BertConfig()), kind_of(T5Config())
    ('causal', 'masked', 'encoder-decoder')
    """
    name = str(getattr(config, "model_type", "") or "")
    architectures = " ".join(getattr(config, "architectures", None) or [])
    if getattr(config, "is_encoder_decoder", False):
        return "encoder-decoder" if name in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES else None
    is_causal = name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    # Many masked families also have a causal form, with a class of its own.
    has_causal_class = is_causal and re.search("LMHead|ForCausalLM", architectures)
    is_masked = "ForMaskedLM" in architectures or (
        name in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not has_causal_class
    )
    if is_masked and not getattr(config, "is_decoder", False):
        return "masked"
    return "causal" if is_causal else None


def named(kind: str) -> str:
    """A kind in words, with its article.

    >>> named("encoder-decoder")
    'an encoder-decoder'
    """
    return _NAMES[kind]


def check_architecture(spec: str, config: Any, kinds: Collection[str]) -> str:
    """The kind of a model by its config; ModelError if it is not one of `kinds`."""
    kind = kind_of(config)
    if kind is None or kind not in kinds:
        family = str(getattr(config, "model_type", "") or "unknown")
        architecture = ", ".join(getattr(config, "architectures", None) or []) or family
        raise ModelError(_refusal(spec, kind, architecture, kinds))
    return kind


def check_kind(model: Any, kinds: Collection[str]) -> None:
    """Raise ModelError if a loaded model is not of one of `kinds`."""
    refuse_kind(model.name, model.kind, kinds)


def refuse_kind(name: str, kind: str, kinds: Collection[str]) -> None:
    """Raise ModelError if a model's kind is not one of `kinds`."""
    if kind not in kinds:
        raise ModelError(_refusal(name, kind, "", kinds))


def check_comparable(target: Any, references: Mapping[str, Any]) -> None:
    """Raise ModelError unless every reference is of the target's kind: else its numbers differ.

    The pseudo-log-likelihood of a masked model, for example, is no likelihood. A served model
    continues text as a causal one does.
    """
    alike = ("causal", "served")
    for name, model in references.items():
        if model.kind != target.kind and not {model.kind, target.kind} <= set(alike):
            raise ModelError(
                f"Reference {name} ({model.name}) must be {_NAMES[target.kind]}, as {target.name} "
                f"is; got {_NAMES[model.kind]}. Use another reference, or leave it out."
            )


def _refusal(spec: str, kind: str | None, architecture: str, kinds: Collection[str]) -> str:
    what = _NAMES.get(kind or "", "not a language model")
    named = f" ({architecture})" if architecture else ""
    allowed = [k for k in KINDS if k in kinds]
    taken = " or ".join(_NAMES[k] for k in allowed)
    remedy = f" Use a model such as {' or '.join(_EXAMPLES[k] for k in allowed)}."
    if kind == "masked" and "masked" not in kinds:
        remedy += " --masked-model takes a masked model, to create neighbours of texts."
    return f"{spec} is {what}{named}; here it must be {taken}.{remedy}"


def quantisation_of(config: Any) -> str | None:
    """Quantisation method of a model's weights; None if they are not quantised."""
    given = getattr(config, "quantization_config", None)
    if given is None:
        return None
    method = given.get("quant_method") if isinstance(given, dict) else given.quant_method
    return str(getattr(method, "value", method) or "an unknown method")


def check_unused(spec: str, known: Iterable[str], unused: Iterable[str]) -> str | None:
    """A note about unused tensors in the weight files, or None; `known` are the model's tensors.

    Raises ModelError if whole layers are unused: the weights do not match the config.
    """
    unused = sorted(unused)
    if not unused:
        return None
    layers = {_LAYER.sub(".N.", name) for name in known}
    more = [name for name in unused if _LAYER.search(name) and _LAYER.sub(".N.", name) in layers]
    if more:
        raise ModelError(
            f"{spec}: its weight files contain more layers than its config.json ({more[0]} and "
            f"{count(len(more) - 1, 'other tensor')}). Restore the config.json of these weights."
        )
    return (
        f"{spec}: the model does not use {count(len(unused), 'tensor')} of its weight files "
        f"({', '.join(unused[:3])}{', ...' if len(unused) > 3 else ''})."
    )
