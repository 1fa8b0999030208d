"""A base model and the model tuned from it, loaded one at a time and scored on the same text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from auditor.errors import ModelError
from auditor.models.adapters import adapter_fingerprint, is_adapter, tuned_from
from auditor.models.interfaces import ScoresTexts
from auditor.models.loading import fingerprint, load_model, load_vocabulary, resolve
from auditor.models.spec_kinds import kind_of_spec
from auditor.models.tokenizer import Vocabulary

_KINDS = ("causal", "masked", "encoder-decoder")


class Pair:
    """Specs of two different models, loaded in float32 with `base()` and `tuned()`.

    The models are loaded separately, so that only one is in memory and the base has no adapter.
    `tuned` may be an adapter's folder. If `base` is None, it is read from the folder of `tuned`.
    """

    def __init__(
        self, base: str | None, tuned: str, *, device: str = "auto", bos: str | None = None
    ):
        at = resolve(tuned)
        is_on_base = at.is_dir() and is_adapter(at)
        if base is None:
            base = tuned_from(at).get("spec")
        if base is None:
            raise ModelError(
                f"--base must be given for {tuned}; got none. Give the model it was tuned from."
            )
        self.base_spec, self.tuned_spec, self.device, self.bos = base, tuned, device, bos
        self.base_fingerprint = _fingerprint(resolve(base))
        self.tuned_fingerprint = _fingerprint(at)
        if self.base_fingerprint == self.tuned_fingerprint:
            raise ModelError(
                f"--base and --tuned must be two models; got the same weights in {base} and "
                f"{tuned}. Give the models before and after fine-tuning."
            )
        self._on = base if is_on_base else None
        self.kind = self._kind()
        self._check_start()

    @cached_property
    def vocabularies(self) -> tuple[Vocabulary, Vocabulary]:
        """Vocabularies of the base and the tuned model, loaded without weights."""
        return (
            load_vocabulary(self.base_spec, bos=self.bos),
            load_vocabulary(self.tuned_spec, bos=self.bos, base=self._on),
        )

    def _kind(self) -> str:
        """The kind of both models, which must be the same."""
        kinds = [kind_of_spec(spec) for spec in (self.base_spec, self.tuned_spec)]
        if kinds[0] != kinds[1]:
            raise ModelError(
                "--base and --tuned must be of the same kind; got "
                f"{' and '.join(str(kind) for kind in kinds)}. Give a model and one tuned from it."
            )
        return str(kinds[0])

    def _check_start(self) -> None:
        """Both models must use BOS, or neither: otherwise they score different tokens."""
        one, other = (vocabulary.bos_id is not None for vocabulary in self.vocabularies)
        if one != other:
            specs = (self.base_spec, self.tuned_spec)
            has, lacks = specs if one else reversed(specs)
            raise ModelError(
                f"--base and --tuned must both have a BOS token, or neither; {has} has one and "
                f"{lacks} has none. Set it for both with --bos TOKEN."
            )

    def check_texts(self, texts: Sequence[str]) -> None:
        """Raise ModelError, naming a text, unless both tokenizers yield the same tokens."""
        one, other = self.vocabularies
        if one.fingerprint == other.fingerprint:
            return
        for text in texts:
            tokens = [[v.token_bytes[i] for i in v.encode(text)] for v in (one, other)]
            if tokens[0] != tokens[1]:
                raise ModelError(
                    f"--base and --tuned must split every text into the same tokens; "
                    f"{self.base_spec} and {self.tuned_spec} make {len(tokens[0]):,} and "
                    f"{len(tokens[1]):,} tokens of {text[:40]!r}. Give a model and one tuned from "
                    "it, or remove texts with added tokens."
                )

    def base(self) -> ScoresTexts:
        """Load the base model."""
        return self._load(self.base_spec)

    def tuned(self) -> ScoresTexts:
        """Load the tuned model."""
        return self._load(self.tuned_spec, self._on)

    def _load(self, spec: str, base: str | None = None) -> ScoresTexts:
        return load_model(
            spec, dtype="float32", device=self.device, bos=self.bos, base=base, kinds=_KINDS
        )


def _fingerprint(path: Path) -> str:
    if path.is_dir() and is_adapter(path):
        return adapter_fingerprint(path)
    if path.is_dir() and not (path / "config.json").is_file():
        raise ModelError(f"{path} contains neither a model nor an adapter. Give a model's folder.")
    return fingerprint(path)
