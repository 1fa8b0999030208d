"""Check the kind of a model from its config, before its weights are read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from auditor.errors import ModelError
from reports.number_text import count

_LAYER = re.compile(r"\.\d+\.")


def check_is_causal(spec: str, config: Any) -> None:
    """Raise ModelError for encoder-decoders, masked language models, and models of other data."""
    kind = str(getattr(config, "model_type", "") or "unknown")
    architecture = ", ".join(getattr(config, "architectures", None) or []) or kind
    is_causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    is_masked = "ForMaskedLM" in architecture or (
        kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not is_causal
    )
    for applies, what, remedy in (
        (getattr(config, "is_encoder_decoder", False), "an encoder-decoder", ""),
        (
            is_masked and not getattr(config, "is_decoder", False),
            "a masked language model",
            " A masked model can only create neighbours of texts (--masked-model).",
        ),
        (not is_causal, "not a language model", ""),
    ):
        if applies:
            raise ModelError(
                f"{spec} is {what} ({architecture}), and only causal language models can be "
                f"audited. Use a model such as GPT-2, Llama or Pythia.{remedy}"
            )


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
