"""How each kind of model reads and answers labelled examples.

A masked model (BERT) gets a classification head; all tasks share its encoder, and each has its own
outputs of the head. An encoder-decoder (T5) and a causal model (GPT-2) answer in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy, mse_loss

from auditor.errors import ModelError
from auditor.finetuning.rows import IGNORED, Rows
from auditor.finetuning.tasks import Example, Task
from auditor.models.preserve_state import evaluation_mode

_BATCH = 32  # examples scored at once


class Item(NamedTuple):
    """An example as a model reads it.

    ids, types : tokens, and for each the text that it belongs to (0 or 1)
    task : index of its task
    """

    ids: list[int]
    types: list[int]
    task: int
    example: Example


class TaskRows(Rows):
    """Labelled examples to train on, in place of rows of text."""

    def __init__(self, items: Sequence[Item], order: NDArray[np.int64]):
        rows = Rows.of([np.array(item.ids, dtype=np.int32) for item in items], order)
        super().__init__(rows.tokens, rows.offsets, rows.order)
        self.items = items

    def __getitem__(self, i: int) -> Item:  # type: ignore[override]
        return self.items[self.order[i]]


@dataclass(frozen=True)
class Answers:
    """What a model answers to n examples of one task.

    logprob : float64 array (n, labels) or None
        Log-probabilities of the labels, nats, normalized over the labels. None for a regression
        head, and for a task that asks for text.
    predicted : float64 array (n,)
        The most likely label, or the number; NaN for a task that asks for text.
    likelihood : float64 array (n,)
        How well the true answer is predicted; higher = more likely memorized. Log-probability of
        the label, in nats; of a text, per token; of a number from a regression head, the negative
        squared error.
    """

    logprob: NDArray[np.float64] | None
    predicted: NDArray[np.float64]
    likelihood: NDArray[np.float64]


class Heads:
    """A masked model as classifier: one head for all tasks, of which each task has its outputs.

    Parameters
    ----------
    tokenizer : of the model
    tasks : sequence of Task, with classes or numbers
    width : int, tokens; longer examples are truncated
    """

    def __init__(self, tokenizer, tasks: Sequence[Task], width: int):
        self.tokenizer, self.tasks, self.width = tokenizer, tasks, width
        sizes = [1 if task.kind == "number" else len(task.words) for task in tasks]
        ends = np.cumsum(sizes).tolist()
        self.outputs = [range(end - size, end) for size, end in zip(sizes, ends, strict=True)]
        self.n_labels = ends[-1]

    @property
    def names(self) -> dict[int, str]:
        """The name of each output, for the model's config."""
        return {
            place: task.name if task.kind == "number" else f"{task.name}: {word}"
            for task, places in zip(self.tasks, self.outputs, strict=True)
            for place, word in zip(places, task.words, strict=False)
        }

    def item(self, task: int, example: Example) -> Item:
        """Encode an example, with special tokens."""
        texts = [_clean(text) for text in example.texts]
        coded = self.tokenizer(
            *texts, truncation=True, max_length=self.width, return_token_type_ids=True
        )
        return Item(coded["input_ids"], coded["token_type_ids"], task, example)

    def collate(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        """A batch: padded inputs, and labels of (task, label, value), float32 (items, 3)."""
        batch = _padded([item.ids for item in items], self.tokenizer.pad_token_id or 0)
        if "token_type_ids" in self.tokenizer.model_input_names:
            batch["token_type_ids"] = _padded([item.types for item in items], 0)["input_ids"]
        rows = [(item.task, item.example.label, item.example.value) for item in items]
        return {**batch, "labels": torch.tensor(rows, dtype=torch.float32)}

    def loss(self, outputs: Any, labels: torch.Tensor, **_: Any) -> torch.Tensor:
        """Mean loss of a batch: cross entropy over a task's outputs, squared error of numbers."""
        losses = []
        for i, (task, places) in enumerate(zip(self.tasks, self.outputs, strict=True)):
            own = labels[:, 0] == i
            logits = outputs["logits"][own][:, places.start : places.stop].float()
            if task.kind == "number":
                wanted = labels[own, 2].float()
                losses.append(mse_loss(logits[:, 0], wanted, reduction="sum"))
            else:
                losses.append(cross_entropy(logits, labels[own, 1].long(), reduction="sum"))
        return torch.stack(losses).sum() / len(labels)

    def answers(self, network, items: Sequence[Item]) -> Answers:
        """The answers to items of one task."""
        task, places = self.tasks[items[0].task], self.outputs[items[0].task]

        def one(batch: dict[str, torch.Tensor]) -> torch.Tensor:
            batch.pop("labels")
            return _forward(network)(**batch).logits[:, places.start : places.stop].double()

        logits = _in_batches(network, items, self.collate, one)
        if task.kind == "number":
            wanted = np.array([item.example.value for item in items])
            return Answers(None, logits[:, 0], -((logits[:, 0] - wanted) ** 2))
        return _of_labels(task, items, torch.from_numpy(logits).log_softmax(-1).numpy())


class Words:
    """An encoder-decoder or a causal model, which answers in words.

    The prompt is that of T5: the task's name, and each column with its name. A causal model is
    prompted with "label:" after it. Only the answer is trained on.

    Parameters
    ----------
    tokenizer : of the model
    tasks : sequence of Task
    width : int, tokens; the texts of longer examples are truncated
    is_causal : bool

    Source
    ------
    Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
    Transformer", section 2.4 and appendix D.
    """

    def __init__(self, tokenizer, tasks: Sequence[Task], width: int, *, is_causal: bool):
        self.tokenizer, self.tasks, self.width = tokenizer, tasks, width
        self.is_causal = is_causal
        self.end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        for task in tasks:
            self._check_words(task)

    def item(self, task: int, example: Example) -> Item:
        """Encode the prompt of an example."""
        own = self.tasks[task]
        columns = zip(own.columns, example.texts, strict=True)
        text = " ".join([own.short, *(f"{name}: {_clean(value)}" for name, value in columns)])
        if self.is_causal:
            start = [] if self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]
            last = self._ids(f"\n{'label' if own.words else own.target}:")
        else:
            start, last = [], self.end
        room = self.width - len(start) - len(last)
        if self.is_causal:
            room -= len(self._answer(example.answer))
        ids = [*start, *self._ids(text)[: max(1, room)], *last]
        return Item(ids, [0] * len(ids), task, example)

    def collate(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        """A batch: padded inputs, and as labels the tokens of the answers."""
        return self._batch(items, [self._answer(item.example.answer) for item in items])

    loss = None  # the networks compute it

    def answers(self, network, items: Sequence[Item]) -> Answers:
        """The answers to items of one task."""
        task = self.tasks[items[0].task]
        if not task.words:
            total = self._totals(network, items, [item.example.answer for item in items])
            n_tokens = [len(self._answer(item.example.answer)) for item in items]
            none = np.full(len(items), np.nan)
            return Answers(None, none, total / np.array(n_tokens))
        totals = [self._totals(network, items, [word] * len(items)) for word in task.words]
        logprob = torch.from_numpy(np.stack(totals, axis=1)).log_softmax(-1).numpy()
        return _of_labels(task, items, logprob)

    def _totals(self, network, items: Sequence[Item], answers: Sequence[str]) -> NDArray:
        """Log-probability of an answer to each item, nats."""
        asked = [
            item._replace(example=Example((), -1, np.nan, answer))
            for item, answer in zip(items, answers, strict=True)
        ]

        def one(batch: dict[str, torch.Tensor]) -> torch.Tensor:
            labels = batch.pop("labels")
            if self.is_causal:
                logits, labels = _forward(network)(**batch).logits[:, :-1], labels[:, 1:]
            else:
                logits = _forward(network)(**batch, labels=labels).logits
            nats = -cross_entropy(
                logits.double().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
            )
            return nats.sum(-1, keepdim=True)

        return _in_batches(network, asked, self.collate, one)[:, 0]

    def _batch(self, items: Sequence[Item], answers: list[list[int]]) -> dict[str, torch.Tensor]:
        pad = self.tokenizer.pad_token_id or 0
        if not self.is_causal:
            labels = _padded(answers, IGNORED)["input_ids"]
            return {**_padded([item.ids for item in items], pad), "labels": labels}
        pairs = list(zip([item.ids for item in items], answers, strict=True))
        batch = _padded([[*ids, *answer] for ids, answer in pairs], pad)
        hidden = [[*([IGNORED] * len(ids)), *answer] for ids, answer in pairs]
        return {**batch, "labels": _padded(hidden, IGNORED)["input_ids"]}

    def _answer(self, text: str) -> list[int]:
        spaced = f" {_clean(text)}" if self.is_causal else _clean(text)
        return [*self._ids(spaced)[: max(1, self.width // 2)], *self.end]

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _check_words(self, task: Task) -> None:
        """Raise ModelError if the tokenizer cannot tell the label words apart."""
        coded = [tuple(self._answer(word)) for word in task.words]
        unknown = self.tokenizer.unk_token_id
        wrong = [
            word
            for word, ids in zip(task.words, coded, strict=True)
            if len(ids) == len(self.end) or unknown in ids or coded.count(ids) > 1
        ]
        if wrong:
            raise ModelError(
                f"--task {task.name}: the model answers with the words {', '.join(task.words)}, "
                f"but its tokenizer has no tokens that tell {', '.join(wrong)} apart. Use another "
                "model."
            )


def _of_labels(task: Task, items: Sequence[Item], logprob: NDArray) -> Answers:
    labels = np.array([item.example.label for item in items])
    predicted = logprob.argmax(axis=1).astype(np.float64)
    if task.values:
        predicted = np.array(task.values)[logprob.argmax(axis=1)]
    return Answers(logprob, predicted, logprob[np.arange(len(items)), labels])


def _in_batches(network, items: Sequence[Item], collate, one) -> NDArray[np.float64]:
    """A figure (or several) of each item, in batches of about equal lengths."""
    order = np.argsort([-len(item.ids) for item in items], kind="stable")
    found: list[NDArray[np.float64] | None] = [None] * len(items)
    device = next(network.parameters()).device
    with evaluation_mode(network), torch.inference_mode():
        for at in range(0, len(items), _BATCH):
            some = order[at : at + _BATCH].tolist()
            batch = {k: v.to(device) for k, v in collate([items[i] for i in some]).items()}
            for i, row in zip(some, one(batch).cpu().numpy(), strict=True):
                found[i] = row
    return np.stack(found) if found else np.zeros((0, 1))  # type: ignore[arg-type]


def _padded(rows: Sequence[Sequence[int]], fill: int) -> dict[str, torch.Tensor]:
    """Rows padded on the right: input_ids and attention_mask, int64 (rows, longest)."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), fill)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def _forward(network):
    # Accelerate wraps forward in mixed precision; measure in the precision of the weights.
    return getattr(network, "_original_forward", network)


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
