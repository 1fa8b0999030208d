"""Stage 3: rank, skip duplicates, and score the shortlist again in float32."""

from __future__ import annotations

import contextlib

import numpy as np
import pandas as pd
import pyarrow as pa

from auditor.audit.context import Context
from auditor.audit.scoring import score_batch, texts_of
from auditor.audit.shard_table import stats_columns, stats_of
from auditor.config.served import is_url
from auditor.errors import ModelError, TooLargeError
from reports.analysis.schema import CONTROL
from reports.analysis.shortlist import select_candidates

LISTS = "shortlist/lists.parquet"
COUNTS = "shortlist/counts.parquet"
INEXACT = (
    "The models do not fit into memory in float32: the reported scores have the precision of the "
    "sampling."
)
SAMPLES = "shortlist/samples.parquet"


def shortlist(context: Context) -> None:
    """Write shortlist/: the lists, their counts, and their samples with exact scores."""
    if all(context.run.has(name) for name in (LISTS, COUNTS, SAMPLES)):
        return
    with context.timed("shortlist"), context.progress.stage("ranking", 1, "lists") as bar:
        lists, counts, table, figures = _select(context)
        bar.advance(1)
    is_fast = any(m.dtype != "float32" for m in context.run.manifest.models.values())
    exact = _again(context, table) if is_fast else None
    if exact is not None:
        table, figures = exact
        lists = _rank_again(lists, figures)
    context.run.manifest.rescored_in_float32 = exact is not None
    context.run.write(COUNTS, counts)
    context.run.write(LISTS, lists)
    context.run.write(SAMPLES, _joined(table, figures))


def provisional_shortlist(context: Context) -> tuple[pd.DataFrame, pd.DataFrame, pa.Table]:
    """Lists, counts and samples of all shards scored so far, for a report on an unfinished audit.

    Writes nothing and runs no model. Raises a RunError if nothing is scored yet.
    """
    lists, counts, table, figures = _select(context)
    return lists, counts, _joined(table, figures)


def _select(context: Context) -> tuple[pd.DataFrame, pd.DataFrame, pa.Table, pd.DataFrame]:
    """Lists and their counts; rows and scores of the listed samples."""
    scores = context.run.scores()
    chosen = select_candidates(
        scores,
        lambda ids: _texts(context, ids),
        top=context.config.top,
        seed=context.config.seed,
    )
    listed = set(chosen.chosen["sample_id"])
    figures = scores[scores["sample_id"].isin(listed)].drop(columns=["strategy", "n_tokens"])
    return chosen.chosen, chosen.counts, _rows(context, listed), figures


def _texts(context: Context, sample_ids: list[str]) -> list[str]:
    """Texts of samples; reads only the shards that contain them."""
    ids = set(sample_ids)
    found: dict[str, str] = {}
    for name in _files_of(context, ids):
        table = context.run.read(name, ["sample_id", "text"])
        rows = zip(table["sample_id"].to_pylist(), table["text"].to_pylist(), strict=True)
        found |= {key: text for key, text in rows if key in ids}
    return [found[key] for key in sample_ids]


def _files_of(context: Context, sample_ids: set[str]) -> list[str]:
    step = context.config.shard_size
    places = {key.rpartition("-")[::2] for key in sample_ids}
    return sorted({f"samples/{strategy}-{int(n) // step:05}.parquet" for strategy, n in places})


def _rows(context: Context, sample_ids: set[str]) -> pa.Table:
    """The shortlisted sample rows, ordered by strategy and sample number."""
    files = set(_files_of(context, sample_ids))
    parts = []
    for strategy in context.config.strategies:
        for stem, _ in context.shards(strategy):
            if (name := f"samples/{stem}.parquet") in files:
                table = context.run.read(name)
                is_listed = pa.compute.is_in(table["sample_id"], pa.array(sample_ids))
                parts.append(table.filter(is_listed))
    return pa.concat_tables(parts).combine_chunks()


def note_precision(context: Context) -> None:
    """Report before the run if scores cannot be recomputed in float32."""
    if context.config.dtype == "float32" or context.run.has(SAMPLES):
        return
    with contextlib.suppress(ModelError):  # reported when the model is loaded
        if not _ways(context):
            context.note(INEXACT)


def _ways(context: Context) -> list[bool]:
    from auditor.models.loading import float32_options

    specs = [context.config.model, *context.config.references.values()]
    return float32_options(specs, context.config.device)


def _again(context: Context, table: pa.Table) -> tuple[pa.Table, pd.DataFrame] | None:
    """Score the shortlist again in float32 with every model, so that reported figures are exact.

    None if that does not fit into memory: the original scores are reported then.
    """
    context.release()
    if ways := _ways(context):
        context.by_layers = ways[0]
        try:
            return _exact(context, table)
        except TooLargeError:
            context.release()
    context.note(INEXACT)
    return None


def _exact(context: Context, table: pa.Table) -> tuple[pa.Table, pd.DataFrame]:
    texts = texts_of(context, table)
    n_models = 2 + len(context.config.references)
    with (
        context.timed("rescore"),
        context.progress.stage("scoring in float32", n_models * len(table), "texts") as bar,
    ):
        # A served model has no other precision: what it told with the samples stays.
        known = stats_of(table) if is_url(context.config.model) else None
        scored, columns = score_batch(
            context, texts, known, name="rescore", progress=bar.advance, dtype="float32"
        )
    for name, column in stats_columns(scored.stats).items():
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return table, pd.DataFrame({"sample_id": table["sample_id"].to_pandas(), **columns})


def _rank_again(lists: pd.DataFrame, figures: pd.DataFrame) -> pd.DataFrame:
    """The same members in each list, ordered by the exact scores."""
    values = figures.set_index("sample_id")
    parts = []
    for (_, score), rows in lists.groupby(["strategy", "score"], sort=False):
        if score != CONTROL:
            exact = values.loc[rows["sample_id"], score].to_numpy()
            # Sort by sample_id first, so that ties have a fixed order; NaN goes last.
            rows = rows.assign(exact=exact).sort_values("sample_id", kind="stable")
            rows = rows.iloc[np.argsort(-rows["exact"].to_numpy(), kind="stable")]
            rows = rows.assign(rank=np.arange(1, len(rows) + 1)).drop(columns="exact")
        parts.append(rows)
    return pd.concat(parts, ignore_index=True)


def _joined(table: pa.Table, figures: pd.DataFrame) -> pa.Table:
    """Sample rows and their scores side by side."""
    ordered = figures.set_index("sample_id").loc[table["sample_id"].to_pylist()]
    for name in ordered.columns:
        table = table.append_column(name, pa.array(ordered[name].to_numpy(dtype=np.float64)))
    return table
