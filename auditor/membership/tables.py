"""The results as frames: one row per score, and one row per listed text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from attacks.statistics.false_discovery import Shortlist
from attacks.statistics.intervals import Estimate
from attacks.statistics.membership_test import Evaluation, ScoreResult
from attacks.statistics.roc import Auc, TprAtFpr
from attacks.statistics.thresholds import HeldOutThreshold


def score_table(
    evaluation: Evaluation,
    held_out: Mapping[str, HeldOutThreshold],
    lists: Mapping[str, Shortlist],
) -> pd.DataFrame:
    """One row per attack and blind baseline, the highest AUC of each kind first."""
    rows = [
        {**_row(kind, result), **_held_out(held_out.get(result.name)), **_list(lists, result.name)}
        for kind, results in (("attack", evaluation.attacks), ("blind", evaluation.blinds))
        for result in sorted(results, key=lambda r: -r.auc.value if r.auc else math.inf)
    ]
    table = pd.DataFrame(rows)
    for name in [n for n in table.columns if n.endswith("_withheld")]:
        # If a score is withheld as a whole, all of its cells say why.
        table[name] = table[name].astype(object).where(table[name].notna(), table["withheld"])
    return table


def listed_table(doc_ids: list[str], scores, made: Shortlist) -> pd.DataFrame:
    """The shortlist, one row per text, the highest score first."""
    values = np.asarray(scores, dtype=np.float64)
    return pd.DataFrame(
        {
            "rank": np.arange(1, len(made.chosen) + 1),
            "doc_id": [doc_ids[i] for i in made.chosen],
            "score": values[made.chosen],
            "p_value": made.p_values[made.chosen],
        }
    )


def shown_table(table: pd.DataFrame) -> pd.DataFrame:
    """The table for display: each estimate with its interval, or "withheld"."""
    rows = []
    for row in table.to_dict("records"):
        cells = {"score": row["score"], "kind": row["kind"]}
        cells["AUC (95 %)"] = _shown(row, "auc", 1, 3) or "withheld"
        for name in targets_of(table):
            why = not row["withheld"] and row[f"{name}_withheld"]
            cells[shown_fpr(name)] = _shown_tpr(row, name) or ("withheld" if why else "")
        cells["corrected p"] = _p(row["p_corrected"])
        cells["p of a claim"] = _p(row["p_claim"])
        cells["above blind"] = _shown(row, "above_blind", 1, 3)
        rows.append(cells)
    shown = pd.DataFrame(rows)
    return shown.loc[:, [bool((shown[name] != "").any()) for name in shown.columns]]


def targets_of(table: pd.DataFrame) -> list[str]:
    """The columns with a TPR at an FPR, without their intervals and thresholds.

    >>> targets_of(pd.DataFrame(columns=["tpr_at_0.1", "tpr_at_0.1_low", "tpr_at_0.1_threshold"]))
    ['tpr_at_0.1']
    """
    names = [n.removesuffix("_threshold") for n in table.columns if n.startswith("tpr_at_")]
    return list(dict.fromkeys(n for n in names if n.count("_") == 2))


def shown_fpr(name: str) -> str:
    """The heading of such a column.

    >>> shown_fpr("tpr_at_0.01")
    'TPR at 1 % FPR'
    """
    return f"TPR at {100 * float(name.removeprefix('tpr_at_')):g} % FPR"


def _shown_tpr(row: Mapping[str, Any], name: str) -> str:
    """The TPR with its interval, and the interval of the FPR at its threshold."""
    shown = _shown(row, name, 100, 1)
    low, high = (100 * row.get(f"{name}_fpr{end}", math.nan) for end in ("_low", "_high"))
    return f"{shown[:-1]}; FPR {low:.2g}–{high:.2g} %)" if shown else ""


def _row(kind: str, result: ScoreResult) -> dict[str, Any]:
    auc = result.auc or Auc()
    row: dict[str, Any] = {
        "score": result.name,
        "kind": kind,
        "n_members": auc.n_members,
        "n_nonmembers": auc.n_nonmembers,
        "n_undefined": auc.n_undefined,
        **auc.columns("auc"),
        "p_value": auc.p_value,
        "p_corrected": result.p_corrected,
    }
    for tpr in result.tpr:
        row |= _tpr(tpr)
    return row | {
        "nearest_blind": result.blind,
        **result.above_blind.columns("above_blind"),
        "p_above_blind": result.above_blind.p_value,
        "p_claim": result.p_claim,
        "withheld": result.withheld,
    }


def _tpr(made: TprAtFpr) -> dict[str, Any]:
    name = f"tpr_at_{made.target:g}"
    return {
        **(made.tpr or Estimate()).columns(name),
        f"{name}_threshold": made.threshold,
        **(made.fpr or Estimate()).columns(f"{name}_fpr"),
        f"{name}_withheld": made.withheld,
    }


def _held_out(made: HeldOutThreshold | None) -> dict[str, Any]:
    """A threshold fitted on half of the non-members and tested on the rest."""
    row: dict[str, Any] = {"held_out_target": made.target if made else math.nan}
    row["held_out_threshold"] = made.threshold if made else math.nan
    for name, share in (("fpr", made.fpr if made else None), ("tpr", made.tpr if made else None)):
        row |= (share or Estimate()).columns(f"held_out_{name}")
    return row | {"held_out_withheld": made.withheld if made else ""}


def _list(lists: Mapping[str, Shortlist], name: str) -> dict[str, Any]:
    made = lists.get(name)
    return {
        "n_listed": len(made.chosen) if made and not made.withheld else math.nan,
        "estimated_false": made.estimated_false if made and not made.withheld else math.nan,
        "list_withheld": made.withheld if made else "",
    }


def _shown(row: Mapping[str, Any], name: str, scale: float, decimals: int) -> str:
    value = row.get(name, math.nan)
    if not isinstance(value, float) or math.isnan(value):
        return ""
    ends = (scale * row[f"{name}_low"], scale * row[f"{name}_high"])
    unit = " %" if scale == 100 else ""
    sign = "+" if name == "above_blind" else ""
    between = " to " if sign else "–"
    shown = [f"{end:{sign}.{decimals}f}" for end in ends]
    return f"{scale * value:{sign}.{decimals}f}{unit} ({shown[0]}{between}{shown[1]})"


def _p(value: float) -> str:
    if math.isnan(value):
        return ""
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"
