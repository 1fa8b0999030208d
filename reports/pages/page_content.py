"""What a report's page shows, and the same without personal data."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from reports.figures.audit_figures import (
    by_repeats_figure,
    by_strategy_figure,
    figure3,
    precision_figure,
)
from reports.figures.figure_files import Drawing
from reports.figures.precision_at_rank import precision_at_rank, precision_at_rank_figure
from reports.pages.calibration_section import CalibrationSection
from reports.pages.estimates_section import EstimatesSection
from reports.pages.gates_section import ShownOutcome
from reports.privacy import Item
from reports.privacy.candidates import (
    OTHER_TEXTS,
    find_in_candidates,
    mask_candidates,
)
from reports.privacy.finding import Finder
from reports.privacy.redaction import mask, mask_personal


@dataclass(frozen=True, eq=False)
class ReportPage:
    """All that a page shows.

    title : str
    headline, not_claimed, notices : list of str
        Sentences; see `sentences`. Notices say what went wrong or was left out.
    about : list of (label, value)
        What was audited, when, with what.
    command : str
        What made it.
    config_toml, repeat : str
        How to repeat it.
    summary, scores, candidates : DataFrame
        See `schema`.
    truth_table : DataFrame, optional
        From `summary.by_repeats`.
    incomplete : list of str
        What the audit still lacks; shown first on the page.
    outcome : ShownOutcome
        Its gates, and the changes since the previous run.
    reveal : bool
        Show personal data, and mark the page as sensitive. Otherwise it is masked everywhere.
    personal : list a row of `candidates` of Item, optional
        Personal data, from `find_in_candidates`; searched for here if it is not given.
    attention : collection of str
        Samples that have a page of their attention: attention/ID.html.
    finders : sequence of Finder
        Finders of personal data besides the rules.
    claims : EstimatesSection, optional
        Estimates beyond the lists.
    strategies : DataFrame, optional
        The frame `strategies`, for the picture beside the verdict where no truth is known.
    calibration : CalibrationSection, optional
        Lists at a false discovery rate.
    """

    title: str
    headline: list[str]
    not_claimed: list[str]
    notices: list[str]
    about: list[tuple[str, str]]
    command: str
    config_toml: str
    summary: pd.DataFrame
    scores: pd.DataFrame
    candidates: pd.DataFrame
    truth_table: pd.DataFrame | None = None
    repeat: str = "auditor audit audit.toml"
    incomplete: Sequence[str] = ()
    outcome: ShownOutcome = field(default_factory=ShownOutcome)
    reveal: bool = False
    personal: Sequence[Sequence[Item]] | None = None
    attention: Collection[str] = ()
    finders: Sequence[Finder] = field(default=())
    claims: EstimatesSection | None = None
    strategies: pd.DataFrame | None = None
    calibration: CalibrationSection | None = None


@dataclass(frozen=True, eq=False)
class Masks:
    """The masks that a page with revealed personal data can show instead.

    texts : a row's masks, one for each piece of personal data in its text.
    others : column (prompt, doc_id, fuzzy_doc_id) -> text -> masked text, where they differ.
    """

    texts: list[list[str]]
    others: dict[str, dict[str, str]]


def with_personal(report: ReportPage) -> ReportPage:
    """The report with its personal data located, if it is not yet."""
    if report.personal is not None:
        return report
    return replace(report, personal=find_in_candidates(report.candidates, more=report.finders))


def masked(report: ReportPage) -> tuple[ReportPage, list[list[Item]], Masks | None]:
    """The content of the page: masked, or unmasked with the masks beside it.

    report : with `personal`.

    Returns:
    report : ReportPage
    places : list a row of Item. Personal data, or its masks, as places in the texts of that report.
    masks : Masks, or None where nothing is revealed
    """
    found = [list(items) for items in report.personal or []]
    if report.reveal:
        return report, found, _masks(report, found)
    more = tuple(report.finders)
    hide = mask_personal  # our own sentences: a tagger would find false names in them
    candidates, places = mask_candidates(report.candidates, found, more=more)
    shown = replace(
        report,
        title=hide(report.title),
        headline=[hide(s) for s in report.headline],
        not_claimed=[hide(s) for s in report.not_claimed],
        notices=[hide(s) for s in report.notices],
        incomplete=[hide(s) for s in report.incomplete],
        outcome=report.outcome.hidden(hide),
        about=[(hide(label), hide(value)) for label, value in report.about],
        command=hide(report.command),
        config_toml=hide(report.config_toml),
        repeat=hide(report.repeat),
        candidates=candidates,
    )
    return shown, places, None


def _masks(report: ReportPage, found: list[list[Item]]) -> Masks:
    texts = []
    for raw, items in zip(report.candidates["text"], found, strict=True):
        m = mask(raw, items) if items else None
        texts.append([m.text[i.start : i.end] for i in m.items] if m else [])
    more = tuple(report.finders)
    others: dict[str, dict[str, str]] = {}
    for name in OTHER_TEXTS:
        if name in report.candidates:
            known = [t for t in report.candidates[name].unique() if isinstance(t, str)]
            own = more if name == "prompt" else ()
            hidden = {text: mask_personal(text, more=own) for text in known}
            others[name] = {text: h for text, h in hidden.items() if h != text}
    return Masks(texts, others)


def draw_figures(report: ReportPage) -> dict[str, Drawing]:
    """The figures for which a report has numbers: truth, strategies, figure3, precision, ranks.

    Strategies without a verbatim candidate have no panel in `precision` and `ranks`.
    """
    drawn = {}
    if report.truth_table is not None and len(report.truth_table):
        drawn["truth"] = Drawing(
            by_repeats_figure(report.truth_table),
            "Plot: share of documents extracted, by repeats; numbers under Known truth.",
        )
    if report.strategies is not None and (report.strategies["n_looked_up"] > 0).any():
        drawn["strategies"] = Drawing(
            by_strategy_figure(report.strategies),
            "Dot plot: share of all samples that repeat training text, for each strategy.",
        )
    has_columns = {"nll", "zlib_bits"} <= set(report.scores.columns)
    # A served model may give no log-probabilities.
    if has_columns and report.scores["nll"].notna().any():
        drawn["figure3"] = Drawing(
            figure3(report.scores, report.candidates),
            "Scatter plot: zlib entropy against perplexity, a panel for each strategy.",
        )
    found = strategies_found(report.summary)
    summary = report.summary[report.summary["strategy"].isin(found)]
    if summary["precision"].notna().any():
        drawn["precision"] = Drawing(
            precision_figure(summary),
            "Dot plot: share of each list found verbatim, with intervals; numbers in the table.",
        )
    ranks = precision_at_rank(report.candidates[report.candidates["strategy"].isin(found)])
    if len(ranks):
        drawn["ranks"] = Drawing(
            precision_at_rank_figure(ranks),
            "Line plots: precision of the first k of each list against k, and a random draw.",
        )
    for drawing in drawn.values():
        # Lay out once: each format would do it again, which takes longer than drawing.
        drawing.figure.draw_without_rendering()
        drawing.figure.set_layout_engine("none")
    return drawn


def strategies_found(summary: pd.DataFrame) -> list[str]:
    """The strategies of which some list has a verbatim candidate, in their order.

    >>> strategies_found(pd.DataFrame({"strategy": ["a", "a", "b"], "n_verbatim": [0, 1, 0]}))
    ['a']
    """
    return list(dict.fromkeys(summary["strategy"][summary["n_verbatim"] > 0]))
