"""What a loaded model is, and which of the fast paths it takes."""

from __future__ import annotations

from auditor.models.interfaces import KnownModel
from reports.number_text import count

# Key of `slow_because` -> its subject, the fast path and the plain one.
_PATHS = {
    "head": ("logits", "fast: projected outside the network", "plain: by the network itself"),
    "steps": ("sampling", "fast: with a key-value cache", "plain: each step reads the whole text"),
}


def describe(model: KnownModel) -> list[tuple[str, str]]:
    """What a model is, the path that it takes and why: (subject, text) in reading order."""
    vocabulary = model.vocabulary
    size = f"{model.n_parameters:,} parameters, " if model.n_parameters else ""
    dtype = str(model.dtype).removeprefix("torch.")
    context = "no limit" if model.context is None else f"{model.context:,} tokens"
    bos = "none" if vocabulary.bos_id is None else f"token {vocabulary.bos_id}"
    has_template = bool(getattr(vocabulary.tokenizer, "chat_template", None))
    lines = [
        ("model", f"{model.name}: {model.kind}, {size}{dtype} on {model.device}"),
        ("context", context),
        ("vocabulary", f"{count(model.n_vocab, 'token')}; BOS: {bos}"),
        ("chat template", "yes (--chat-template)" if has_template else "none"),
    ]
    if model.kind == "causal":
        for key, (subject, fast, plain) in _PATHS.items():
            why = model.slow_because.get(key)
            lines.append((subject, f"{plain}, because {why}" if why else fast))
        if why := model.slow_because.get("layers"):
            lines.append(("layers", f"partly packed: {why}"))
    if model.kind == "served":
        return [*lines, *model.capabilities.items(), *(("note", s) for s in model.notes)]  # type: ignore[attr-defined]
    lines += [(name, f"not defined: {why}") for name, why in model.without.items()]
    return lines + [("note", sentence) for sentence in model.notes]
