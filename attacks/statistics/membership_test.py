"""Do scores separate members from non-members, and does a membership claim follow?

A claim needs an attack that separates the two *and* is clearly better than every blind baseline,
which never sees the model. Both tests are corrected for the number of attacks.
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
    """Result of one score, an attack or a blind baseline.

    name : str
    auc : Auc or None
    tpr : tuple of TprAtFpr
    p_corrected : float
        Mann-Whitney p-value, Holm-corrected for all scores of its kind.
    blind : str
        The baseline that the attack is least clearly above; empty without baselines.
    above_blind : Auc
        Its AUC minus that baseline's. The p-value is the largest over all baselines. NaN without
        baselines.
    p_claim : float
        The larger of both p-values, Holm-corrected for all attacks; NaN without baselines.
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
    """Whether a membership claim follows.

    kind : str
        "claim": an attack is clearly above all baselines. "confounded": a baseline separates the
        sets, and no attack is clearly better. "undecided": an attack is above chance, but not
        clearly above the baselines. "nothing": no attack is above chance. "unchecked": no baseline
        ran.
    claim : bool
    guard_fires : bool
        kind is "confounded".
    attack, blind : str
        The attack (the most significant one of a claim, else the highest AUC), and the best
        baseline.
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
    """Compare every attack with the blind baselines.

    Parameters
    ----------
    attacks : mapping of a score to (members, nonmembers), float arrays
        Higher = more likely a member. All of the same texts in the same order.
    blinds : mapping of a baseline to (members, nonmembers), optional
        Of the same texts; see `blind_baselines.blind_scores`. Without baselines there is no claim.
    targets : FPRs at which the TPR is given
    alpha : float
        Approximate upper bound of the probability of a false claim, over all attacks.
    confidence : float, of the intervals

    Returns
    -------
    Evaluation. A score that is constant or has too few defined values is withheld with its reason.

    Raises
    ------
    ValueError
        If there is no attack, or all are withheld; if lengths differ.

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
    """Add the baseline that the attack is least clearly above."""
    if result.withheld or not blinds:
        return result
    apart = {name: _lead(result, sides, b, confidence) for name, b in blinds.items()}
    # Among equal p-values (all near 0 or 1) the smallest lead counts.
    name = max(apart, key=lambda b: (apart[b].p_value, -apart[b].value))
    return replace(result, blind=name, above_blind=apart[name])


def _lead(result: ScoreResult, sides: Sides, blind: Sides, confidence: float) -> Auc:
    """The lead of an attack over a baseline, on the texts that the attack scores."""
    made = result.auc
    if made is None or not _is_flat(sides, blind):
        return compare_aucs(sides, blind, confidence=confidence)
    # A constant baseline is at chance.
    return replace(made, value=made.value - 0.5, low=made.low - 0.5, high=made.high - 0.5)


def _is_flat(sides: Sides, blind: Sides) -> bool:
    """Whether a baseline is constant on the texts that the attack scores."""
    pairs = [
        (np.asarray(s, float), np.asarray(b, float)) for s, b in zip(sides, blind, strict=True)
    ]
    if any(s.shape != b.shape for s, b in pairs):
        return False  # different texts, which the comparison rejects
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
        raise ValueError("there must be 1 or more usable scores; got none.")
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
            f"However, the baseline {baseline} partly separates the sets without the model."
            if seen
            else f"No baseline is above chance; the best is {baseline}."
        )
        return (
            f"The score {attack} separates members from non-members, clearly better than any "
            f"baseline that never sees the model (corrected p = {best.p_claim:.2g}). {also}"
        )
    apart = best.above_blind
    reasons = {
        "unchecked": "No blind baseline ran (it needs the texts), so other differences between "
        f"the sets are not ruled out. The best attack is {attack}.",
        "confounded": f"The baseline {baseline} separates the sets without the model, and no "
        f"attack is clearly better; the best is {attack}.",
        "undecided": f"The score {attack} separates the two sets, but not clearly better than "
        f"{best.blind}, which never sees the model: the AUCs differ by "
        f"{apart.value:+.3f} ({apart.low:+.3f} to {apart.high:+.3f}).",
        "nothing": f"No attack separates members from non-members; the best is {attack}.",
    }
    return f"{reasons[kind]} No membership claim follows."
