"""Unselected samples: the first of each strategy, on which estimates of whole strategies rest.

The first samples are a random draw, as each depends only on its number and the seed. How many are
taken depends only on their size, so the same config takes the same samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from auditor.audit.context import TARGET, Context
from auditor.matching.queries import Query

if TYPE_CHECKING:
    from auditor.models.tokenizer import Vocabulary

UNSELECTED = "matches/unselected.parquet"
QUERY_COLUMNS = ["sample_id", "text", "token_ids", "prompt_token_ids"]

# Text matched in one pass; the matcher needs about 30 bytes of memory per byte.
MOST_BYTES = 64 << 20
_COLUMNS = [*QUERY_COLUMNS, "n_bytes"]


def unselected(context: Context) -> dict[str, pa.Table]:
    """The first samples of each strategy, all if they fit: the tables that `queries_of` takes.

    Every strategy gets the same share of the memory, and at least one sample.
    """
    budget = MOST_BYTES // len(context.config.strategies)
    found = {}
    for strategy in context.config.strategies:
        parts: list[pa.Table] = []
        left = budget
        for stem, _ in context.shards(strategy):
            table = context.run.read(f"samples/{stem}.parquet", _COLUMNS)
            so_far = pa.compute.cumulative_sum(table["n_bytes"]).to_numpy()
            n = int((so_far <= left).sum())
            if n < len(table):
                parts.append(table.slice(0, n if parts else max(1, n)))
                break
            parts.append(table)
            left -= int(so_far[-1])
        found[strategy.name] = pa.concat_tables(parts).drop_columns("n_bytes")
    return found


def queries_of(context: Context, tables: dict[str, pa.Table]) -> list[Query]:
    """The samples of these tables as queries."""
    vocabulary = context.vocabulary(TARGET)
    return [query_of(vocabulary, row) for table in tables.values() for row in table.to_pylist()]


def query_of(vocabulary: Vocabulary, row: dict[str, Any]) -> Query:
    """The query of a sample, from its QUERY_COLUMNS."""
    ids = row["token_ids"]
    ends = vocabulary.ends_in(row["text"], ids, row["prompt_token_ids"])
    return Query(row["sample_id"], row["text"], ends[vocabulary.writes(ids)])


def note_partial(context: Context, tables: dict[str, pa.Table]) -> None:
    """Note which strategies are estimated from their first samples only."""
    n = context.config.samples
    for name, table in tables.items():
        if len(table) < n:
            context.note(
                f"{name}: besides the candidates, only the first {len(table):,} of {n:,} samples "
                "were searched for in the training text. Estimates for the strategy use these."
            )
