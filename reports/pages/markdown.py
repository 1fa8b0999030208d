"""A report as Markdown, for a pull request: counts and sentences, no generated text."""

import re

import pandas as pd

from reports.analysis.content_types import content_table
from reports.analysis.strategy_estimates import INTERVALS
from reports.analysis.summary import list_intervals, shown_truth, table2, truth_caption
from reports.pages.gates_section import ShownOutcome
from reports.pages.page_content import ReportPage, masked, with_personal
from reports.privacy.candidates import personal_table
from reports.safe_text import visible

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def render_markdown(report: ReportPage) -> str:
    """The findings of the report as GitHub-flavoured Markdown.

    It contains no generated text. Personal data elsewhere, such as in a prompt on the command line,
    is masked unless the report has `reveal`.
    """
    report = with_personal(report)
    candidates = report.candidates
    report, _, _ = masked(report)
    parts = [f"## {escape(report.title)}"]
    parts += [f"> **{escape(sentence)}**" for sentence in report.incomplete]
    parts += _outcome(report.outcome)
    parts += [escape(sentence) for sentence in report.headline]
    parts.append(_table("Found verbatim, of the candidates", table2(report.summary).reset_index()))
    parts.append(escape(f"In brackets, {list_intervals(report.summary)}."))
    claims, calibration = report.claims, report.calibration
    if claims and claims.strategies:
        parts.append(_rows_table("Unselected samples, and what is left to find", claims.strategies))
        parts.append(escape(INTERVALS))
    if calibration:
        parts.append(_rows_table(calibration.title, calibration.table))
        parts += [escape(sentence) for sentence in calibration.assumes[-1:]]
    if "content_kinds" in candidates:
        kinds = content_table(candidates).set_axis(["Kind", "Candidates", "Verbatim"], axis=1)
        parts.append(_table("Kinds of text, assigned by rules", kinds))
    if "n_personal" in candidates:
        found = personal_table(candidates)
        if (found["n_items"] > 0).any():
            names = ["Kind", "Occurrences", "Candidates", "Verbatim"]
            found = found[found["n_items"] > 0].set_axis(names, axis=1)
            parts.append(_table("Personal data, detected by rules", found))
    if report.truth_table is not None and len(report.truth_table):
        parts.append(_table(truth_caption(report.truth_table), shown_truth(report.truth_table)))
    parts += _listed("What is not claimed", report.not_claimed)
    parts += _listed("Notes", report.notices)
    parts += _listed("What was audited", [f"{label}: {value}" for label, value in report.about])
    parts.append(f"Made by `{visible(report.command).replace('`', chr(39))}`")
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no mention, one line.

    >>> escape("a *b* <c> @d")
    'a \\\\*b\\\\* \\\\<c\\\\> &#64;d'
    """
    shown = visible(text, double_backslash=False)
    return _SPECIAL.sub(r"\\\1", shown.replace("&", "&amp;")).replace("@", "&#64;")


def _rows_table(title: str, table: tuple[list[str], list[list[str]], int]) -> str:
    header, rows, _ = table
    return _table(title, pd.DataFrame(rows, columns=header))


def _outcome(outcome: ShownOutcome) -> list[str]:
    """Gates and changes since the previous run; failed gates and warnings are bold."""
    parts = [f"**{escape(outcome.heading)}.** {escape(outcome.why)}".strip()]
    lines = [f"{gate.name} {gate.word}: {gate.sentence}" for gate in outcome.gates]
    parts.append(
        "\n".join(
            f"- {escape(line)}" if gate.state == "pass" else f"- **{escape(line)}**"
            for gate, line in zip(outcome.gates, lines, strict=True)
        )
    )
    return [part for part in (parts if outcome.heading else []) if part] + (
        [escape(outcome.since)] if outcome.since else []
    )


def _listed(title: str, sentences: list[str]) -> list[str]:
    return [f"### {title}", "\n".join(f"- {escape(s)}" for s in sentences)] if sentences else []


def _table(title: str, frame: pd.DataFrame) -> str:
    head = [escape(str(name)) for name in frame.columns]
    rows = [[escape(str(cell)) for cell in row] for row in frame.to_numpy().tolist()]
    lines = [head, ["---"] * len(head), *rows]
    return f"### {title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)
