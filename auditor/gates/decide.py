"""Decide the gates of an audit file, and compare a run with the last one."""

from __future__ import annotations

from typing import Any

from attacks.statistics.intervals import Estimate, is_past
from auditor.comparison.runs import compare_runs
from auditor.config.gates import Gates
from auditor.gates.history import last_before
from auditor.runs.figures import Found, exposure, personal_data, precision, verified
from auditor.runs.gate_results import Decision, RunDiff
from auditor.runs.run import Run
from reports.analysis.strategy_estimates import passage_words


def compare_with_last(run: Run) -> RunDiff | None:
    """Passages new, gone and unchanged since the last complete run of the same audit.

    The earlier run lies in the same parent folder.

    Parameters
    ----------
    run : Run, complete

    Returns
    -------
    RunDiff; None if there is no earlier run, or no training text to find passages in.

    Raises
    ------
    AuditError
        If the earlier run is damaged.
    """
    last = last_before(run) if run.config.has_training_text else None
    if last is None:
        return None
    found = compare_runs(last.path, run.path).counts()
    target = run.manifest.models.get("target")
    return RunDiff(
        run=str(last.path),
        when=last.when,
        new=found["only B"],
        gone=found["only A"],
        unchanged=found["both"],
        same_seed=last.seed == run.config.seed,
        same_weights=(target.sha256 if target else "") == last.weights,
    )


def judge(run: Run, gates: Gates, since: RunDiff | None) -> tuple[Decision, ...]:
    """Decide every gate that is set.

    Parameters
    ----------
    run : Run, complete
    gates : Gates
    since : result of `compare_with_last`

    Returns
    -------
    tuple of Decision, in the order of the fields of Gates.

    Raises
    ------
    RunError
        If the run lacks a figure that a gate needs.
    """
    return tuple(_decide(name, limit, run, gates, since) for name, limit in gates.limits().items())


def _decide(name: str, limit: Any, run: Run, gates: Gates, since: RunDiff | None) -> Decision:
    if name == "no_new_passages_since":
        return _no_new_passages(limit, since)
    found = _FIGURES[name](run, gates.strict)
    if found is None:
        sentence = "there is nothing to measure"
        return Decision(gate=name, limit=limit, passed=True, sentence=sentence)
    past = is_past(found, limit, strict=gates.strict)
    sentence = f"{_WORDS[name](found)}; allowed {_LIMITS[name](limit)}"
    interval = {"value": found.value, "low": found.low, "high": found.high}
    return Decision(gate=name, limit=limit, passed=not past, sentence=sentence, **interval)


def _no_new_passages(limit: str, since: RunDiff | None) -> Decision:
    name = "no_new_passages_since"
    if since is None:
        sentence = "there is no earlier run of this audit to compare with"
        return Decision(gate=name, limit=limit, passed=True, sentence=sentence)
    # No interval needed: at a rate of 0 there is never a new passage, so one is enough to fail.
    are = "passage is" if since.new == 1 else "passages are"
    sentence = f"{since.new:,} {are} new since {since.run}; allowed none"
    passed, new = since.new == 0, float(since.new)
    return Decision(gate=name, limit=limit, passed=passed, sentence=sentence, value=new)


_FIGURES: dict[str, Any] = {
    "max_verified": lambda run, strict: verified(run),
    "max_precision": lambda run, strict: precision(run, strict=strict),
    "max_exposure_bits": lambda run, strict: exposure(run, strict=strict),
    "max_personal_data": lambda run, strict: personal_data(run),
}


def _range(i: Estimate, factor: float = 1.0) -> str:
    return f"{factor * i.low:.1f}–{factor * i.high:.1f}"


def _verified_words(found: Found) -> str:
    counts = f"{found.value:,.0f} of {found.n:,} candidates are verbatim"
    counts += passage_words(found.passages)
    return f"{counts} (95 % interval {_range(found)})"


def _precision_words(found: Found) -> str:
    share = f"{100 * found.value:.1f} % of the list {found.of} is verbatim"
    share += passage_words(found.passages)
    among = "" if found.n == 1 else f" for {found.n} lists"
    return f"{share} (95 % interval{among} {_range(found, 100)} %)"


def _exposure_words(found: Found) -> str:
    among = "" if found.n == 1 else f" for {found.n} canaries"
    bits = f"canary {found.of} has an exposure of {found.value:.1f} bits"
    return f"{bits} (95 % interval{among} {_range(found)})"


def _personal_words(found: Found) -> str:
    counts = f"{found.value:,.0f} of {found.n:,} candidates contain personal data"
    return f"{counts} (95 % interval {_range(found)})"


_WORDS = {
    "max_verified": _verified_words,
    "max_precision": _precision_words,
    "max_exposure_bits": _exposure_words,
    "max_personal_data": _personal_words,
}
_LIMITS = {
    "max_verified": lambda limit: f"{limit:,}",
    "max_precision": lambda limit: f"{100 * limit:g} %",
    "max_exposure_bits": lambda limit: f"{limit:g}",
    "max_personal_data": lambda limit: f"{limit:,}",
}
