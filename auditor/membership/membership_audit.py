"""`audit_members`: compare members with non-members; returns the verdict and its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from attacks.statistics.blind_baselines import blind_scores
from attacks.statistics.false_discovery import Shortlist, calibrated_list
from attacks.statistics.membership_test import Evaluation, evaluate
from attacks.statistics.set_test import SetTest, set_test
from attacks.statistics.thresholds import held_out_threshold
from auditor.config.keywords import with_keywords
from auditor.config.membership import MembershipConfig
from auditor.config.scoring import ScoringConfig
from auditor.errors import ConfigError, CorpusError
from auditor.membership.notes import notes_on_columns, notes_on_sides, notes_on_table
from auditor.membership.sides import (
    Side,
    check_alike,
    check_disjoint,
    check_names,
    one_sided,
    read_side,
    score_names,
    scored_side,
    texts_of,
    without_shared,
)
from auditor.membership.tables import listed_table, score_table
from auditor.system.progress import NullProgress, progress_display

_HELD_OUT_FPR = 0.01


@dataclass(frozen=True, eq=False)
class MembersReport:
    """The result of `audit_members`.

    evaluation : attacks.statistics.membership_test.Evaluation
        With the verdict: `evaluation.verdict.sentence`, `.claim`, `.guard_fires`.
    table : DataFrame, one row per score, attacks first, then blind baselines
    listed : DataFrame
        The texts classified as members by `list_by` at the false discovery rate: rank, doc_id,
        score, p_value.
    shortlist : attacks.statistics.false_discovery.Shortlist or None
        None if the score is undefined.
    set_test : attacks.statistics.set_test.SetTest or None
        None if the sides are too small.
    curves : dict of score to (members, nonmembers), float arrays
        The scores behind the table, attacks and baselines.
    list_by : str
    notes : tuple of str
        What was left out or could not be computed.
    about : dict
        The options and the origin of the scores, as plain data.
    """

    evaluation: Evaluation
    table: pd.DataFrame
    listed: pd.DataFrame
    shortlist: Shortlist | None
    set_test: SetTest | None
    curves: dict[str, tuple[Any, Any]]
    list_by: str
    notes: tuple[str, ...]
    about: dict[str, Any]

    def sentences(self) -> list[str]:
        """The verdict first, then the results for the set and for single texts."""
        return [self.evaluation.verdict.sentence, self._of_the_set(), self._of_the_list()]

    def _of_the_set(self) -> str:
        made = self.set_test
        if made is None:
            return "The set as a whole was not tested."
        found = f"p = {made.p_value:.2g}, {made.n_tested[0]:,} against {made.n_tested[1]:,} texts"
        if made.p_value > self.evaluation.alpha:
            return f"As a set, the members do not score above the non-members ({found})."
        verdict = self.evaluation.verdict
        follows = (
            "This assumes that the split is random apart from training."
            if verdict.claim
            else "The model is not shown to separate the sets better than the blind baselines, so "
            "no claim about the set follows."
        )
        return f"As a set, the members score above the non-members ({found}). {follows}"

    def _of_the_list(self) -> str:
        made = self.shortlist
        if made is None or made.withheld:
            why = made.withheld if made else "the score is left out"
            return f"The shortlist by {self.list_by} is withheld: {why}."
        n, verdict = len(made.chosen), self.evaluation.verdict
        if not n:
            return (
                f"None of {made.n_candidates:,} members is listed by {self.list_by} at a false "
                f"discovery rate of {100 * made.fdr:g} %."
            )
        words = (
            f"{n:,} of {made.n_candidates:,} members are listed by {self.list_by} at a false "
            f"discovery rate of {100 * made.fdr:g} %. That is the expected share of false entries "
            "over many lists; a single list may have more."
        )
        if not verdict.claim:
            words += " Being listed means only that a text is unlike the non-members."
        return words


@with_keywords(MembershipConfig, ScoringConfig)
def audit_members(
    members: Sequence[str | Path],
    nonmembers: Sequence[str | Path],
    *,
    model: str | None = None,
    progress: NullProgress | bool | None = True,
    **options: Any,
) -> MembersReport:
    """Compare the scores of suspected members with those of known non-members.

    Parameters
    ----------
    members, nonmembers : sequences of path
        With a model: corpora. Without: score files (.parquet, .csv), one row per text.
    model : str, optional
        Spec of the model under audit.
    progress : a progress bar in a notebook and at a terminal; False or None = none
    options : the fields of MembershipConfig, and with a model those of ScoringConfig

    Returns
    -------
    MembersReport

    Raises
    ------
    ConfigError, CorpusError, ModelError
        If options are invalid, or inputs cannot be read or compared.
    """
    scoring = {
        name: options.pop(name)
        for name in list(options)
        if name in ScoringConfig.model_fields and name not in MembershipConfig.model_fields
    }
    options |= {"members": members, "nonmembers": nonmembers}
    config = MembershipConfig(**options)
    if model is None:
        _refuse_without_model(scoring)
        sides = [
            read_side(side, flag, texts=texts, text_field=config.text_field)
            for side, flag, texts in (
                (config.members, "--members", config.member_texts),
                (config.nonmembers, "--nonmembers", config.nonmember_texts),
            )
        ]
    else:
        _refuse_with_model(config)
        sides = _scored(config, {"model": model, **scoring}, progress_display(progress))
    settings = {
        "members": list(config.members),
        "nonmembers": list(config.nonmembers),
        "model": model,
        "references": _as_plain(scoring.get("references", ())),
        "fdr": config.fdr,
        "seed": config.seed,
        "list_by": config.list_by,
    }
    return compare(sides[0], sides[1], settings, config.scores, drop_shared=config.drop_shared)


def compare(
    members: Side,
    nonmembers: Side,
    settings: dict[str, Any],
    scores: Sequence[str] = (),
    *,
    drop_shared: bool = False,
) -> MembersReport:
    """The report on two sides; `settings` has fdr, seed and list_by."""
    check_alike(members, nonmembers)
    names = score_names(members, nonmembers, scores)
    list_by = settings["list_by"] or names[0]
    if list_by not in names:
        raise ConfigError(
            f"--list-by must be one of the scores compared ({', '.join(names)}); got {list_by}. "
            "Name one of them."
        )
    settings = {**settings, "list_by": list_by, "scores": names, "drop_shared": drop_shared}
    alone = [] if scores else one_sided(members, nonmembers)
    members, nonmembers, n_shared = without_shared(
        members, nonmembers, names, drop_shared=drop_shared
    )
    columns = {n: (_column(members, n), _column(nonmembers, n)) for n in names}
    notes = notes_on_sides(members, nonmembers, n_shared, alone)
    notes += notes_on_columns(columns, members, nonmembers)
    blinds = _blinds(members, nonmembers, settings["seed"], notes)
    try:
        evaluation = evaluate(columns, blinds)
    except ValueError as error:
        raise CorpusError(str(error)) from None
    usable = {r.name: columns[r.name] for r in evaluation.attacks if not r.withheld}
    notes += [f"{r.name} is left out: {r.withheld}" for r in evaluation.attacks if r.withheld]
    lists = {n: calibrated_list(*s, fdr=settings["fdr"]) for n, s in usable.items()}
    held_out = {
        n: held_out_threshold(*s, target=_HELD_OUT_FPR, seed=settings["seed"])
        for n, s in usable.items()
    }
    table = score_table(evaluation, held_out, lists)
    notes += notes_on_table(table)
    chosen = lists.get(list_by)
    empty = Shortlist(np.array([], np.int64), np.array([]), settings["fdr"], 0.0, 0, 0, 0)
    return MembersReport(
        evaluation,
        table,
        listed_table(_ids(members), columns[list_by][0], chosen or empty),
        chosen,
        _set_test(usable, settings["seed"], notes),
        {**usable, **(blinds or {})},
        list_by,
        tuple(notes),
        {"asked": settings, "members": members.about, "nonmembers": nonmembers.about},
    )


def _blinds(members: Side, nonmembers: Side, seed: int, notes: list[str]):
    if members.texts is None or nonmembers.texts is None:
        if members.texts is not None or nonmembers.texts is not None:
            flag = "--member-texts" if members.texts is None else "--nonmember-texts"
            notes.append(f"No blind baseline ran: only one side has texts. Add {flag}.")
        return None
    try:
        return blind_scores(members.texts, nonmembers.texts, seed=seed)
    except ValueError as error:
        notes.append(f"No blind baseline ran: {error}")
        return None


def _set_test(usable: Mapping[str, tuple], seed: int, notes: list[str]) -> SetTest | None:
    try:
        return set_test(*({n: s[at] for n, s in usable.items()} for at in (0, 1)), seed=seed)
    except ValueError as error:
        notes.append(f"The set as a whole was not tested: {error}")
        return None


def _column(side: Side, name: str):
    return side.frame[name].to_numpy(dtype=np.float64, na_value=np.nan)


def _ids(side: Side) -> list[str]:
    if "doc_id" in side.frame:
        return side.frame["doc_id"].astype(str).tolist()
    return [f"row {i:,}" for i in range(len(side))]


def _scored(
    config: MembershipConfig, scoring: dict[str, Any], progress: NullProgress
) -> list[Side]:
    """Both corpora scored by the model; inputs are checked first."""
    options = ScoringConfig(**scoring, seed=config.seed, text_field=config.text_field)
    sides = ((config.members, "--members"), (config.nonmembers, "--nonmembers"))
    texts = [texts_of(specs, flag, text_field=config.text_field) for specs, flag in sides]
    list_by = [config.list_by] if config.list_by else []
    for flag, names in (("--score", config.scores), ("--list-by", list_by)):
        check_names(names, flag, list(options.references), options.model_dump())
    if not config.drop_shared:
        check_disjoint(*texts)
    given = options.model_dump()
    return [
        scored_side(specs, own, progress=progress, **given)
        for (specs, _), own in zip(sides, texts, strict=True)
    ]


def _as_plain(references) -> list[str] | dict[str, str]:
    return dict(references) if isinstance(references, Mapping) else [str(r) for r in references]


def _refuse_without_model(scoring: Mapping[str, Any]) -> None:
    if given := sorted(name for name, value in scoring.items() if value):
        raise ConfigError(
            f"--model must be given to score texts with {', '.join(given)}; got none. Add --model, "
            "or remove them to read scores from files."
        )


def _refuse_with_model(config: MembershipConfig) -> None:
    if config.member_texts or config.nonmember_texts:
        raise ConfigError(
            "--member-texts and --nonmember-texts are the texts of score files; got them with "
            "--model, whose --members and --nonmembers are the texts. Remove them."
        )
