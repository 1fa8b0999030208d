"""`audit_members`: compare members with non-members; returns the verdict and its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from attacks.statistics.blind_baselines import blind_scores
from attacks.statistics.false_discovery import ShortList, calibrated_list
from attacks.statistics.membership_test import Evaluation, evaluate
from attacks.statistics.set_test import SetTest, set_test
from attacks.statistics.thresholds import held_out_threshold
from auditor.config.audit import make_config
from auditor.errors import ConfigError, CorpusError
from auditor.membership.notes import notes_on_columns, notes_on_sides, notes_on_table
from auditor.membership.sides import (
    Side,
    apart,
    check_alike,
    check_apart,
    check_names,
    one_sided,
    read_side,
    score_names,
    scored_side,
    texts_of,
)
from auditor.membership.tables import listed_table, score_table
from auditor.system.progress import NullProgress

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
    short_list : attacks.statistics.false_discovery.ShortList or None
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
    short_list: ShortList | None
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
            "This rests on the split being random but for training."
            if verdict.claim
            else "Since the split is not shown to be told apart by the model alone, no claim about "
            "the set follows."
        )
        return f"As a set, the members score above the non-members ({found}). {follows}"

    def _of_the_list(self) -> str:
        made = self.short_list
        if made is None or made.withheld:
            why = made.withheld if made else "the score is left out"
            return f"The short list by {self.list_by} is withheld: {why}."
        n, verdict = len(made.chosen), self.evaluation.verdict
        if not n:
            return (
                f"None of {made.n_candidates:,} members is listed by {self.list_by} at a false "
                f"discovery rate of {100 * made.fdr:g} %."
            )
        words = (
            f"{n:,} of {made.n_candidates:,} members are listed by {self.list_by} at a false "
            f"discovery rate of {100 * made.fdr:g} %: on average over lists at most that share is "
            "false, and one list may hold more."
        )
        if not verdict.claim:
            words += " Being listed says that a text is unlike the non-members, no more than that."
        return words


def audit_members(
    members: Sequence[str | Path],
    nonmembers: Sequence[str | Path],
    *,
    model: str | None = None,
    references: Mapping[str, str] | Sequence[str] = (),
    member_texts: Sequence[str | Path] = (),
    nonmember_texts: Sequence[str | Path] = (),
    text_field: str | None = None,
    scores: Sequence[str] = (),
    list_by: str | None = None,
    fdr: float = 0.05,
    drop_shared: bool = False,
    seed: int = 0,
    progress: NullProgress | None = None,
    **scoring: Any,
) -> MembersReport:
    """Compare the scores of suspected members with those of known non-members.

    Parameters
    ----------
    members, nonmembers : sequences of path
        With a model: corpora. Without: score files (.parquet, .csv), one row per text.
    model : str, optional
        Spec of the model under audit.
    references : mapping of name to spec, or sequence of "[NAME=]SPEC"
    member_texts, nonmember_texts : sequences of path
        Corpora with the texts of score files, joined by doc_id; a column `text` also works.
        Without texts no blind baseline can run, and no claim is made.
    text_field : str, optional
    scores : sequence of str
        Columns to compare; by default every score that both sides have.
    list_by : str, optional
        The score of the shortlist, by default the first. Choose it before looking at results: the
        rate does not hold for the score that happens to give the longest list.
    fdr : float, between 0 and 1
    drop_shared : bool
        Leave out texts that are on both sides; otherwise they are an error.
    seed : int
        Determines the cross-validation folds, the halves and the permutations.
    progress : NullProgress, optional
    scoring : further options of `auditor.scoring.score_texts.score_texts`, with a model

    Returns
    -------
    MembersReport

    Raises
    ------
    ConfigError, CorpusError, ModelError
        If options are invalid, or inputs cannot be read or compared.
    """
    progress = progress or NullProgress()
    if not 0 < fdr < 1:
        raise ConfigError(f"--fdr must lie between 0 and 1; got {fdr}. Pass a share such as 0.05.")
    if seed < 0:
        raise ConfigError(f"--seed must be 0 or more; got {seed}. Leave it out for 0.")
    if model is None:
        _refuse_without_model(references, scoring)
        sides = [
            read_side(s, flag, texts=texts, text_field=text_field)
            for s, flag, texts in (
                (members, "--members", member_texts),
                (nonmembers, "--nonmembers", nonmember_texts),
            )
        ]
    else:
        _refuse_with_model(member_texts, nonmember_texts)
        names = {"--score": scores, "--list-by": [list_by] if list_by else []}
        options = {"model": model, "references": references, "seed": seed, **scoring}
        sides = _scored(members, nonmembers, names, text_field, progress, drop_shared, options)
    asked: dict[str, Any] = {
        "members": _as_plain(members),
        "nonmembers": _as_plain(nonmembers),
        "model": model,
    }
    asked |= {"references": _as_plain(references), "fdr": fdr, "seed": seed, "list_by": list_by}
    return compare(sides[0], sides[1], asked, scores, drop_shared=drop_shared)


def compare(
    members: Side,
    nonmembers: Side,
    asked: dict[str, Any],
    scores: Sequence[str] = (),
    *,
    drop_shared: bool = False,
) -> MembersReport:
    """The report on two sides; `asked` has fdr, seed and list_by."""
    check_alike(members, nonmembers)
    names = score_names(members, nonmembers, scores)
    list_by = asked["list_by"] or names[0]
    if list_by not in names:
        raise ConfigError(
            f"--list-by must be one of the scores compared ({', '.join(names)}); got {list_by}. "
            "Name one of them."
        )
    asked = {**asked, "list_by": list_by, "scores": names, "drop_shared": drop_shared}
    alone = [] if scores else one_sided(members, nonmembers)
    members, nonmembers, n_shared = apart(members, nonmembers, names, drop_shared=drop_shared)
    columns = {n: (_column(members, n), _column(nonmembers, n)) for n in names}
    notes = notes_on_sides(members, nonmembers, n_shared, alone)
    notes += notes_on_columns(columns, members, nonmembers)
    blinds = _blinds(members, nonmembers, asked["seed"], notes)
    try:
        evaluation = evaluate(columns, blinds)
    except ValueError as error:
        raise CorpusError(str(error)) from None
    usable = {r.name: columns[r.name] for r in evaluation.attacks if not r.withheld}
    notes += [f"{r.name} is left out: {r.withheld}" for r in evaluation.attacks if r.withheld]
    lists = {n: calibrated_list(*s, fdr=asked["fdr"]) for n, s in usable.items()}
    held_out = {
        n: held_out_threshold(*s, target=_HELD_OUT_FPR, seed=asked["seed"])
        for n, s in usable.items()
    }
    table = score_table(evaluation, held_out, lists)
    notes += notes_on_table(table)
    chosen = lists.get(list_by)
    empty = ShortList(np.array([], np.int64), np.array([]), asked["fdr"], 0.0, 0, 0, 0)
    return MembersReport(
        evaluation,
        table,
        listed_table(_ids(members), columns[list_by][0], chosen or empty),
        chosen,
        _set_test(usable, asked["seed"], notes),
        {**usable, **(blinds or {})},
        list_by,
        tuple(notes),
        {"asked": asked, "members": members.about, "nonmembers": nonmembers.about},
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


def _scored(members, nonmembers, names, text_field, progress, drop_shared, options) -> list[Side]:
    """Both corpora scored by the model; inputs are checked first."""
    given = options["references"]
    given = dict(given) if isinstance(given, Mapping) else list(given)
    asked = make_config({"model": options["model"], "references": given})
    texts = [
        texts_of(s, flag, text_field=text_field)
        for s, flag in ((members, "--members"), (nonmembers, "--nonmembers"))
    ]
    for flag, own in names.items():
        check_names(own, flag, list(asked.references), options)
    if not drop_shared:
        check_apart(*texts)
    return [
        scored_side(s, own, text_field=text_field, progress=progress, **options)
        for s, own in zip((members, nonmembers), texts, strict=True)
    ]


def _as_plain(specs) -> list[str] | dict[str, str]:
    return dict(specs) if isinstance(specs, Mapping) else [str(spec) for spec in specs]


def _refuse_without_model(references, scoring: Mapping[str, Any]) -> None:
    given = [name for name, value in scoring.items() if value]
    given += ["references"] if references else []
    if given:
        raise ConfigError(
            f"--model must be given to score texts with {', '.join(sorted(given))}; got none. "
            "Add --model, or leave them out to read scores from files."
        )


def _refuse_with_model(member_texts, nonmember_texts) -> None:
    if member_texts or nonmember_texts:
        raise ConfigError(
            "--member-texts and --nonmember-texts are the texts of score files; got them with "
            "--model, whose --members and --nonmembers are the texts. Leave them out."
        )
