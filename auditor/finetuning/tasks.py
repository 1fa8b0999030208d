"""Labelled tasks of GLUE and CodeXGLUE: columns, labels, label words and metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from auditor.config.fields import nearest
from auditor.corpus.hub import open_splits, read_rows
from auditor.corpus.presets import PRESETS, preset_specs
from auditor.errors import ConfigError, CorpusError


@dataclass(frozen=True)
class Task:
    """A labelled task.

    name : str
        As for --task: "glue/sst2".
    columns : tuple of str
        The text columns, in the order in which a model reads them.
    target : str
        The column of the label, the number or the text to produce.
    words : tuple of str
        What a text-to-text or causal model answers, one per label in the order of the numbers in
        the data set. Empty for a task that asks for text.
    metrics : tuple of str
        The benchmark's own metrics, of `attacks.statistics.task_metrics`.
    values : tuple of float
        Of a regression: the number that each word stands for; empty for classes.
    validation : str
        The split on which the metrics are computed.
    """

    name: str
    columns: tuple[str, ...]
    target: str
    words: tuple[str, ...]
    metrics: tuple[str, ...]
    values: tuple[float, ...] = ()
    validation: str = "validation"

    @property
    def kind(self) -> str:
        """ "classes", "number" (regression) or "text"."""
        return "number" if self.values else "classes" if self.words else "text"

    @property
    def short(self) -> str:
        """The name without its collection, as in the prompts of T5: "sst2"."""
        return self.name.rpartition("/")[2].removeprefix("code_x_glue_")


_SAME = ("not_equivalent", "equivalent")
_ENTAILS = ("entailment", "not_entailment")
# T5 writes similarities from 0 to 5 as the nearest multiple of 0.2.
_STEPS = tuple(i / 5 for i in range(26))
_GLUE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "cola": (("unacceptable", "acceptable"), ("matthews",)),
    "sst2": (("negative", "positive"), ("accuracy",)),
    "mrpc": (_SAME, ("accuracy", "f1")),
    "qqp": (("not_duplicate", "duplicate"), ("accuracy", "f1")),
    "stsb": (tuple(f"{x:.1f}" for x in _STEPS), ("pearson", "spearman")),
    "mnli": (("entailment", "neutral", "contradiction"), ("accuracy",)),
    "qnli": (_ENTAILS, ("accuracy",)),
    "rte": (_ENTAILS, ("accuracy",)),
    "wnli": (("not_entailment", "entailment"), ("accuracy",)),
}
_CODE_TO_TEXT = "code_x_glue_ct_code_to_text/"


def _tasks() -> dict[str, Task]:
    found = [
        Task(f"glue/{n}", PRESETS[f"glue/{n}"].columns, "label", words, metrics)
        for n, (words, metrics) in _GLUE.items()
    ]
    by_name = {task.name: task for task in found}
    by_name["glue/stsb"] = replace(by_name["glue/stsb"], values=_STEPS)
    by_name["glue/mnli"] = replace(by_name["glue/mnli"], validation="validation_matched")
    code = [
        Task(
            "code_x_glue_cc_defect_detection", ("func",), "target", ("safe", "defective"),
            ("accuracy",),
        ),
        Task(
            "code_x_glue_cc_clone_detection_big_clone_bench", ("func1", "func2"), "label",
            ("different", "clone"), ("f1",),
        ),
        *(
            Task(name, ("code",), "docstring", (), ("target_nll",))
            for name in PRESETS
            if name.startswith(_CODE_TO_TEXT)
        ),
    ]  # fmt: skip
    return by_name | {task.name: task for task in code}


# Source: the data sets' cards on the hub; label words of GLUE as in Raffel et al. 2020, appendix D;
# metrics as in Wang et al. 2019, "GLUE", table 1, and Lu et al. 2021, "CodeXGLUE", table 2.
TASKS: Mapping[str, Task] = _tasks()


def task_of(spec: str) -> Task:
    """The task of a spec, NAME or NAME@FOLDER. Raises ConfigError if it is unknown.

    >>> task_of("glue/sst2").words
    ('negative', 'positive')
    """
    name = spec.partition("@")[0]
    if name not in TASKS:
        hint = nearest(name, TASKS)
        raise ConfigError(
            f"--task must be a task of GLUE or CodeXGLUE, such as glue/sst2, or NAME@FOLDER for a "
            f"local copy; got {name!r}.{hint or ' Known: ' + ', '.join(sorted(TASKS)) + '.'}"
        )
    return TASKS[name]


@dataclass(frozen=True)
class Example:
    """One labelled example.

    texts : one per column of its task
    label : int
        Index into the task's words; -1 for a task that asks for text.
    value : float
        The number of a regression; otherwise NaN.
    answer : str
        The label's word, or the text to produce.
    """

    texts: tuple[str, ...]
    label: int
    value: float
    answer: str


@dataclass(frozen=True)
class TaskData:
    """The labelled examples of a task's two splits, and notes about what was left out."""

    task: Task
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    notes: tuple[str, ...] = ()


def read_task(spec: str) -> TaskData:
    """Read the train and validation splits of a task from the hub, or from a local copy of it.

    Raises
    ------
    ConfigError
        If the task is unknown.
    CorpusError
        If a split or column is missing, a label is not one of the task's, or a split has no
        labels or only one of them.
    """
    task = task_of(spec)
    (source,) = preset_specs(spec) or [None]
    if source is None:
        raise ConfigError(f"--task {spec}: {task.name} has no data set. Name another task.")
    splits = open_splits(replace(source, split=None, columns=()))
    found, notes = [], []
    for split in ("train", task.validation):
        if split not in splits:
            raise CorpusError(
                f"{spec} must have the splits train and {task.validation}; {split} is missing. Its "
                f"splits: {', '.join(splits)}. Copy the missing one."
            )
        name = f"{spec}, split {split}"
        rows = read_rows(splits[split], name, (*task.columns, task.target))
        examples, n = _labelled(task, rows, name)
        if n > len(examples):
            notes.append(f"{name}: {n - len(examples):,} of {n:,} examples have no label.")
        _check_labels(task, examples, n, name)
        found.append(tuple(examples))
    return TaskData(task, found[0], found[1], tuple(notes))


def _labelled(task: Task, rows, name: str) -> tuple[list[Example], int]:
    """The examples that have a label, and the number of all rows."""
    examples, n = [], 0
    for n, row in enumerate(rows, start=1):
        texts = tuple(str(row[column] or "") for column in task.columns)
        made = _example(task, texts, row[task.target], f"{name}, row {n:,}")
        if made is not None:
            examples.append(made)
    return examples, n


def _example(task: Task, texts: tuple[str, ...], given: Any, place: str) -> Example | None:
    """An example; None if it has no label (the test splits of GLUE have -1)."""
    if given is None or (task.kind == "text" and not str(given).strip()):
        return None
    if task.kind == "text":
        return Example(texts, -1, math.nan, str(given))
    try:
        value = float(given)
    except (TypeError, ValueError):
        value = float(task.words.index(given)) if given in task.words else math.nan
    if value == -1:
        return None
    if task.kind == "number":
        first, last = task.values[0], task.values[-1]
        if not first <= value <= last:
            raise _unknown_label(place, task, given, f"a number from {first:g} to {last:g}")
        label = min(range(len(task.values)), key=lambda i: abs(task.values[i] - value))
        return Example(texts, label, value, task.words[label])
    if value not in range(len(task.words)):
        numbers = ", ".join(f"{i} ({word})" for i, word in enumerate(task.words))
        raise _unknown_label(place, task, given, f"{numbers}, or -1 for none")
    return Example(texts, int(value), math.nan, task.words[int(value)])


def _unknown_label(place: str, task: Task, given: Any, allowed: str) -> CorpusError:
    return CorpusError(
        f"{place}: {task.target} must be {allowed}; got {given!r}. Correct it in your copy."
    )


def _check_labels(task: Task, examples: Sequence[Example], n: int, name: str) -> None:
    """Raise CorpusError for a split without labels, or with a single label."""
    if not n:
        raise CorpusError(f"{name} has no rows. Copy it again.")
    if not examples:
        raise CorpusError(
            f"{name} has no labels: {task.target} is missing or -1 in all of its {n:,} rows, as in "
            "the test splits of GLUE. Use a copy whose splits train and "
            f"{task.validation} have labels."
        )
    if task.kind == "classes" and len({example.label for example in examples}) == 1:
        raise CorpusError(
            f"{name} has only the label {examples[0].answer}; a task needs examples of two labels "
            "or more. Use a copy with all of its labels."
        )
