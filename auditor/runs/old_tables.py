"""Tables of earlier versions, read as today's: names of columns, missing columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from reports.privacy.items import COLUMNS

# The score is -(mean nats) per token; the perplexity is exp(mean nats).
RENAMED = {"perplexity": "likelihood"}
_PERSONAL = {f"personal:{kind}": name for kind, name in COLUMNS.items()}
_PERSONAL |= {f"with_{old}": f"with_{new}" for old, new in _PERSONAL.items()}
_RANKINGS = ("rank", "p_value", "q_value")
_NAMED = ("score", "first", "second")  # columns whose values are names of scores
_IS_CONTROL, _BEST_RANK = "is_control", "best_rank"


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


def current_columns(stored: Iterable[str]) -> list[str]:
    """Today's columns of a file.

    >>> current_columns(["perplexity", "best_rank"])
    ['likelihood', 'best_rank', 'is_control']
    """
    names = [current_name(name) for name in stored]
    if _BEST_RANK in names and _IS_CONTROL not in names:
        names.insert(names.index(_BEST_RANK) + 1, _IS_CONTROL)
    return names


def stored_columns(columns: Sequence[str], stored: Sequence[str]) -> list[str]:
    """The columns of a file that today's columns are made of.

    >>> stored_columns(["likelihood", "is_control"], ["perplexity", "best_rank", "zlib"])
    ['perplexity', 'best_rank']
    """
    old = {current_name(name): name for name in stored} | {_IS_CONTROL: _BEST_RANK}
    return list(dict.fromkeys(n if n in stored else old.get(n, n) for n in columns))


def as_current(table: pa.Table) -> pa.Table:
    """A table with today's columns, and today's names of scores in them.

    >>> old = pa.table({"score": ["zlib", "perplexity"], "n_chosen": [3, 4]})
    >>> as_current(old)["score"].to_pylist()
    ['zlib', 'likelihood']
    """
    names = current_columns(table.column_names)
    table = _renamed(table)
    if len(names) > len(table.column_names):
        at = names.index(_IS_CONTROL)
        table = table.add_column(at, _IS_CONTROL, pc.is_null(table[_BEST_RANK], nan_is_null=True))
    for at, name in enumerate(table.column_names):
        if name in _NAMED and _is_text(table[name].type):
            values = table[name].cast(pa.large_string())  # from a dictionary, if it is a category
            for old, new in RENAMED.items():
                if pc.any(is_old := pc.equal(values, old)).as_py():
                    values = pc.if_else(is_old, new, values)
                    table = table.set_column(at, name, values)
    return table


def _renamed(table: pa.Table) -> pa.Table:
    """The table with today's names of columns, also in what pandas noted of their types."""
    names = [current_name(name) for name in table.column_names]
    if names == table.column_names:
        return table
    metadata = dict(table.schema.metadata or {})
    if b"pandas" in metadata:
        known = json.loads(metadata[b"pandas"])
        for column in known["columns"]:
            for key in ("name", "field_name"):
                column[key] = current_name(column[key]) if column[key] else column[key]
        metadata[b"pandas"] = json.dumps(known).encode()
    return table.rename_columns(names).replace_schema_metadata(metadata)


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)
