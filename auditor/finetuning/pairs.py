"""A base model and what was tuned from it, judged one after the other on the same text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from auditor.errors import ModelError
from auditor.finetuning.adapters import (
    adapter_fingerprint,
    adapters_off,
    is_adapter,
    load_adapter,
    tuned_from,
)
from auditor.language_models.causal import LanguageModel
from auditor.language_models.loading import fingerprint, load_model, load_vocabulary, resolve


class Pair:
    """Two specs, checked to be two models of one vocabulary; opened with `base()` and `tuned()`.

    A tuned adapter shares one copy of the base's weights; of two whole models one is in memory at
    a time. Everything is in float32, since its figures are reported.

    Parameters
    ----------
    base, tuned : str
        Model specs; `tuned` may be an adapter's folder. `base` None: what its folder says.
    device : str

    Raises
    ------
    ModelError
        If they are the same model, have two vocabularies, or the adapter is for another base.
    """

    def __init__(self, base: str | None, tuned: str, *, device: str = "auto"):
        at = resolve(tuned)
        self._adapter = at if at.is_dir() and is_adapter(at) else None
        if base is None:
            base = tuned_from(at).get("spec")
        if base is None:
            raise ModelError(f"--base must be given for {tuned}; got none. Name what it came from.")
        self.base_spec, self.tuned_spec, self.device = base, tuned, device
        self.base_fingerprint = _fingerprint(resolve(base))
        self.tuned_fingerprint = _fingerprint(at)
        if self.base_fingerprint == self.tuned_fingerprint:
            raise ModelError(
                f"--base and --tuned must be two models; got the same weights in {base} and "
                f"{tuned}. Name the model before and the model after."
            )
        if not self._adapter:
            self._check_vocabulary()
        self._shared: LanguageModel | None = None

    def _check_vocabulary(self) -> None:
        one, other = load_vocabulary(self.base_spec), load_vocabulary(self.tuned_spec)
        if one.fingerprint != other.fingerprint:
            raise ModelError(
                f"--base and --tuned must have one vocabulary; {self.base_spec} and "
                f"{self.tuned_spec} have two, so their tokens cannot be compared. Name a model and "
                "what was tuned from it."
            )

    @property
    def folder(self) -> Path:
        """Where the tuned model is."""
        return resolve(self.tuned_spec)

    @contextmanager
    def base(self) -> Iterator[LanguageModel]:
        """The model before."""
        if self._adapter is None:
            yield self._load(self.base_spec)
            return
        model = self._with_adapter(self._adapter)
        with adapters_off(self._network):
            yield model

    @contextmanager
    def tuned(self) -> Iterator[LanguageModel]:
        """The model after."""
        at = self._adapter
        yield self._load(self.tuned_spec) if at is None else self._with_adapter(at)

    def _load(self, spec: str) -> LanguageModel:
        return load_model(spec, dtype="float32", device=self.device)

    def _with_adapter(self, adapter: Path) -> LanguageModel:
        """The base with the adapter put in, as a model whose adapter `adapters_off` takes off."""
        if self._shared is None:
            model = self._load(self.base_spec)
            self._network = load_adapter(
                model.network, adapter, base_fingerprint=self.base_fingerprint
            )
            # The layers were replaced in place, so the base's own network now has the adapters.
            self._shared = LanguageModel(
                model.network,
                model.vocabulary,
                name=self.tuned_spec,
                fingerprint=self.tuned_fingerprint,
                dtype=torch.float32,
            )
        return self._shared


def _fingerprint(path: Path) -> str:
    if path.is_dir() and is_adapter(path):
        return adapter_fingerprint(path)
    if path.is_dir() and not (path / "config.json").is_file():
        raise ModelError(f"{path} holds neither a model nor an adapter. Give a model's folder.")
    return fingerprint(path)
