"""Decide the gates of an audit file, and compare a run with the last one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from auditor.comparison.runs import compare_runs
from auditor.config.gates import Gates
from auditor.gates.history import last_before
from auditor.runs.figures import exposure, personal_data, precision, verified
from auditor.runs.gate_results import Decision, RunDiff
from auditor.runs.run import Run
from reports.analysis.found_verbatim import Found
from reports.analysis.strategy_estimates import passage_words


def compare_with_last(run: Run) -> RunDiff | None:
    """Passages new, gone and unchanged since the last complete run of the same audit.

    The earlier run is in the same parent folder. None if there is none, or no training text.
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
    """Decide every gate that is set; `since` comes from `compare_with_last`.

    Raises a RunError if the run lacks a figure that a gate needs.
    """
    return tuple(_decide(name, limit, run, gates, since) for name, limit in gates.limits().items())


def _decide(name: str, limit: Any, run: Run, gates: Gates, since: RunDiff | None) -> Decision:
    if name == "no_new_passages_since":
        return _no_new_passages(limit, since)
    measure, describe, allowed = _GATES[name]
    found, passed = measure(run), True
    if found is None:
        sentence = "there is nothing to measure"
        return Decision(gate=name, limit=limit, passed=True, sentence=sentence)
    doubt = ""
    if gates.decide_by == "figure":
        passed = found.value <= limit
    elif (surest := measure(run, by_low_end=True)).low > limit:
        found, passed = surest, False
    elif found.value > limit:
        doubt = ", which the interval does not exclude"
    sentence = f"{describe(found)}; allowed {allowed(limit)}{doubt}"
    interval = {"value": found.value, "low": found.low, "high": found.high}
    return Decision(gate=name, limit=limit, passed=passed, sentence=sentence, **interval)


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


def _with_interval(
    what: str, found: Found, *, among: str = "", factor: int = 1, unit: str = ""
) -> str:
    several = f" for {found.n} {among}" if among and found.n != 1 else ""
    ends = f"{factor * found.low:.1f}–{factor * found.high:.1f}{unit}"
    return f"{what}{passage_words(found.passages)} (95 % {found.interval} interval{several} {ends})"


def _verified_words(found: Found) -> str:
    return _with_interval(f"{found.value:,.0f} of {found.n:,} candidates are verbatim", found)


def _precision_words(found: Found) -> str:
    share = f"{100 * found.value:.1f} % of the list {found.of} is verbatim"
    return _with_interval(share, found, among="lists", factor=100, unit=" %")


def _exposure_words(found: Found) -> str:
    bits = f"canary {found.of} has an exposure of {found.value:.1f} bits"
    return _with_interval(bits, found, among="canaries")


def _personal_words(found: Found) -> str:
    return _with_interval(
        f"{found.value:,.0f} of {found.n:,} candidates contain personal data", found
    )


def _whole(measure: Callable[[Run], Found]) -> Callable[..., Found]:
    """A figure of the whole run: there is nothing to select by the low end."""
    return lambda run, *, by_low_end=False: measure(run)


# Gate -> its figure, the figure in words, and the limit in words.
_GATES: dict[str, tuple[Any, Any, Any]] = {
    "max_verified": (_whole(verified), _verified_words, "{:,}".format),
    "max_precision": (precision, _precision_words, lambda limit: f"{100 * limit:g} %"),
    "max_exposure_bits": (exposure, _exposure_words, "{:g}".format),
    "max_personal_data": (_whole(personal_data), _personal_words, "{:,}".format),
}
