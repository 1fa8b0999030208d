"""Notes on a comparison: what was left out or withheld."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pandas as pd

from auditor.membership.sides import Side
from auditor.membership.tables import shown_fpr, targets_of


def notes_on_sides(
    members: Side, nonmembers: Side, n_shared: int, one_sided: list[str]
) -> list[str]:
    """Shared texts, scores that one side lacks, and texts that are truncated or repeated."""
    notes = []
    if n_shared:
        notes.append(f"{n_shared:,} texts that are both members and non-members were left out.")
    if one_sided:
        notes.append(f"Scores that only one side has were left out: {', '.join(one_sided)}.")
    cut = [
        side.about.get("nonmember_prefix", {}).get("texts_cut", 0) for side in (members, nonmembers)
    ]
    if any(cut):
        notes.append(
            f"{cut[0]:,} members and {cut[1]:,} non-members do not fit into the context after "
            "the prefix: recall and con_recall are computed from their first tokens."
        )
    for what, side in (("members", members), ("non-members", nonmembers)):
        n_repeated = 0 if side.texts is None else len(side) - len(set(side.texts))
        if n_repeated:
            notes.append(
                f"{n_repeated:,} of {len(side):,} {what} repeat another text. Intervals and "
                "p-values assume independent texts, so they are too small."
            )
    return notes


def notes_on_columns(columns: Mapping[str, tuple], members: Side, nonmembers: Side) -> list[str]:
    """Scores that are undefined for some texts: how many and, if known, why."""
    notes = []
    for name, sides in columns.items():
        lost = [int(np.isnan(side).sum()) for side in sides]
        if any(lost):
            known = [
                side.about.get("undefined", {}).get(name, {}) for side in (members, nonmembers)
            ]
            reasons = "; ".join(dict.fromkeys(reason for side in known for reason in side))
            why = f" ({reasons})" if reasons else ""
            notes.append(
                f"{name} is undefined for {lost[0]:,} of {len(members):,} members and {lost[1]:,} "
                f"of {len(nonmembers):,} non-members{why}: left out of this score."
            )
    return notes


def notes_on_table(table: pd.DataFrame) -> list[str]:
    """Why a TPR is withheld, once for all scores with the same reason."""
    notes = []
    for name in targets_of(table):
        whole = table.loc[table["withheld"] == "", ["score", f"{name}_withheld"]]
        scores: dict[str, list[str]] = {}
        for score, why in whole.itertuples(index=False):
            if why:
                scores.setdefault(why, []).append(score)
        if not scores:
            continue
        usual = Counter({why: len(of) for why, of in scores.items()}).most_common(1)[0][0]
        parts = [usual, *(f"of {', '.join(scores[w])}: {w}" for w in scores if w != usual)]
        notes.append(f"{shown_fpr(name)} is withheld: {'; '.join(parts)}.")
    return notes
