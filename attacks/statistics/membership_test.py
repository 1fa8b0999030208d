"""Do scores tell members from non-members, and may anything be claimed of it?

A claim of membership needs an attack that tells the two apart *and* does so clearly better than
every blind baseline, which never sees the model. Both are corrected for how many attacks there are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from attacks.statistics.multiplicity import holm
from attacks.statistics.roc import (
    TARGETS,
    Auc,
    TprAtFpr,
    auc,
    compare_aucs,
    tpr_at_fpr,
)

Sides = tuple[ArrayLike, ArrayLike]
NO_AUC = Auc()


@dataclass(frozen=True)
class ScoreResult:
    """What one score achieves; an attack's or a blind baseline's.

    name : str
    auc : Auc or None
    tpr : tuple of TprAtFpr
    p_corrected : float
        Of "both sides score alike", Holm-corrected for all scores of its kind.
    blind : str
        The blind baseline that it is least clearly above; empty if there is none.
    above_blind : Auc
        Its AUC less that baseline's; its p-value is the largest of "not above this baseline" over
        all baselines. NaN without any.
    p_claim : float
        Of a claim: the larger of the two, Holm-corrected for all attacks; NaN without baselines.
    withheld : str
        Why there is no result; empty if there is one.
    """

    name: str
    auc: Auc | None = None
    tpr: tuple[TprAtFpr, ...] = ()
    p_corrected: float = math.nan
    blind: str = ""
    above_blind: Auc = NO_AUC
    p_claim: float = math.nan
    withheld: str = ""


@dataclass(frozen=True)
class Verdict:
    """Whether a claim of membership follows, in a word, a flag and a sentence.

    kind : str
        "claim": an attack stands. "confounded": the split can be told without the model, and no
        attack is clearly above that. "undecided": an attack is above chance, but not clearly above
        the blind baselines. "nothing": no attack is above chance. "unchecked": no baseline ran.
    claim : bool
    guard_fires : bool
        kind is "confounded".
    attack, blind : str
        The attack (of a claim: the most certain; else of the highest AUC) and the best baseline.
    sentence : str
    """

    kind: str
    claim: bool
    guard_fires: bool
    attack: str
    blind: str
    sentence: str


@dataclass(frozen=True)
class Evaluation:
    """All attacks and blind baselines, and what follows; made by `evaluate`."""

    attacks: tuple[ScoreResult, ...]
    blinds: tuple[ScoreResult, ...]
    verdict: Verdict
    alpha: float


def evaluate(
    attacks: Mapping[str, Sides],
    blinds: Mapping[str, Sides] | None = None,
    *,
    targets: Sequence[float] = TARGETS,
    alpha: float = 0.05,
    confidence: float = 0.95,
) -> Evaluation:
    """Every attack beside the blind baselines, with the verdict.

    Parameters
    ----------
    attacks : mapping of a score to (members, nonmembers), float arrays
        Higher = more likely a member. All of the same texts in the same order.
    blinds : mapping of a baseline to (members, nonmembers), optional
        Of the same texts; see `confounds.blind_scores`. Without it nothing can be claimed.
    targets : FPRs at which the TPR is given
    alpha : float
        The chance of a false claim, all attacks together, is at most about this.
    confidence : float, of the intervals

    Returns
    -------
    Evaluation. A score of which nothing can be said (all equal, too few defined) is withheld with
    its reason.

    Raises
    ------
    ValueError
        If there is no attack, or none of which anything can be said; if lengths differ.

    Source
    ------
    The rule is ours. Above chance: the lower end of the AUC's interval is above 0.5 and the
    corrected Mann-Whitney p is at most alpha. Clearly above the blind: paired DeLong tests against
    every baseline have p at most alpha (an intersection-union test, Berger 1982, so choosing the
    best baseline costs nothing). Why baselines at all: Duan et al. 2024, "Do Membership Inference
    Attacks Work on Large Language Models?"; Das et al. 2024, "Blind Baselines".

    >>> rng = np.random.default_rng(0)
    >>> attack = rng.normal(1, 1, 200), rng.normal(0, 1, 200)
    >>> blind = rng.random(200), rng.random(200)
    >>> evaluate({"loss": attack}, {"length": blind}).verdict.kind
    'claim'
    >>> evaluate({"loss": attack}, {"dates": attack}).verdict.kind
    'confounded'
    """
    if not attacks:
        raise ValueError("there must be 1 or more scores; got none. Name columns that hold scores.")
    found = [_alone(name, s, targets, confidence) for name, s in attacks.items()]
    if all(result.withheld for result in found):
        raise ValueError(f"{found[0].name}: {found[0].withheld}")
    checked = _corrected([_alone(n, s, targets, confidence) for n, s in (blinds or {}).items()])
    usable = {b.name: (blinds or {})[b.name] for b in checked if not b.withheld}
    found = _corrected([_beside(r, attacks[r.name], usable, confidence) for r in found])
    p_claims = holm([np.fmax(r.above_blind.p_value, _p(r)) if r.blind else math.nan for r in found])
    final = tuple(replace(r, p_claim=float(p)) for r, p in zip(found, p_claims, strict=True))
    verdict = _verdict(final, tuple(checked), alpha)
    return Evaluation(final, tuple(checked), verdict, alpha)


def _alone(name: str, sides: Sides, targets, confidence: float) -> ScoreResult:
    try:
        return ScoreResult(
            name,
            auc(*sides, confidence=confidence),
            tpr_at_fpr(*sides, targets=targets, confidence=confidence),
        )
    except ValueError as error:
        return ScoreResult(name, withheld=str(error))


def _beside(result: ScoreResult, sides: Sides, blinds, confidence: float) -> ScoreResult:
    """The result with the blind baseline that it is least clearly above."""
    if result.withheld or not blinds:
        return result
    apart = {name: _lead(result, sides, b, confidence) for name, b in blinds.items()}
    # Of equal p-values, as where all are next to 1 or 0, the smallest lead counts.
    name = max(apart, key=lambda b: (apart[b].p_value, -apart[b].value))
    return replace(result, blind=name, above_blind=apart[name])


def _lead(result: ScoreResult, sides: Sides, blind: Sides, confidence: float) -> Auc:
    """How far an attack is above a baseline, on the texts for which it has a value."""
    made = result.auc
    if made is None or not _is_flat(sides, blind):
        return compare_aucs(sides, blind, confidence=confidence)
    # The baseline says the same of all of these, so it is at chance.
    return replace(made, value=made.value - 0.5, low=made.low - 0.5, high=made.high - 0.5)


def _is_flat(sides: Sides, blind: Sides) -> bool:
    """Whether a baseline has one value where the attack has any."""
    pairs = [
        (np.asarray(s, float), np.asarray(b, float)) for s, b in zip(sides, blind, strict=True)
    ]
    if any(s.shape != b.shape for s, b in pairs):
        return False  # not of the same texts, which the comparison refuses
    values = np.concatenate([b[~np.isnan(s)] for s, b in pairs])
    values = values[~np.isnan(values)]
    return len(values) > 0 and values.min() == values.max()


def _corrected(results: list[ScoreResult]) -> list[ScoreResult]:
    corrected = holm([_p(result) for result in results])
    return [replace(r, p_corrected=float(p)) for r, p in zip(results, corrected, strict=True)]


def _p(result: ScoreResult) -> float:
    return result.auc.p_value if result.auc else math.nan


def _above_chance(result: ScoreResult, alpha: float) -> bool:
    return bool(result.auc and result.auc.low > 0.5 and result.p_corrected <= alpha)


def _best(results: Sequence[ScoreResult]) -> ScoreResult | None:
    known = [r for r in results if r.auc]
    return max(known, key=lambda r: r.auc.value if r.auc else 0.0) if known else None


def _verdict(
    attacks: Sequence[ScoreResult], blinds: Sequence[ScoreResult], alpha: float
) -> Verdict:
    standing = [a for a in attacks if _above_chance(a, alpha) and a.p_claim <= alpha]
    best = min(standing, key=lambda a: a.p_claim) if standing else _best(attacks)
    blind, seen = _best(blinds), any(_above_chance(b, alpha) for b in blinds)
    if best is None:
        raise ValueError("there must be 1 or more scores of which something can be said; got none.")
    kind = (
        "claim"
        if standing
        else "unchecked"
        if blind is None
        else "confounded"
        if seen
        else "undecided"
        if _above_chance(best, alpha)
        else "nothing"
    )
    names = (best.name, blind.name if blind else "")
    return Verdict(
        kind, kind == "claim", kind == "confounded", *names, _sentence(kind, best, blind, seen)
    )


def _sentence(kind: str, best: ScoreResult, blind: ScoreResult | None, seen: bool) -> str:
    attack = f"{best.name} (AUC {best.auc:.3f})"
    baseline = f"{blind.name} (AUC {blind.auc:.3f})" if blind else "none"
    if kind == "claim":
        also = (
            f"Part of the split can be told without the model, though: by {baseline}."
            if seen
            else f"No baseline is above chance; the best is {baseline}."
        )
        return (
            f"{attack} tells members from non-members, clearly better than any baseline that "
            f"never sees the model (corrected p = {best.p_claim:.2g}). {also}"
        )
    said = {
        "unchecked": "It was not checked whether the split can be told apart without the model, "
        f"for which the texts are needed. The best attack is {attack}.",
        "confounded": f"The split can be told apart without the model, by {baseline}, and no "
        f"attack is clearly above that; the best is {attack}.",
        "undecided": f"{attack} tells the two sets apart, but not clearly better than "
        f"{best.blind}, which never sees the model: the AUCs differ by "
        f"{best.above_blind.value:+.3f} ({best.above_blind.low:+.3f} to "
        f"{best.above_blind.high:+.3f}).",
        "nothing": f"No attack tells members from non-members; the best is {attack}.",
    }
    return f"{said[kind]} No membership claim follows."
