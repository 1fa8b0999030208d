"""Names of columns and scores in runs of earlier versions, mapped to today's on reading."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from reports.privacy.items import COLUMNS

# The score was -(mean nats) per token, which is not the perplexity: that is exp(mean nats).
RENAMED = {"perplexity": "likelihood"}
_PERSONAL = {f"personal:{kind}": name for kind, name in COLUMNS.items()}
_PERSONAL |= {f"with_{old}": f"with_{new}" for old, new in _PERSONAL.items()}
_RANKINGS = ("rank", "p_value", "q_value")
_NAMED = ("score", "first", "second")  # columns whose values are names of scores


def current_name(column: str) -> str:
    """Today's name of a column, or of a score.

    >>> current_name("perplexity"), current_name("rank:perplexity"), current_name("rank:zlib")
    ('likelihood', 'rank:likelihood', 'rank:zlib')
    >>> current_name("with_personal:API key")
    'with_personal_api_key'
    """
    if column in _PERSONAL:
        return _PERSONAL[column]
    prefix, colon, score = column.rpartition(":")
    if prefix and prefix not in _RANKINGS:
        return column
    return prefix + colon + RENAMED.get(score, score)


def stored_names(columns: Iterable[str], stored: Iterable[str]) -> list[str]:
    """The names in a file whose columns are `stored`, for today's names.

    >>> stored_names(["likelihood", "zlib"], ["sample_id", "perplexity", "zlib"])
    ['perplexity', 'zlib']
    """
    old = {current_name(name): name for name in stored}
    return [old.get(name, name) for name in columns]


def with_current_names(table: pa.Table) -> pa.Table:
    """A table with today's names of scores, in its columns and in the values that name a score.

    >>> old = pa.table({"score": ["zlib", "perplexity"], "n_chosen": [3, 4]})
    >>> with_current_names(old)["score"].to_pylist()
    ['zlib', 'likelihood']
    """
    table = table.rename_columns([current_name(name) for name in table.column_names])
    for at, name in enumerate(table.column_names):
        if name in _NAMED and _is_text(table[name].type):
            values = table[name].cast(pa.large_string())  # from a dictionary, if it is a category
            for old, new in RENAMED.items():
                if pc.any(is_old := pc.equal(values, old)).as_py():
                    values = pc.if_else(is_old, new, values)
                    table = table.set_column(at, name, values)
    return table


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)
