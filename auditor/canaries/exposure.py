"""Exposure of canaries under a model, by each secret's rank among the possible secrets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from attacks.statistics.exposure import (
    exposure,
    exposure_by_extrapolation,
    exposure_by_interpolation,
    ranks_among_all,
)
from attacks.statistics.intervals import proportion
from auditor.canaries.canaries import Canaries, Canary, by_prefix
from auditor.canaries.secrets import Encoded, encode_secrets, extracts, score_secrets
from auditor.canaries.templates import parse_template
from auditor.config.canaries import MeasureOptions
from auditor.errors import ConfigError
from auditor.system.progress import NullProgress, progress_display

if TYPE_CHECKING:
    from auditor.models.language_model import LanguageModel

ENUMERATED = 10_000
# Significance level at which the controls reject a fitted distribution.
_LEAST_P = 0.05
COLUMNS = (
    *("canary_id", "role", "repeats", "prefix", "secret", "n_tokens", "logprob", "space_bits"),
    *("exposure", "method", "rank", "exact", "interpolated", "interpolated_most", "extrapolated"),
    *("n_controls", "ks_statistic", "ks_p", "withheld", "greedy", "beam"),
)
# The estimates of a control, best first, with the method they stand for.
_KINDS = {"exact": "enumerated", "extrapolated": "extrapolated", "interpolated": "interpolated"}
_MEANS = ["logprob", "n_tokens", *_KINDS]


def measure_canaries(
    model: LanguageModel | str,
    canaries: Canaries,
    *,
    enumerate_up_to: int = ENUMERATED,
    controls: int | None = None,
    beams: int = 1,
    progress: NullProgress | bool | None = True,
) -> pd.DataFrame:
    """Exposure of every canary, in bits, and whether greedy or beam search extracts its secret.

    Secrets are ranked by their total log-probability given the canary's prefix (after BOS, if the
    model has one). Ties count against the canary. The total is used, not the mean, since secrets
    may differ in their number of tokens.

    Parameters
    ----------
    model : LanguageModel, or a model spec (loaded in float32)
    canaries : Canaries
    enumerate_up_to : int
        Score every possible secret, after each prefix, if there are at most this many; 0 = never.
    controls : int, optional
        Use only this many controls; by default all.
    beams : int
        Above 1: also try to extract the secret by beam search.
    progress : a progress bar in a notebook and at a terminal; False or None = none

    Returns
    -------
    DataFrame, one row per canary and control: canary_id, role, repeats, prefix, secret, n_tokens;
    logprob (nats); space_bits, the maximum exposure; `exposure` (bits), the best of the estimates
    that follow, and `method`, its name; rank and exact (missing unless the space was enumerated);
    interpolated (among the controls), at most interpolated_most; extrapolated (by a skew-normal
    fit to the controls, at most space_bits) with the fit's n_controls, ks_statistic and ks_p, or
    in `withheld` why there is no fit; greedy and beam: whether the secret was extracted.

    method is "enumerated"; else "interpolated" if some control is as likely as the canary; else
    "extrapolated" if the controls do not reject the fit (ks_p >= 0.05); else "at least". Values
    of a control are means over the prefixes. Its exposure is exact if enumerated, else
    extrapolated, since interpolation among controls gives the same exposures for any model.

    Raises
    ------
    ConfigError
        If a number is out of range, or a canary exceeds the model's context.
    ModelError
        If the model cannot be loaded or run.

    Source
    ------
    Carlini et al. 2019, "The Secret Sharer", sections 4.2 and 4.3.
    """
    name = model if isinstance(model, str) else model.name
    MeasureOptions(model=name, enumerate_up_to=enumerate_up_to, controls=controls, beams=beams)
    available = len(canaries.controls)
    if controls is not None and controls > available:
        raise ConfigError(
            f"--controls must be at most {available:,}, the controls of the manifest; got "
            f"{controls:,}. Lower --controls."
        )
    progress = progress_display(progress)
    from auditor.models.loading import loaded

    used = loaded(model, "auto")
    for sentence in used.notes:
        progress.note(sentence)
    own, some = canaries.canaries, canaries.controls[:controls]
    space = _space(used, canaries, enumerate_up_to)
    groups = by_prefix(own).values()
    n_secrets = len(groups) * len(space or some) + (0 if space else len(own))
    measured, unseen = [], []
    with progress.stage("measuring canaries", n_secrets, "secrets") as stage:
        for at in groups:
            found = _measure(
                *(used, [own[i] for i in at], some, space, canaries.space_size, beams),
                *(stage.advance, progress.note),
            )
            seen, rest = found[: len(at)], found[len(at) :].reset_index(drop=True)
            measured.append(_best_of_canaries(seen.set_axis(at), math.log2(len(some) + 1)))
            unseen.append(rest)
    frame = canaries.frame()[: len(own) + len(some)]
    measured.append(_over_prefixes(unseen).set_axis(frame.index[len(own) :]))
    frame = frame.assign(space_bits=canaries.space_bits, n_controls=len(some)).drop(
        columns="suffix"
    )
    frame = pd.concat(measured).sort_index().assign(**frame)
    return frame.astype({"rank": "Int64", "greedy": "boolean", "beam": "boolean"})


def exposure_by_repeats(frame: pd.DataFrame) -> pd.DataFrame:
    """Summarize `measure_canaries`, one row per number of repeats (controls: 0).

    Returns
    -------
    DataFrame: role, repeats, n, exposure (mean, bits), lowest, highest, greedy (share extracted,
    with its Clopper-Pearson interval; empty for controls) and beam (likewise).
    """
    groups = frame.groupby(["role", "repeats"], sort=True)
    found = groups["exposure"].agg(n="size", exposure="mean", lowest="min", highest="max")
    for name in ("greedy", "beam"):
        found[name] = groups[name].agg(_extracted_share)
    return found.reset_index()


def _extracted_share(column: pd.Series) -> str:
    known = column.dropna()
    return str(proportion(int(known.sum()), len(known))) if len(known) else ""


def _space(model: LanguageModel, canaries: Canaries, enumerate_up_to: int) -> list[str] | None:
    """All possible secrets, or None if they are too many or cannot be reconstructed."""
    if canaries.space_size > enumerate_up_to:
        return None
    vocabulary = model.vocabulary if canaries.model is not None else None
    template = parse_template(canaries.template, vocabulary)
    if template.space_size != canaries.space_size:
        return None  # the secrets were drawn from another model's vocabulary
    secrets = [template.secret(i) for i in range(template.space_size)]
    drawn = {canary.secret for canary in (*canaries.canaries, *canaries.controls)}
    return secrets if drawn <= set(secrets) else None


def _measure(
    model: LanguageModel,
    group: list[Canary],
    controls: Sequence[Canary],
    space: list[str] | None,
    space_size: int,
    beams: int,
    advance,
    note,
) -> pd.DataFrame:
    """Measure the canaries of one prefix, and the controls after it: one row each, in order."""
    secrets = space or [canary.secret for canary in (*group, *controls)]
    place = {secret: i for i, secret in enumerate(secrets)}
    rows = [place[canary.secret] for canary in (*group, *controls)]
    encoded = encode_secrets(model.vocabulary, group[0].prefix, secrets)
    scored = score_secrets(model, encoded, group[0].canary_id, progress=advance, note=note)
    logprob, n = scored.logprob[rows], len(group)
    found = pd.DataFrame({"logprob": logprob, "n_tokens": scored.n_tokens[rows].astype(float)})
    found = found.reindex(columns=COLUMNS).assign(withheld="")
    if space is not None:
        found["rank"] = ranks_among_all(scored.logprob)[rows]
        found["exact"] = exposure(found["rank"].to_numpy(), len(space))
    among = exposure(ranks_among_all(logprob[n:]), len(controls))
    found["interpolated"] = [*exposure_by_interpolation(logprob[:n], logprob[n:]), *among]
    try:
        beyond = exposure_by_extrapolation(logprob, logprob[n:], n_candidates=space_size)
        found["extrapolated"] = beyond.exposure
        found["ks_statistic"], found["ks_p"] = beyond.law.ks_statistic, beyond.law.ks_p
    except ValueError as error:
        found["withheld"] = str(error)
    inserted = Encoded(encoded.prompt, [encoded.rests[i] for i in rows[:n]])
    blank = [None] * len(controls)
    found["greedy"] = [*extracts(model, inserted, note=note), *blank]
    if beams > 1:
        found["beam"] = [*extracts(model, inserted, beams=beams, note=note), *blank]
    return found


def _best_of_canaries(found: pd.DataFrame, most: float) -> pd.DataFrame:
    """Choose each canary's exposure; above `most`, no control is as likely as the canary."""
    conditions = [
        found["exact"].notna(),
        found["interpolated"] < most - 1e-9,
        found["ks_p"] >= _LEAST_P,
    ]
    choices = [found["exact"], found["interpolated"], found["extrapolated"].clip(lower=most)]
    return found.assign(
        interpolated_most=most,
        exposure=np.select(conditions, choices, most),
        method=np.select(conditions, ["enumerated", "interpolated", "extrapolated"], "at least"),
    )


def _over_prefixes(found: list[pd.DataFrame]) -> pd.DataFrame:
    """The controls' means over the prefixes; rank and fit only if there is a single prefix."""
    rows = found[0]
    if len(found) > 1:
        values = np.stack([frame[_MEANS].to_numpy(float) for frame in found])
        n_known = (~np.isnan(values)).sum(axis=0)
        rows = pd.DataFrame(np.nansum(values, axis=0) / np.where(n_known, n_known, np.nan))
        rows = rows.set_axis(_MEANS, axis=1).reindex(columns=COLUMNS)
    kind = next(name for name in _KINDS if rows[name].notna().all())
    withheld = sorted({reason for frame in found for reason in frame["withheld"]} - {""})
    return rows.assign(
        interpolated_most=math.log2(len(rows)),
        exposure=rows[kind],
        method=_KINDS[kind],
        withheld="; ".join(withheld),
    )
