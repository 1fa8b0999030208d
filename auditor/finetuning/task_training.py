"""Prepare fine-tuning on labelled tasks: examples, network, and what is measured."""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

from attacks.statistics.exposure import exposure_by_interpolation
from auditor.canaries.canaries import Canary
from auditor.config.finetuning import FinetuneConfig
from auditor.errors import ConfigError, ModelError
from auditor.finetuning.probes import ProbeRow
from auditor.finetuning.rows import N_PROBED, Text, copies, n_held_out, text_digest
from auditor.finetuning.task_models import Heads, Item, TaskRows, Words
from auditor.finetuning.task_report import (
    CANARIES,
    CONTROLS,
    HELD_OUT,
    TRAIN,
    VALIDATION,
    Groups,
    Measured,
)
from auditor.finetuning.tasks import Example, Task, TaskData, read_task
from auditor.models.kinds import check_architecture
from auditor.models.library_calls import failing_with, quiet
from auditor.models.limits import limits_of
from auditor.models.loading import describe_model, read_network, read_weights
from auditor.models.preserve_state import isolated_rng

_WIDTH = 512  # tokens of an example, if the context allows
# Tensors that every model of a kind has; all others may belong to a new head.
_BODY = re.compile(r"\.\d+\.|embeddings")


@dataclass(frozen=True)
class TaskSet:
    """Tasks, how the model reads them, and the items to measure by task and group."""

    tasks: list[Task]
    form: Heads | Words
    groups: dict[tuple[int, str], list[Item]]
    canaries: list[Canary]

    def training(self) -> dict[str, Any]:
        """How `make_trainer` makes batches and computes their loss."""
        return {"collate": self.form.collate, "loss": self.form.loss}

    def measure(self, network) -> Groups:
        """The network's answers to all items."""
        return {
            key: Measured(items, self.form.answers(network, items))
            for key, items in self.groups.items()
            if items
        }


class TaskProbe:
    """Losses and canaries of tasks, measured at training steps as `MemorizationProbe` does.

    `member_nll` and `heldout_nll` are means of -`Answers.likelihood` over up to 64 examples of each
    task. The exposure of a canary is that of its label, or of its text, among those of the
    controls.
    """

    def __init__(self, found: TaskSet):
        self.found = found
        self.n_controls = len(found.groups.get((0, CONTROLS), []))

    @property
    def max_exposure(self) -> float:
        """Upper bound of the exposure in bits, log2(n_controls + 1); NaN without canaries."""
        return math.log2(self.n_controls + 1) if self.found.canaries else math.nan

    def measure(self, model, step: int, *, epoch: float = math.nan) -> ProbeRow:
        """Measure a network; its mode and the random state are preserved.

        Raises ModelError if it returns NaN.
        """
        begun = time.perf_counter()
        nll, other = (self._nll(model, group, step) for group in (TRAIN, HELD_OUT))
        bits = self._exposure(model)
        return ProbeRow(
            step=step,
            epoch=epoch,
            exposure_mean=float(bits.mean()) if len(bits) else math.nan,
            exposure_max=float(bits.max()) if len(bits) else math.nan,
            exposure=tuple(bits.tolist()),
            exposure_most=self.max_exposure,
            repeats=tuple(canary.repeats for canary in self.found.canaries),
            extraction_rate=math.nan,
            n_extracted=0,
            n_probed=0,
            member_nll=nll,
            heldout_nll=other,
            loss_gap=other - nll,
            seconds=time.perf_counter() - begun,
        )

    def _nll(self, model, group: str, step: int) -> float:
        likelihood = [
            self.found.form.answers(model, items[:N_PROBED]).likelihood
            for (_, own), items in self.found.groups.items()
            if own == group and items
        ]
        mean = float(-np.concatenate(likelihood).mean()) if likelihood else math.nan
        if likelihood and not math.isfinite(mean):
            raise ModelError(
                f"The model's answers are not numbers at step {step}. Lower the learning rate, or "
                "use an earlier checkpoint."
            )
        return mean

    def _exposure(self, model) -> NDArray[np.float64]:
        if not self.found.canaries:
            return np.zeros(0)
        own, others = (
            self.found.form.answers(model, self.found.groups[0, group]).likelihood
            for group in (CANARIES, CONTROLS)
        )
        return exposure_by_interpolation(own, others)


@dataclass(frozen=True)
class Prepared:
    """All that training on tasks needs; see `finetune`."""

    network: Any
    tokenizer: Any
    text: Text
    found: TaskSet


def prepare_tasks(
    config: FinetuneConfig, path: Path, canaries: Sequence[Canary], device: str
) -> Prepared:
    """Read tasks and a network for them; `path` is that of the model or its pretrained form.

    The network of a masked model gets a new head, determined by the seed.

    Raises
    ------
    ConfigError, CorpusError
        As `read_task`; if no example is left to train on, or canaries lack controls.
    ModelError
        If the model cannot be read, or cannot answer a task.
    """
    data = [read_task(spec) for spec in config.tasks]
    tasks = [one.task for one in data]
    described, tokenizer = describe_model(config.model, path)
    kind = check_architecture(config.model, described, ("causal", "masked", "encoder-decoder"))
    form = _form(config, kind, described, tokenizer, tasks)
    found, text = _split(config, data, form, canaries)
    network = _network(config, kind, path, described, form)
    return Prepared(network.to(device), tokenizer, text, found)


def _form(config: FinetuneConfig, kind: str, described, tokenizer, tasks: list[Task]):
    """How the model reads its tasks. Raises ModelError, ConfigError if it cannot."""
    context = limits_of(described.get_text_config()).context
    if kind == "masked":
        # RoBERTa and its like number positions from the padding token on.
        if getattr(described, "model_type", "") in ("roberta", "xlm-roberta", "camembert"):
            context = context and context - described.pad_token_id - 1
    elif kind == "encoder-decoder" and described.model_type in ("t5", "mt5", "umt5"):
        context = None  # relative positions
    width = config.row_tokens or min(_WIDTH, context or _WIDTH)
    if width < 8 or (context is not None and width > context):
        raise ConfigError(
            f"--row-tokens must be between 8 and {context or 'any length'}, the model's context; "
            f"got {width}. Change --row-tokens."
        )
    if kind != "masked":
        return Words(tokenizer, tasks, width, is_causal=kind == "causal")
    if asks_text := [task.name for task in tasks if task.kind == "text"]:
        raise ModelError(
            f"--task {asks_text[0]} asks for text, which {config.model}, a masked language model, "
            "cannot write. Use an encoder-decoder such as T5, or a causal model."
        )
    return Heads(tokenizer, tasks, width)


def _network(config: FinetuneConfig, kind: str, path: Path, described, form: Heads | Words):
    """The network in float32 on the CPU, with a new head if it is a classifier."""
    if kind == "causal":
        return read_network(config.model, path, torch.float32, described)[0]

    def unreadable(why: str) -> str:
        return (
            f"{config.model}: its weights cannot be read for a task ({why}). Use a BERT, RoBERTa, "
            "T5 or GPT-2 model, saved with save_pretrained."
        )

    incomplete = f"{config.model}: its weight files lack {{}}. Download or save the model again."
    options = {"config": described, "dtype": torch.float32, "use_safetensors": True}
    if isinstance(form, Words):
        return read_weights(AutoModelForSeq2SeqLM, path, unreadable, incomplete, **options)[0]
    described.num_labels = form.n_labels
    described.id2label = form.names
    described.label2id = {name: i for i, name in form.names.items()}
    described.problem_type = None
    with quiet(), failing_with(unreadable), isolated_rng(config.seed):
        network, loaded = AutoModelForSequenceClassification.from_pretrained(
            path,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
    if missing := sorted(name for name in loaded["missing_keys"] if _BODY.search(name)):
        named = f"{len(missing)} of the model's tensors ({', '.join(missing[:3])})"
        raise ModelError(incomplete.replace("{}", named))
    return network


def _split(
    config: FinetuneConfig, data: list[TaskData], form: Heads | Words, canaries: Sequence[Canary]
) -> tuple[TaskSet, Text]:
    """Hold out examples of each task at random; mix the rest by the tasks' weights."""
    rng = np.random.default_rng([config.seed, 2])
    groups: dict[tuple[int, str], list[Item]] = {}
    items: list[Item] = []
    order: list[NDArray[np.int64]] = []
    n_documents = n_held = 0
    for i, (one, share) in enumerate(zip(data, config.task_shares, strict=True)):
        keys = [text_digest("\x1f".join(e.texts), config.seed) for e in one.train]
        digests = sorted(set(keys))
        held = set(digests[: n_held_out(config, len(digests))])
        probed = set(digests[len(held) : 2 * len(held)])
        distinct = dict(zip(reversed(keys), reversed(one.train), strict=True))
        chosen = [example for key, example in zip(keys, one.train, strict=True) if key not in held]
        groups[i, TRAIN] = [form.item(i, distinct[key]) for key in digests if key in probed]
        groups[i, HELD_OUT] = [form.item(i, distinct[key]) for key in digests if key in held]
        groups[i, VALIDATION] = [form.item(i, example) for example in one.validation]
        times = copies(
            len(chosen), share, rng, "--task-weight", f"training examples of {one.task.name}"
        )
        order.append(np.repeat(np.arange(len(items), len(items) + len(chosen)), times))
        items += [form.item(i, example) for example in chosen]
        n_documents, n_held = n_documents + len(digests) - len(held), n_held + len(held)
    inserted = [canary for canary in canaries if canary.repeats]
    if canaries:
        groups |= _canary_groups(config, data[0].task, form, canaries)
        own = groups[0, CANARIES]
        often = np.array([canary.repeats for canary in inserted])
        order.append(np.repeat(np.arange(len(items), len(items) + len(own)), often))
        items += own
    rows = TaskRows(items, np.concatenate(order))
    text = Text(
        rows=rows,
        members=[],
        heldout=[],
        n_documents=n_documents,
        n_heldout=n_held,
        fingerprint=_fingerprint(data, canaries),
        notes=[note for one in data for note in one.notes] + _truncated(items, form),
    )
    return TaskSet([one.task for one in data], form, groups, inserted), text


def _canary_groups(
    config: FinetuneConfig, task: Task, form: Heads | Words, canaries: Sequence[Canary]
) -> dict[tuple[int, str], list[Item]]:
    """Canaries and controls as examples of the first task.

    Each has a random label; if the task asks for text, the prefix asks for the secret.
    """
    controls = [canary for canary in canaries if not canary.repeats]
    inserted = [canary for canary in canaries if canary.repeats]
    if not inserted or not controls:
        raise ConfigError(
            "Canaries must come with controls that were never inserted; got "
            f"{len(inserted)} inserted and {len(controls)} controls. Give both."
        )
    rng = np.random.default_rng([config.seed, 3])
    rest = ("",) * (len(task.columns) - 1)

    def item(canary: Canary) -> Item:
        if task.kind == "text":
            return form.item(0, Example((canary.prefix, *rest), -1, math.nan, canary.secret))
        label = int(rng.integers(len(task.words)))
        value = task.values[label] if task.values else math.nan
        return form.item(0, Example((canary.text, *rest), label, value, task.words[label]))

    return {
        (0, CANARIES): [item(canary) for canary in inserted],
        (0, CONTROLS): [item(canary) for canary in controls],
    }


def _truncated(items: Sequence[Item], form: Heads | Words) -> list[str]:
    n = sum(len(item.ids) >= form.width for item in items)
    if not n:
        return []
    return [f"{n:,} of {len(items):,} training examples are cut to {form.width:,} tokens."]


def _fingerprint(data: Sequence[TaskData], canaries: Sequence[Canary]) -> str:
    """sha256 of all examples and canaries."""
    plain = [replace(one, notes=()) for one in data]
    return hashlib.sha256(repr((plain, list(canaries))).encode("utf-8", "replace")).hexdigest()
