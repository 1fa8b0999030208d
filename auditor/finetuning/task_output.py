"""Output of a fine-tuning on tasks: the tables and the page of utility and leakage."""

from __future__ import annotations

from typing import Any

import pandas as pd

from auditor.config.finetuning import FinetuneConfig
from auditor.finetuning.task_report import Groups, example_table, task_shown, task_table
from auditor.finetuning.task_training import TaskSet
from auditor.runs.result_folder import storable
from reports.pages.comparison_page import ComparisonPage, render_comparison

REPORT, EXAMPLES = "task_report", "task_examples"
_INTERVALS = (
    "95 % intervals: Clopper–Pearson for accuracy, percentiles of the bootstrap for F1 and "
    "Matthews' correlation, Fisher's z for correlations, the wider of DeLong and Newcombe for AUC"
)


def report_files(
    config: FinetuneConfig, found: TaskSet, before: Groups, after: Groups
) -> dict[str, Any]:
    """Tables and page, as `result_folder.save` takes them."""
    table = task_table(found.tasks, before, after, found.canaries, seed=config.seed)
    page = ComparisonPage(
        title="Utility and leakage before and after fine-tuning",
        headline=task_headline(table),
        about=[
            ("Model", config.model),
            ("Tasks", ", ".join(config.tasks)),
            *([("Pretrained on", ", ".join(config.pretrain_on))] if config.pretrain_on else []),
            ("Epochs", f"{config.epochs:g}"),
        ],
        tables=[
            (f"{title} ({_INTERVALS})", task_shown(table[table["kind"] == kind]))
            for kind, title in (("utility", "Utility"), ("leakage", "Leakage"))
        ],
        notices=sorted(
            {
                f"{row.figure}: withheld, {row.withheld}."
                for row in table.itertuples()
                if row.withheld
            }
        ),
    )
    return {
        "tables": {REPORT: table, EXAMPLES: example_table(found.tasks, before, after)},
        "files": {f"{REPORT}.html": storable(render_comparison(page)).encode()},
    }


def task_headline(table: pd.DataFrame) -> list[str]:
    """A sentence per task: its first metric, and how well members are told apart."""
    head = []
    for name, own in table.groupby("task", sort=False):
        metric = own[own["kind"] == "utility"].iloc[0]
        leak = own[own["kind"] == "leakage"].iloc[0]
        head.append(
            f"{name}: {metric['figure']} on validation is {metric['after']:.3f} after fine-tuning "
            f"({metric['before']:.3f} before); the loss tells train examples from held-out ones "
            f"with an AUC of {leak['after']:.3f} ({leak['after_low']:.3f}–"
            f"{leak['after_high']:.3f}), {leak['before']:.3f} before."
        )
    return head
