"""Options of a membership audit."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from auditor.config.fields import TEXT_FIELD, Options, Seed, Specs, option


class MembershipConfig(Options):
    """What a membership audit compares; each field is an option of `auditor members`.

    `members` and `nonmembers` are corpora if there is a model, and score files (.parquet, .csv; one
    row per text) otherwise. The texts of score files come from a column `text`, or are joined by
    doc_id from `member_texts` and `nonmember_texts`; without texts no blind baseline can run, and
    no claim is made. Choose `list_by` before looking at results: the rate does not hold for the
    score that happens to give the longest list.

    Raises
    ------
    ConfigError
        For an invalid option.
    """

    members: Specs = option("Texts assumed to be members.", metavar="SPEC")
    nonmembers: Specs = option("Texts known not to be members.", metavar="SPEC")
    member_texts: Specs = option("Texts of --members, if that contains scores.", (), metavar="SPEC")
    nonmember_texts: Specs = option(
        "Texts of --nonmembers, if that contains scores.", (), metavar="SPEC"
    )
    text_field: str | None = option(TEXT_FIELD, None)
    scores: tuple[str, ...] = option(
        "Score to compare; repeatable.  [default: all]", (), flag="score", metavar="NAME"
    )
    list_by: str | None = option(
        "Score that the shortlist is ranked by.  [default: the first]", None, metavar="NAME"
    )
    fdr: Annotated[float, Field(gt=0, lt=1)] = option(
        "False discovery rate of the shortlist.", 0.05
    )
    drop_shared: bool = option("Leave out texts that are in both sets.", False)
    seed: Seed = option("Random seed of folds, halves, permutations and neighbours.", 0)
