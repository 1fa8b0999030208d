"""State shared by the stages of one run: config, folder, progress and loaded models."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from auditor.audit.workers.tasks import SharesTasks
from auditor.config.audit import AuditConfig, Strategy
from auditor.config.served import is_url
from auditor.errors import ConfigError, RunError
from auditor.runs.manifest import ModelEntry, Note, StageEntry
from auditor.runs.writer import RunWriter
from auditor.system.progress import NullProgress
from reports.privacy.finding import Finder
from reports.privacy.names import finders

if TYPE_CHECKING:
    from auditor.models.interfaces import ScoresTexts
    from auditor.models.tokenizer import Vocabulary

TARGET = "target"
# What a served model answered, so that a resumed run asks nothing twice.
ANSWERS = "answers/target.jsonl"


@dataclass
class Context:
    """One audit in progress. `model(TARGET)` or `model(NAME)` loads a model on first use.

    If `workers` is set, they process the shards and load the models. `judge` is called after the
    tables are written and before the pages, which show what it adds to the manifest.
    """

    config: AuditConfig
    run: RunWriter
    progress: NullProgress
    workers: SharesTasks | None = None
    judge: Callable[[RunWriter], None] | None = None
    by_layers: bool | None = None  # how models are loaded in float32; see `load_model`
    _models: dict = field(default_factory=dict)
    _vocabularies: dict = field(default_factory=dict)
    _stage: str = ""

    def spec(self, name: str) -> str:
        """The spec of the target or of a reference."""
        return self.config.model if name == TARGET else self.config.references[name]

    def model(self, name: str = TARGET, *, dtype: str | None = None) -> ScoresTexts:
        """The target or a reference; its fingerprint must match the run's."""
        from auditor.models.loading import load_model

        # A served model is loaded once: its weights are elsewhere.
        is_served = is_url(self.spec(name))
        precision = "float32" if is_served else dtype or self.config.dtype
        key = (name, precision)
        if key not in self._models:
            config = self.config
            model = load_model(
                self.spec(name),
                dtype=precision,
                device=config.device,
                bos=config.bos,
                is_reference=name != TARGET,
                pll=config.pll,
                by_layers=self.by_layers,
                served=config.served if is_served else None,
                answers=self.run.path / ANSWERS if is_served else None,
            )
            self._register(name, model, is_rescoring=dtype is not None)
            self._models[key] = model
        return self._models[key]

    def vocabulary(self, name: str = TARGET) -> Vocabulary:
        """A model's vocabulary, without its weights; it must match the run's."""
        from auditor.models.loading import load_vocabulary

        if name not in self._vocabularies:
            found = load_vocabulary(
                self.spec(name),
                bos=self.config.bos,
                is_reference=name != TARGET,
                served=self.config.served,
            )
            self._refuse_other_tokenizer(name, found)
            self._vocabularies[name] = found
        return self._vocabularies[name]

    def _register(self, name: str, model: ScoresTexts, *, is_rescoring: bool) -> None:
        known = self.run.manifest.models.get(name)
        if known is not None:
            self._refuse_change(name, "other weights", model.fingerprint, known.sha256)
        self._refuse_other_tokenizer(name, model.vocabulary)
        self._refuse_other_start(name, model.vocabulary)
        self._vocabularies[name] = model.vocabulary
        dtype = str(model.dtype).removeprefix("torch.")
        # Record the lowest precision used: a run may be resumed on a machine that allows more.
        if known is not None and known.dtype and (is_rescoring or known.dtype != "float32"):
            dtype = known.dtype
        self.run.manifest.models[name] = ModelEntry(
            spec=self.spec(name),
            sha256=model.fingerprint,
            parameters=model.n_parameters,
            dtype=dtype,
            vocabulary_sha256=model.vocabulary.fingerprint,
            bos_id=model.vocabulary.bos_id,
            capabilities=dict(getattr(model, "capabilities", {})),
        )
        self.run.save()
        for sentence in model.notes:
            self.note(sentence)

    def _refuse_other_tokenizer(self, name: str, vocabulary) -> None:
        """With another tokenizer the same token ids decode to other text."""
        known, now = self.run.manifest.models.get(name), vocabulary.fingerprint
        if known is not None:
            self._refuse_change(name, "another tokenizer", now, known.vocabulary_sha256 or now)

    def _refuse_other_start(self, name: str, vocabulary) -> None:
        """A different BOS token changes every score, so results would not be comparable."""
        known, now = self.run.manifest.models.get(name), vocabulary.bos_id
        if known is None:
            return
        # Older runs did not record bos_id, and applied --bos to the target only.
        then = now if name == TARGET else vocabulary.tokenizer.bos_token_id
        if "bos_id" in known.model_fields_set:
            then = known.bos_id
        self._refuse_change(name, "another BOS token", now, then, by="id")

    def _refuse_change(
        self, name: str, what: str, now: object, then: object, *, by: str = "sha256"
    ) -> None:
        if now != then:
            raise RunError(
                f"{self.spec(name)} has {what} than when {self.run.path} was started ({by} "
                f"{str(now)[:12]} now, {str(then)[:12]} then). Choose another --out, or restore "
                f"the original {what.partition(' ')[2]}."
            )

    def release(self) -> None:
        """Drop all loaded models and stop the workers."""
        self.stop_workers()
        self._models.clear()
        gc.collect()

    def stop_workers(self) -> None:
        """Stop the workers; later stages run in this process."""
        if self.workers is not None:
            self.workers.close()
            self.workers = None

    def shards(self, strategy: Strategy) -> list[tuple[str, range]]:
        """File stem and sample numbers of each shard of a strategy."""
        n, step = self.config.samples, self.config.shard_size
        return [
            (f"{strategy.name}-{i:05}", range(start, min(n, start + step)))
            for i, start in enumerate(range(0, n, step))
        ]

    def note(self, sentence: str) -> None:
        """Show a note to the user and store it in the manifest for the report."""
        notes = self.run.manifest.notes
        entry = Note(stage=self._stage, sentence=sentence)
        if entry not in notes:
            self.progress.note(sentence)
            notes.append(entry)
        self.run.save()

    @contextmanager
    def timed(self, stage: str) -> Iterator[StageEntry]:
        """A stage's entry in the manifest; its seconds accumulate over restarts."""
        entry = self.run.manifest.stages.setdefault(stage, StageEntry(seconds=0.0))
        self._stage = stage
        begun = time.monotonic()
        try:
            yield entry
        finally:
            entry.seconds = round(entry.seconds + time.monotonic() - begun, 3)
        self.run.save()


def name_finders(config: AuditConfig) -> tuple[Finder, ...]:
    """The personal-data finders that the config enables in addition to the rules.

    >>> from auditor.config.audit import make_config
    >>> name_finders(make_config({"model": "gpt2"}))
    ()
    """
    try:
        return finders(config.names)
    except ValueError as error:
        raise ConfigError(str(error)) from None
