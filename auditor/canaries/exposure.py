"""Exposure of canaries under a model, by each secret's rank among the possible secrets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attacks.statistics.exposure import (
    SkewNormal,
    exposure,
    exposure_by_extrapolation,
    exposure_by_interpolation,
    ranks_among_all,
)
from attacks.statistics.intervals import proportion
from auditor.canaries.canaries import Canaries, Canary
from auditor.canaries.secrets import Encoded, encode_secrets, gives_back, score_secrets
from auditor.canaries.templates import parse_template
from auditor.errors import ConfigError
from auditor.system.progress import NullProgress

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


@dataclass(frozen=True)
class _Measured:
    """Results for one prefix: arrays over its canaries (own) and over the controls (ctl)."""

    own: dict[str, NDArray]
    ctl: dict[str, NDArray]
    law: SkewNormal | None
    withheld: str


def measure_canaries(
    model: LanguageModel | str,
    canaries: Canaries,
    *,
    enumerate_up_to: int = ENUMERATED,
    controls: int | None = None,
    beams: int = 1,
    progress: NullProgress | None = None,
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
    progress : NullProgress, optional

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
    _check(canaries, enumerate_up_to, controls, beams)
    progress = progress or NullProgress()
    if isinstance(model, str):
        from auditor.models.loading import load_model

        model = load_model(model, dtype="float32")
    for sentence in model.notes:
        progress.note(sentence)
    some = canaries.controls[:controls]
    space = _space(model, canaries, enumerate_up_to)
    groups: dict[str, list[Canary]] = {}
    for canary in canaries.canaries:
        groups.setdefault(canary.prefix, []).append(canary)
    n_secrets = len(groups) * len(space or some) + (0 if space else len(canaries.canaries))
    with progress.stage("measuring canaries", n_secrets, "secrets") as stage:
        measured = [
            _measure(model, group, some, space, canaries, beams, stage.advance, progress.note)
            for group in groups.values()
        ]
    rows = _canary_rows(list(groups.values()), measured, canaries)
    frame = pd.DataFrame(rows + _control_rows(some, measured, canaries), columns=list(COLUMNS))
    order = {canary.canary_id: i for i, canary in enumerate((*canaries.canaries, *some))}
    frame = frame.sort_values("canary_id", key=lambda ids: ids.map(order), ignore_index=True)
    return frame.astype({"rank": "Int64", "greedy": "boolean", "beam": "boolean"})


def exposure_by_repeats(frame: pd.DataFrame) -> pd.DataFrame:
    """Summarize `measure_canaries`, one row per number of repeats (controls: 0).

    Returns
    -------
    DataFrame: role, repeats, n, exposure (mean, bits), lowest, highest, greedy (share extracted,
    with its Clopper-Pearson interval; empty for controls) and beam (likewise).
    """
    rows = []
    for (role, repeats), some in frame.groupby(["role", "repeats"], sort=True):
        bits = some["exposure"]
        rows.append(
            {
                "role": role,
                "repeats": repeats,
                "n": len(some),
                "exposure": bits.mean(),
                "lowest": bits.min(),
                "highest": bits.max(),
                "greedy": _given_back(some["greedy"]),
                "beam": _given_back(some["beam"]),
            }
        )
    return pd.DataFrame(rows)


def _given_back(column: pd.Series) -> str:
    known = column.dropna()
    return str(proportion(int(known.sum()), len(known))) if len(known) else ""


def _check(canaries: Canaries, enumerate_up_to: int, controls: int | None, beams: int) -> None:
    if enumerate_up_to < 0:
        raise ConfigError(f"--enumerate-up-to must be 0 or more; got {enumerate_up_to}.")
    if beams < 1:
        raise ConfigError(f"--beams must be 1 or more; got {beams}.")
    available = len(canaries.controls)
    if controls is not None and not 1 <= controls <= available:
        raise ConfigError(
            f"--controls must be between 1 and {available:,}, as many as the manifest has; got "
            f"{controls}."
        )


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
    some: tuple[Canary, ...],
    space: list[str] | None,
    canaries: Canaries,
    beams: int,
    advance,
    note,
) -> _Measured:
    """Measure the canaries of one prefix, and the controls after it."""
    secrets = space or [canary.secret for canary in (*group, *some)]
    place = {secret: i for i, secret in enumerate(secrets)}
    own, ctl = ([place[canary.secret] for canary in part] for part in (group, some))
    encoded = encode_secrets(model.vocabulary, group[0].prefix, secrets)
    scored = score_secrets(model, encoded, group[0].canary_id, progress=advance, note=note)
    logprob = scored.logprob
    out: list[dict[str, NDArray]] = [
        {"logprob": logprob[part], "n_tokens": scored.n_tokens[part]} for part in (own, ctl)
    ]
    if space is not None:
        rank = ranks_among_all(logprob)
        for found, part in zip(out, (own, ctl), strict=True):
            found["rank"], found["exact"] = rank[part], exposure(rank[part], len(space))
    out[0]["interpolated"] = exposure_by_interpolation(logprob[own], logprob[ctl])
    out[1]["interpolated"] = exposure(ranks_among_all(logprob[ctl]), len(ctl))
    law, withheld = None, ""
    try:
        beyond = exposure_by_extrapolation(
            logprob[own + ctl], logprob[ctl], n_candidates=canaries.space_size
        )
        out[0]["extrapolated"], out[1]["extrapolated"] = np.split(beyond.exposure, [len(own)])
        law = beyond.law
    except ValueError as error:
        withheld = str(error)
    inserted = Encoded(encoded.prompt, [encoded.rests[i] for i in own])
    out[0]["greedy"] = gives_back(model, inserted, note=note)
    if beams > 1:
        out[0]["beam"] = gives_back(model, inserted, beams=beams, note=note)
    return _Measured(out[0], out[1], law, withheld)


def _canary_rows(groups, measured: list[_Measured], canaries: Canaries) -> list[dict]:
    rows = []
    for group, found in zip(groups, measured, strict=True):
        n = len(found.ctl["logprob"])
        most = math.log2(n + 1)
        for i, canary in enumerate(group):
            values = {name: column[i].item() for name, column in found.own.items()}
            is_beyond = values["interpolated"] >= most - 1e-9
            if "exact" in values:
                method, best = "enumerated", values["exact"]
            elif not is_beyond:
                method, best = "interpolated", values["interpolated"]
            elif found.law is not None and found.law.ks_p >= _LEAST_P:
                # No control is as likely, so the exposure is at least `most`.
                method, best = "extrapolated", max(values["extrapolated"], most)
            else:
                method, best = "at least", most
            rows.append(
                {
                    **_who(canary, "canary", canaries, found.law, n),
                    **values,
                    "interpolated_most": most,
                    "exposure": best,
                    "method": method,
                    "withheld": found.withheld,
                }
            )
    return rows


def _control_rows(some, measured: list[_Measured], canaries: Canaries) -> list[dict]:
    """Rows of the controls, with means over the prefixes."""
    n = len(some)
    laws = [found.law for found in measured if found.law is not None]
    law = laws[0] if len(laws) == 1 == len(measured) else None
    means = {}
    for name in ("logprob", "n_tokens", "exact", "interpolated", "extrapolated"):
        columns = [found.ctl[name] for found in measured if name in found.ctl]
        if columns:
            means[name] = np.mean(columns, axis=0)
    kind = next(name for name in ("exact", "extrapolated", "interpolated") if name in means)
    rank = measured[0].ctl.get("rank") if len(measured) == 1 else None
    rows = []
    for i, control in enumerate(some):
        rows.append(
            {
                **_who(control, "control", canaries, law, n),
                **{name: float(column[i]) for name, column in means.items()},
                "rank": None if rank is None else int(rank[i]),
                "interpolated_most": math.log2(n),
                "exposure": float(means[kind][i]),
                "method": "enumerated" if kind == "exact" else kind,
                "withheld": "; ".join(sorted({found.withheld for found in measured} - {""})),
            }
        )
    return rows


def _who(canary: Canary, role: str, canaries: Canaries, law: SkewNormal | None, n: int) -> dict:
    """Columns that describe the canary and the fitted distribution."""
    return {
        "canary_id": canary.canary_id,
        "role": role,
        "repeats": canary.repeats,
        "prefix": canary.prefix,
        "secret": canary.secret,
        "space_bits": canaries.space_bits,
        "n_controls": n,
        "ks_statistic": math.nan if law is None else law.ks_statistic,
        "ks_p": math.nan if law is None else law.ks_p,
    }
