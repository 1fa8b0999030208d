"""Utility and leakage of a task, before and after fine-tuning, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from attacks.scores.label_scores import confidence, label_likelihood, negative_modified_entropy
from attacks.statistics.exposure import exposure_by_interpolation
from attacks.statistics.intervals import Estimate
from attacks.statistics.resampling import bootstrap_mean
from attacks.statistics.roc import TARGETS, auc, tpr_at_fpr
from attacks.statistics.task_metrics import task_metric
from auditor.canaries.canaries import Canary
from auditor.finetuning.task_models import Answers, Item
from auditor.finetuning.tasks import Task

TRAIN, HELD_OUT, VALIDATION = "train", "held out", "validation"
CANARIES, CONTROLS = "canaries", "controls"
# Figures of leakage, in words.
_AUC, _TPR = "AUC of {}", "TPR at {:g} % FPR of {}"


@dataclass(frozen=True)
class Measured:
    """The items of one task and group, with a model's answers to them."""

    items: Sequence[Item]
    answers: Answers


# By index of the task, and group.
Groups = Mapping[tuple[int, str], Measured]


def task_table(
    tasks: Sequence[Task],
    before: Groups,
    after: Groups,
    canaries: Sequence[Canary] = (),
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """One row per task and figure, with its value and 95 % interval before and after.

    Parameters
    ----------
    tasks : sequence of Task
    before, after : the answers of the model before and after fine-tuning, to the same items
    canaries : inserted canaries, in the order of their items in the first task
    seed : int, of bootstraps

    Returns
    -------
    DataFrame: task; kind ("utility" or "leakage"); figure; group; before, before_low, before_high;
    after, after_low, after_high; n, the examples behind it; withheld, the reason if there is no
    value. Membership: train examples against held-out ones, and canaries against controls; higher
    = more leakage.
    """
    rows = []
    for i, task in enumerate(tasks):
        found = [{g: m for (own, g), m in when.items() if own == i} for when in (before, after)]
        pairs = [
            *_both(found, lambda groups, task=task: _utility(task, groups, seed), "utility"),
            *_both(found, _leakage, "leakage"),
        ]
        if CANARIES in found[1]:
            pairs += _both(found, lambda groups: _of_canaries(groups, canaries), "leakage")
        rows += [{"task": task.name, **row} for row in pairs]
    return pd.DataFrame(rows)


# Of a figure: its name, the group of examples, the estimate, and how many examples it is from.
_Figure = tuple[str, str, Estimate, int]


def _both(
    found: Sequence[Mapping[str, Measured]],
    figures: Callable[[Mapping[str, Measured]], list[_Figure]],
    kind: str,
) -> list[dict]:
    """Rows of the figures before and after, which are the same ones."""
    return [
        {
            "kind": kind,
            "figure": name,
            "group": group,
            **old.columns("before"),
            **new.columns("after"),
            "n": n,
            "withheld": new.why,
        }
        for (name, group, old, _), (_, _, new, n) in zip(*map(figures, found), strict=True)
    ]


def _utility(task: Task, groups: Mapping[str, Measured], seed: int) -> list[_Figure]:
    """The task's metrics on validation, and for comparison on train and held-out examples."""
    found = []
    for metric in task.metrics:
        for group in (VALIDATION, TRAIN, HELD_OUT):
            measured = groups[group]
            n = len(measured.items)
            if metric == "target_nll":
                made = bootstrap_mean(-measured.answers.likelihood, seed=seed)
            else:
                truth = [
                    item.example.value if task.kind == "number" else item.example.label
                    for item in measured.items
                ]
                made = task_metric(metric, measured.answers.predicted, truth, seed=seed)
            found.append((metric, group, made, n))
    return found


def membership_scores(measured: Measured) -> dict[str, np.ndarray]:
    """The membership scores of each item, by name; higher = more likely memorized.

    For labels the likelihood (the negative loss), the confidence and the negative modified entropy;
    otherwise the likelihood alone, see `Answers`.
    """
    answers = measured.answers
    if answers.logprob is None:
        return {"likelihood": answers.likelihood}
    labels = np.array([item.example.label for item in measured.items], dtype=np.int64)
    return {
        "likelihood": label_likelihood(answers.logprob, labels),
        "confidence": confidence(answers.logprob),
        "modified_entropy": negative_modified_entropy(answers.logprob, labels),
    }


def _leakage(groups: Mapping[str, Measured]) -> list[_Figure]:
    scores = [membership_scores(groups[group]) for group in (TRAIN, HELD_OUT)]
    group = "train against held out"
    return [f for name in scores[0] for f in _separation(name, group, *(s[name] for s in scores))]


def _separation(name: str, group: str, members: np.ndarray, others: np.ndarray) -> list[_Figure]:
    """AUC and TPR at low FPR of one score."""
    n = len(members) + len(others)
    names = [_AUC.format(name), *(_TPR.format(100 * target, name) for target in TARGETS)]
    try:
        area: Estimate = auc(members, others)
        rates = [r.tpr or Estimate(why=r.withheld) for r in tpr_at_fpr(members, others)]
    except ValueError as error:
        area, rates = Estimate(why=str(error)), [Estimate(why=str(error))] * len(TARGETS)
    return [(one, group, made, n) for one, made in zip(names, [area, *rates], strict=True)]


def _of_canaries(groups: Mapping[str, Measured], canaries: Sequence[Canary]) -> list[_Figure]:
    """Mean exposure and AUC of the canaries' answers, by their number of repeats."""
    own, others = (groups[g].answers.likelihood for g in (CANARIES, CONTROLS))
    repeats = np.array([canary.repeats for canary in canaries])
    found: list[_Figure] = []
    for often in sorted(set(repeats.tolist())):
        some = own[repeats == often]
        group = f"canaries inserted {often:,} times" if often > 1 else "canaries inserted once"
        bits = exposure_by_interpolation(some, others)
        found.append(("mean exposure, bits", group, bootstrap_mean(bits), len(some)))
        found += _separation("likelihood", f"{group}, against controls", some, others)[:1]
    return found


def example_table(tasks: Sequence[Task], before: Groups, after: Groups) -> pd.DataFrame:
    """One row per measured example: task, group, label, predictions, and scores before and after.

    Columns: task; group; example, its number in the group; answer, the label's word (empty for a
    task that asks for text); predicted_before and _after; for each membership score NAME_before and NAME_after, NaN where it is not defined.
    """
    parts = []
    for (task, group), new in after.items():
        frame = pd.DataFrame(
            {
                "task": tasks[task].name,
                "group": group,
                "example": np.arange(1, len(new.items) + 1),
                "answer": [i.example.answer if tasks[task].words else "" for i in new.items],
            }
        )
        for when, measured in (("before", before[task, group]), ("after", new)):
            frame[f"predicted_{when}"] = measured.answers.predicted
            for name, values in membership_scores(measured).items():
                frame[f"{name}_{when}"] = values
        parts.append(frame)
    return pd.concat(parts, ignore_index=True)


def task_shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table for the page: each estimate with its interval."""

    def cell(row: pd.Series, when: str) -> str:
        if np.isnan(row[when]):
            return "withheld" if row["withheld"] else "–"
        if np.isnan(row[f"{when}_low"]):
            return f"{row[when]:.3f}"
        return f"{row[when]:.3f} ({row[f'{when}_low']:.3f}–{row[f'{when}_high']:.3f})"

    return pd.DataFrame(
        {
            "task": table["task"],
            "figure": table["figure"],
            "examples": table["group"],
            "before": [cell(row, "before") for _, row in table.iterrows()],
            "after": [cell(row, "after") for _, row in table.iterrows()],
            "n": [f"{n:,}" for n in table["n"]],
        }
    )
