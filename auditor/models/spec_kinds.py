"""The kind of a model by its spec, before its weights are read."""

from __future__ import annotations

from auditor.models.adapters import is_adapter
from auditor.models.kinds import kind_of
from auditor.models.loading import describe_model, resolve


def kind_of_spec(spec: str) -> str | None:
    """One of KINDS, or None for a model that is not a language model; an adapter is causal.

    Raises
    ------
    ModelError
        If the model's config or tokenizer cannot be read.
    """
    path = resolve(spec)
    return "causal" if is_adapter(path) else kind_of(describe_model(spec, path)[0])
