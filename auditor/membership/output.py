"""Write a comparison's folder: tables, page and options."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from auditor.errors import RunError
from auditor.membership.membership_audit import MembersReport
from auditor.membership.tables import shown_table
from auditor.runs import result_folder
from auditor.runs.result_folder import storable
from auditor.system.atomic_files import is_free
from reports.pages.membership_page import MembersPage, render_members

_MANIFEST = "members.json"
_RULE = (
    "A claim needs an attack whose AUC is above 0.5 and clearly above that of every blind "
    "baseline; p-values are corrected by Holm for all scores of a kind."
)


def check_out(out: str | Path, *, overwrite: bool = False) -> None:
    """Raise an error unless the folder is free or has a comparison that may be replaced.

    Raises
    ------
    RunError
        If it has other content, or a comparison and `overwrite` is not given.
    """
    path = Path(out)
    if is_free(path, _MANIFEST):
        return
    if not (path / _MANIFEST).is_file():
        raise RunError(f"--out {out} exists and is not a membership result. Choose another --out.")
    if not overwrite:
        raise RunError(
            f"--out {out} contains a result. Add --overwrite to replace it, or choose another."
        )


def save(
    report: MembersReport, out: str | Path, *, overwrite: bool = False, reveal: bool = False
) -> Path:
    """Write members.csv and .parquet, listed.csv and .parquet, members.html, and members.json last.

    Personal data in document ids is masked in the CSV files and the page, unless `reveal`; Parquet
    keeps it.

    Returns
    -------
    The folder.

    Raises
    ------
    RunError
        As `check_out`; also if the folder cannot be written.
    """
    check_out(out, overwrite=overwrite)
    folder = Path(out)
    page = storable(render_members(_page(report, reveal))).encode()
    result_folder.save(
        folder,
        _MANIFEST,
        {**as_json(report), "revealed": reveal},
        tables={"members": report.table, "listed": report.listed},
        files={"members.html": page},
        reveal=reveal,
    )
    return folder


def as_json(report: MembersReport) -> dict[str, Any]:
    """All results as plain data, without text; undefined values are null."""
    verdict, short, whole = report.evaluation.verdict, report.shortlist, report.set_test
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


def _page(report: MembersReport, reveal: bool) -> MembersPage:
    settings, made = report.about["asked"], report.set_test
    rests_on = [
        _RULE,
        *([f"The test of the set: {made.assumptions}"] if made else []),
        *([f"The shortlist: {report.shortlist.assumption}."] if report.shortlist else []),
    ]
    shown = (("members", "Members"), ("nonmembers", "Non-members"), ("model", "Model"))
    about = [(label, _listed(settings[name])) for name, label in shown if settings[name]]
    if not settings["model"] and (scored := report.about["members"].get("model")):
        about.append(("Model", scored["spec"]))
    if made_with := report.about["members"].get("references"):
        about.append(("References", ", ".join(made_with)))
    return MembersPage(
        title="Members against non-members",
        headline=report.sentences(),
        rests_on=rests_on,
        notices=list(report.notes),
        about=[*about, ("Seed", str(settings["seed"]))],
        table=shown_table(report.table),
        listed=report.listed,
        list_by=report.list_by,
        # The best of each kind first: the number of curves is limited.
        curves={
            name: report.curves[name] for name in report.table["score"] if name in report.curves
        },
        blind=[r.name for r in report.evaluation.blinds],
        reveal=reveal,
    )


def _listed(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
