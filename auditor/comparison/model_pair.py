"""A base model and what was tuned from it, judged one after the other on the same text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from auditor.errors import ModelError
from auditor.models.adapters import adapter_fingerprint, is_adapter, tuned_from
from auditor.models.language_model import LanguageModel
from auditor.models.loading import fingerprint, load_model, load_vocabulary, resolve
from auditor.models.tokenizer import Vocabulary


class Pair:
    """Two specs, checked to be two models; loaded with `base()` and `tuned()`.

    Each is loaded by itself, so that one is in memory at a time and no trace of an adapter is in
    its base. Both are in float32, since their figures are reported.

    Parameters
    ----------
    base, tuned : str
        Model specs; `tuned` may be an adapter's folder. `base` None: what its folder says.
    device : str
    bos : str, optional
        The token that starts a text, in place of what the tokenizers name.

    Raises
    ------
    ModelError
        If they are the same model, the adapter is for another base, or one has a BOS token and
        the other has none.
    """

    def __init__(
        self, base: str | None, tuned: str, *, device: str = "auto", bos: str | None = None
    ):
        at = resolve(tuned)
        is_on_base = at.is_dir() and is_adapter(at)
        if base is None:
            base = tuned_from(at).get("spec")
        if base is None:
            raise ModelError(f"--base must be given for {tuned}; got none. Name what it came from.")
        self.base_spec, self.tuned_spec, self.device, self.bos = base, tuned, device, bos
        self.base_fingerprint = _fingerprint(resolve(base))
        self.tuned_fingerprint = _fingerprint(at)
        if self.base_fingerprint == self.tuned_fingerprint:
            raise ModelError(
                f"--base and --tuned must be two models; got the same weights in {base} and "
                f"{tuned}. Name the model before and the model after."
            )
        self._on = base if is_on_base else None
        self._check_start()

    @cached_property
    def vocabularies(self) -> tuple[Vocabulary, Vocabulary]:
        """The base's and the tuned model's, without their weights."""
        return (
            load_vocabulary(self.base_spec, bos=self.bos),
            load_vocabulary(self.tuned_spec, bos=self.bos, base=self._on),
        )

    def _check_start(self) -> None:
        """Of a text that one begins with BOS and the other does not, other tokens are judged."""
        one, other = (vocabulary.bos_id is not None for vocabulary in self.vocabularies)
        if one != other:
            specs = (self.base_spec, self.tuned_spec)
            has, lacks = specs if one else reversed(specs)
            raise ModelError(
                f"--base and --tuned must both have a BOS token, or neither; {has} has one and "
                f"{lacks} has none. Name it for both with --bos TOKEN."
            )

    def check_texts(self, texts: Sequence[str]) -> None:
        """Texts must be the same tokens to both: each model is given its own tokenizer's.

        Raises
        ------
        ModelError
            Naming a text that is not.
        """
        one, other = self.vocabularies
        if one.fingerprint == other.fingerprint:
            return
        for text in texts:
            spelt = [[v.token_bytes[i] for i in v.encode(text)] for v in (one, other)]
            if spelt[0] != spelt[1]:
                raise ModelError(
                    f"--base and --tuned must have one vocabulary, at least for the texts; "
                    f"{self.base_spec} and {self.tuned_spec} make {len(spelt[0]):,} and "
                    f"{len(spelt[1]):,} tokens of {text[:40]!r}, which cannot be compared. Name a "
                    "model and what was tuned from it, or leave out texts with added tokens."
                )

    @property
    def folder(self) -> Path:
        """Where the tuned model is."""
        return resolve(self.tuned_spec)

    def base(self) -> LanguageModel:
        """The model before."""
        return self._load(self.base_spec)

    def tuned(self) -> LanguageModel:
        """The model after."""
        return self._load(self.tuned_spec, self._on)

    def _load(self, spec: str, base: str | None = None) -> LanguageModel:
        return load_model(spec, dtype="float32", device=self.device, bos=self.bos, base=base)


def _fingerprint(path: Path) -> str:
    if path.is_dir() and is_adapter(path):
        return adapter_fingerprint(path)
    if path.is_dir() and not (path / "config.json").is_file():
        raise ModelError(f"{path} holds neither a model nor an adapter. Give a model's folder.")
    return fingerprint(path)
