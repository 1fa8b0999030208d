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

_LAYER = re.compile(r"\.\d+\.")


def check_is_causal(spec: str, config: Any) -> None:
    """Refuse a model that is not a causal language model.

    Parameters
    ----------
    spec : the user's name for the model
    config : transformers config

    Raises
    ------
    ModelError
        For encoder-decoders, masked language models, and models that do not generate text.
    """
    kind = str(getattr(config, "model_type", "") or "unknown")
    made_as = ", ".join(getattr(config, "architectures", None) or []) or kind
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{spec} is an encoder-decoder ({made_as}): it maps one text to another. Causal "
            "language models alone can be audited, such as GPT-2, Llama or Pythia."
        )
    is_masked = "ForMaskedLM" in made_as or (
        kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    )
    if is_masked and not getattr(config, "is_decoder", False):
        raise ModelError(
            f"{spec} is a masked language model ({made_as}): it fills gaps and does not continue "
            "text. Causal language models alone can be audited, such as GPT-2, Llama or Pythia; a "
            "masked model can make the neighbours of texts (--masked-model)."
        )
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(
            f"{spec} is not a language model that continues text ({made_as}). Causal language "
            "models alone can be audited, such as GPT-2, Llama or Pythia."
        )


def quantisation_of(config: Any) -> str | None:
    """Quantisation method of a model's weights; None if they are not quantised."""
    given = getattr(config, "quantization_config", None)
    if given is None:
        return None
    method = given.get("quant_method") if isinstance(given, dict) else given.quant_method
    return str(getattr(method, "value", method) or "a method not named")


def check_all_is_read(spec: str, known: Iterable[str], unused: Iterable[str]) -> str | None:
    """A note about tensors in the weight files that the model does not use.

    Parameters
    ----------
    spec : the user's name for the model
    known : names of the model's tensors
    unused : names of the unused tensors

    Returns
    -------
    A sentence, or None if every tensor is used.

    Raises
    ------
    ModelError
        If whole layers are unused: the weights do not match the config.
    """
    unused = sorted(unused)
    if not unused:
        return None
    layers = {_LAYER.sub(".N.", name) for name in known}
    more = [name for name in unused if _LAYER.search(name) and _LAYER.sub(".N.", name) in layers]
    if more:
        raise ModelError(
            f"{spec}: its weight files hold more layers than its config.json names ({more[0]} and "
            f"{len(more) - 1:,} other tensors). Put the model's own config.json beside them."
        )
    return (
        f"{spec}: {len(unused):,} tensors of its weight files are not used "
        f"({', '.join(unused[:3])}{', ...' if len(unused) > 3 else ''})."
    )
