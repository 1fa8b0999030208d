"""Estimates beyond single lists: whole strategies, pairs of scores, calibration and costs."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from auditor.audit.controls import controls_file, no_controls
from auditor.audit.unselected import UNSELECTED
from auditor.config.audit import VERIFIED, AuditConfig
from auditor.runs.run import Run
from auditor.runs.writer import RunWriter
from reports.analysis.calibration import Calibration, calibrate, no_calibration
from reports.analysis.checked_lists import calibrate_by_checks
from reports.analysis.schema import CANDIDATES, conform
from reports.analysis.score_comparisons import compare_scores
from reports.analysis.strategy_estimates import estimate_strategies
from reports.csv_files import as_csv
from reports.pages.tables import cost_table

# Written as .parquet and .csv; the same config gives the same bytes.
TABLES = ("strategies", "discovery", "comparisons", "calibration")


@dataclass(frozen=True, eq=False)
class Estimates:
    """The frames `strategies`, `discovery`, `comparisons`, `calibration` and `costs`.

    `costs` is shown on the page only, as it depends on wall-clock time. `p_values`: p_value:NAME
    and q_value:NAME of samples; None without controls.
    """

    strategies: pd.DataFrame
    discovery: pd.DataFrame
    comparisons: pd.DataFrame
    calibration: pd.DataFrame
    costs: pd.DataFrame
    p_values: pd.DataFrame | None


def make_estimates(run: Run, candidates: pd.DataFrame, counts: pd.DataFrame) -> Estimates:
    """All estimates of a run, from its candidates, the counts of their lists, and its files."""
    samples = run.samples(["sample_id", "strategy", "n_tokens"])
    matches, looked_up = None, {}
    if run.has(UNSELECTED):
        matches = run.read(UNSELECTED).to_pandas().drop(columns="places")
        looked_up = run.manifest.shards[UNSELECTED].looked_up
    found = estimate_strategies(samples, matches, looked_up, dependent=why_dependent(run.config))
    calibration = _calibration(run, candidates, samples, matches, looked_up)
    return Estimates(
        found.table,
        found.discovery,
        compare_scores(candidates, counts),
        no_calibration() if calibration is None else calibration.table,
        costs_of(run, found.table),
        None if calibration is None else calibration.samples,
    )


def _calibration(run: Run, candidates, samples, matches, looked_up) -> Calibration | None:
    """Calibrate by verified lists or by held-out text; None if not requested."""
    config = run.config
    if not config.controls or config.fdr is None:
        return None
    if config.controls == VERIFIED:
        return calibrate_by_checks(candidates, fdr=config.fdr, seed=config.seed)
    names = [s.name for s in config.strategies if run.has(controls_file(s.name))]
    controls = {name: run.read(controls_file(name)).to_pandas() for name in names}
    checked: dict[str, set[str]] = {}
    if matches is not None:
        groups = samples.groupby("strategy", observed=True)["sample_id"]
        ids = [list(own)[: looked_up.get(str(name), 0)] for name, own in groups]
        checked = {"verbatim": set(matches["sample_id"]), "looked_up": set().union(*ids)}
    reasons = {s.name: no_controls(s) or "no control is scored yet" for s in config.strategies}
    return calibrate(run.scores(), controls, fdr=config.fdr, reasons=reasons, **checked)


_OF_STRATEGY = (
    *("precision", "precision_low", "precision_high", "n_passages"),
    *("new_rate", "new_rate_low", "new_rate_high", "total", "total_low", "total_high"),
    *("tokens_per_verbatim", "tokens_per_verbatim_low", "tokens_per_verbatim_high"),
)


def with_estimates(summary: pd.DataFrame, estimates: Estimates) -> pd.DataFrame:
    """The summary with the strategies' estimates and the lengths of the calibrated lists."""
    table = estimates.strategies.set_index("strategy")[list(_OF_STRATEGY)].add_prefix("strategy_")
    summary = summary.join(table.astype("float64"), on="strategy")
    if estimates.p_values is None:
        return summary
    columns = ["strategy", "score", "n_listed", "estimated_false"]
    return summary.merge(estimates.calibration[columns], on=["strategy", "score"], how="left")


def with_p_values(candidates: pd.DataFrame, estimates: Estimates) -> pd.DataFrame:
    """The candidates with the p-values and q-values of their scores."""
    if estimates.p_values is None:
        return candidates
    return conform(candidates.merge(estimates.p_values, on="sample_id", how="left"), CANDIDATES)


def costs_of(run: Run, strategies: pd.DataFrame) -> pd.DataFrame:
    """Cost per finding in tokens, recorded seconds and money at the run's price."""
    sampled = run.manifest.stages.get("sample")
    timed = sampled.strategies if sampled else {}
    seconds = {name: entry.seconds for name, entry in timed.items()}
    return cost_table(strategies, seconds, run.manifest.price_per_hour)


def write_estimates(run: RunWriter, estimates: Estimates) -> None:
    """Write the tables as Parquet and CSV."""
    for name in TABLES:
        frame = getattr(estimates, name)
        run.write(f"{name}.parquet", frame)
        run.write_bytes(f"{name}.csv", as_csv(frame))


def why_dependent(config: AuditConfig) -> dict[str, str]:
    """Strategies whose samples are not mutually independent, and why."""
    why = {}
    for strategy in config.strategies:
        prompts = strategy.prompts
        if strategy.decoding.beams > 1:
            why[strategy.name] = "beam search does not draw independent samples"
        elif prompts.kind != "bos" and prompts.samples_per_prompt > 1:
            why[strategy.name] = "samples that share a prompt are not independent"
    return why
