"""Convert ragged Parquet columns to TokenStats and back."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from attacks.scores.token_stats import TokenStats


def stats_of(table: pa.Table) -> TokenStats:
    """The TokenStats of a table's token_ids, logprob and rank columns."""
    lists = [table[name].combine_chunks() for name in ("token_ids", "logprob", "rank")]
    offsets = np.asarray(lists[0].offsets, dtype=np.int64)
    # A slice's offsets do not start at 0; flatten() returns only the slice's values.
    flat = [np.asarray(column.flatten()) for column in lists]
    return TokenStats(offsets - offsets[0], *flat)


def stats_columns(stats: TokenStats) -> dict[str, pa.Array]:
    """TokenStats as the three list columns of a table."""
    return {
        name: pa.ListArray.from_arrays(pa.array(stats.offsets.astype(np.int32)), pa.array(values))
        for name, values in (
            ("token_ids", stats.token_ids),
            ("logprob", stats.logprob),
            ("rank", stats.rank),
        )
    }
