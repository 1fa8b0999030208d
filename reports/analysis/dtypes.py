"""Frames with the types that the schema names: categories, and integers that may be missing."""

from collections.abc import Mapping, Sequence

import pandas as pd

from reports.analysis.schema import Table


def typed(
    frame: pd.DataFrame, table: Table, *, values: Mapping[str, Sequence[str]] | None = None
) -> pd.DataFrame:
    """The frame with the table's types: categories, and integers that may be missing.

    frame : any of the table's columns, and columns that it does not list, which stay as they are.
    values : mapping of a column's name to its categories in order, optional. For categories whose
        values the table does not list, in place of the order of appearance.

    >>> from reports.analysis.schema import CANDIDATES
    >>> frame = pd.DataFrame({"verdict": ["fuzzy"], "n_documents": [3.0], "text": ["a"]})
    >>> typed(frame, CANDIDATES).dtypes.astype(str).tolist()
    ['category', 'Int64', 'str']
    """
    types: dict[str, object] = {}
    for name in map(str, frame.columns):
        column = next((c for c in table.columns if c.matches(name)), None)
        if column is None or column.dtype.startswith("list"):
            continue
        known = column.values or (values or {}).get(name)
        if column.dtype != "category":
            types[name] = column.dtype
        elif known:
            # A value that nobody listed is kept: it says more than a gap would.
            types[name] = pd.CategoricalDtype([*dict.fromkeys([*known, *frame[name].dropna()])])
        else:
            types[name] = pd.CategoricalDtype(frame[name].dropna().unique().tolist())
    return frame.astype(types)


def table_of(rows: pd.DataFrame | list[dict], table: Table) -> pd.DataFrame:
    """Rows as a frame with exactly the columns of a table, in its order and with its types."""
    frame = pd.DataFrame(rows).reindex(columns=[c.name for c in table.columns])
    if frame.empty:  # reindexed as floats, which would become the type of the categories
        frame = frame.astype(object)
    return frame.astype({c.name: c.dtype for c in table.columns})
