"""The folder of a comparison: tables, the page, and what was asked."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from auditor.errors import RunError
from auditor.membership.membership_audit import MembersReport
from auditor.membership.tables import shown_table
from auditor.system.atomic_files import make_own, write_atomically
from reports.csv_files import write_csv
from reports.pages.membership_page import MembersPage, render_members

_MANIFEST = "members.json"
_RULE = (
    "A claim needs an attack whose AUC is above 0.5 and clearly above that of every blind "
    "baseline; p-values are corrected by Holm for all scores of a kind."
)


def check_out(out: str | Path, *, overwrite: bool = False) -> None:
    """An error unless the folder is free, or holds a comparison that may be replaced.

    Raises
    ------
    RunError
        If it holds something else, or a comparison and `overwrite` is not given.
    """
    path = Path(out)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not (path / _MANIFEST).is_file():
        raise RunError(
            f"--out {out} exists and is no folder of a comparison. Choose another --out."
        )
    if not overwrite:
        raise RunError(
            f"--out {out} holds a comparison. Add --overwrite to replace it, or choose another."
        )


def save(report: MembersReport, out: str | Path, *, overwrite: bool = False) -> Path:
    """Write members.csv and .parquet, listed.csv and .parquet, members.html, and members.json last.

    Returns
    -------
    The folder.

    Raises
    ------
    RunError
        As `check_out`; if the folder cannot be written.
    """
    check_out(out, overwrite=overwrite)
    folder = Path(out)
    make_own(folder)
    for name, frame in (("members", report.table), ("listed", report.listed)):
        sink, text = io.BytesIO(), io.StringIO(newline="")
        clean = _storable(frame)
        clean.to_parquet(sink, index=False)
        write_csv(clean, text)
        write_atomically(folder / f"{name}.parquet", sink.getvalue())
        write_atomically(folder / f"{name}.csv", text.getvalue().encode("utf-8"))
    page = render_members(_page(report)).encode("utf-8", "backslashreplace")
    write_atomically(folder / "members.html", page)
    raw = json.dumps(as_json(report), indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    write_atomically(folder / _MANIFEST, raw.encode("utf-8", "backslashreplace"))
    return folder


def as_json(report: MembersReport) -> dict[str, Any]:
    """All that was found as plain data, no text; what has no value is null."""
    verdict, short, whole = report.evaluation.verdict, report.short_list, report.set_test
    return {
        "verdict": dict(verdict.__dict__),
        "scores": [
            {k: _plain(v) for k, v in row.items()} for row in report.table.to_dict("records")
        ],
        "set": None if whole is None else {k: _plain(v) for k, v in whole.__dict__.items()},
        "list": None
        if short is None
        else {
            "by": report.list_by,
            "fdr": short.fdr,
            "n_listed": len(short.chosen),
            "estimated_false": short.estimated_false,
            "n_candidates": short.n_candidates,
            "n_controls": short.n_controls,
            "withheld": short.withheld,
            "assumption": short.assumption,
        },
        "correction": "Holm, over all scores of a kind",
        "notes": list(report.notes),
        **report.about,
    }


def _page(report: MembersReport) -> MembersPage:
    asked, made = report.about["asked"], report.set_test
    rests_on = [
        _RULE,
        *([f"The test of the set: {made.assumptions}"] if made else []),
        *([f"The short list: {report.short_list.assumption}."] if report.short_list else []),
    ]
    shown = (("members", "Members"), ("nonmembers", "Non-members"), ("model", "Model"))
    about = [(label, _listed(asked[name])) for name, label in shown if asked[name]]
    if not asked["model"] and (scored := report.about["members"].get("model")):
        about.append(("Model", scored["spec"]))
    if made_with := report.about["members"].get("references"):
        about.append(("References", ", ".join(made_with)))
    return MembersPage(
        title="Members against non-members",
        headline=report.sentences(),
        rests_on=rests_on,
        notices=list(report.notes),
        about=[*about, ("Seed", str(asked["seed"]))],
        table=shown_table(report.table),
        listed=report.listed,
        list_by=report.list_by,
        # The best of each kind first: only so many are drawn.
        curves={
            name: report.curves[name] for name in report.table["score"] if name in report.curves
        },
        blind=[r.name for r in report.evaluation.blinds],
    )


def _listed(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def _storable(frame: pd.DataFrame) -> pd.DataFrame:
    """Ids may hold lone surrogates, from file names; files may not."""
    clean = frame.copy()
    for name in clean.columns:
        if not pd.api.types.is_numeric_dtype(clean[name]):
            clean[name] = [str(v).encode("utf-8", "backslashreplace").decode() for v in clean[name]]
    return clean
