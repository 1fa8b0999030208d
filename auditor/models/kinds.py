"""What kind of model a folder holds, told from its config before any weight is read."""

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
    """Refuse a model that does not continue text from left to right, by its kind.

    Parameters
    ----------
    spec : what the user called it
    config : as transformers reads it

    Raises
    ------
    ModelError
        For encoder-decoders, masked models, and models of no text.
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
    """The method that a model's weights were quantised by; None for plain weights."""
    given = getattr(config, "quantization_config", None)
    if given is None:
        return None
    method = given.get("quant_method") if isinstance(given, dict) else given.quant_method
    return str(getattr(method, "value", method) or "a method not named")


def check_all_is_read(spec: str, known: Iterable[str], unused: Iterable[str]) -> str | None:
    """What to say of tensors in the weight files that the model does not use.

    Parameters
    ----------
    spec : what the user called it
    known : names of the model's tensors
    unused : names of the tensors that were left over

    Returns
    -------
    A sentence, or None where nothing is left over.

    Raises
    ------
    ModelError
        If what is left over are whole layers: another model than the config says.
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
