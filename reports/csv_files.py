"""Frames as CSV that any reader can open: one line a row, nothing hidden, nothing that runs."""

import csv
import io
from os import PathLike
from typing import TextIO

import numpy as np
import pandas as pd

from reports.safe_text import csv_cell


def write_csv(frame: pd.DataFrame, path_or_buffer: str | PathLike[str] | TextIO) -> None:
    r"""Write a frame as CSV; the same frame gives the same bytes anywhere.

    frame : columns of lists are omitted.
    path_or_buffer : A file is UTF-8 and is replaced if it exists. Lines end in a line feed.

    Text is made safe by `reports.safe_text.csv_cell`, numbers are written so that they can be read
    back exactly, and missing values are empty cells.

    >>> import io
    >>> buffer = io.StringIO()
    >>> write_csv(pd.DataFrame({"text": ["=1+1", "a\nb"], "nll": [0.1, np.nan]}), buffer)
    >>> print(buffer.getvalue())
    text,nll
    '=1+1,0.1
    a\nb,
    """
    if isinstance(path_or_buffer, str | PathLike):
        with open(path_or_buffer, "w", encoding="utf-8", newline="") as file:
            _write(frame, file)
    else:
        _write(frame, path_or_buffer)


def _write(frame: pd.DataFrame, file: TextIO) -> None:
    kept = [at for at in range(frame.shape[1]) if not _holds_lists(frame.iloc[:, at])]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([csv_cell(str(frame.columns[at])) for at in kept])
    columns = [_cells(frame.iloc[:, at]) for at in kept]
    writer.writerows(zip(*columns, strict=True))


def _holds_lists(column: pd.Series) -> bool:
    if column.dtype != object and not str(column.dtype).startswith(("list", "large_list")):
        return False
    return any(isinstance(value, list | tuple | np.ndarray) for value in column)


def _cells(column: pd.Series) -> list[str]:
    values = column.tolist()
    return [
        "" if missing else csv_cell(value) if isinstance(value, str) else str(value)
        for value, missing in zip(values, column.isna().tolist(), strict=True)
    ]


def as_csv(frame: pd.DataFrame) -> bytes:
    """A frame as CSV, text made safe for spreadsheets."""
    sink = io.StringIO()
    write_csv(frame, sink)
    return sink.getvalue().encode("utf-8")
