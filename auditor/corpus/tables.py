"""Read CSV, TSV, Parquet and Arrow tables: one document per row."""

import csv
import json
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from shutil import copyfileobj
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from auditor.corpus.compression import decode, ending, open_stream, open_text
from auditor.corpus.fields import (
    ID_FIELDS,
    SAMPLE_FIELDS,
    field_of,
    joined_text,
    no_field,
    text_fields,
    wrong_field,
)
from auditor.corpus.problems import FileReport
from auditor.corpus.text_files import Document, Source, decoded_lines
from reports.number_text import count

# The csv module's default limit of 128 kB is too small for documents.
_FIELD_BYTES = 2**31 - 1
_ROWS = 512
# Placeholders for text and for other values in a `sample_row`.
TEXT, _OTHER = "", 0
# A longer row must have an unclosed quote. The csv module takes 4 bytes per character.
_ROW_CHARS = 64 << 20
# After this many broken rows that end at one line, each line is read as a row.
_BREAKS = 16


def read_csv(source: Source) -> Iterator[Document]:
    """Read CSV or TSV whose first row names the columns: one document per row.

    CSV follows RFC 4180: a field in double quotes may contain line breaks. If a row is malformed,
    for instance because a quote is never closed, only its first line is skipped. Rows are limited
    to 64 Mi characters to bound memory. In TSV, quotes have no special meaning, and fields contain
    neither tabs nor line breaks.
    """
    csv.field_size_limit(_FIELD_BYTES)
    report = source.report
    with open_text(source.file.path, report) as stream:
        lines = _Lines(stream, report)
        if ending(source.file.path) == ".tsv":
            rows = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        else:
            rows = csv.reader(lines, strict=True)
        names: list[str] = []
        fields: tuple[str, ...] = ()
        has_rows = False
        while True:
            number = lines.begin_row()
            place = f"line {number:,}"
            try:
                values = next(rows, None)
            except csv.Error as error:
                # For a bare CR the module's message is about opening files, which misleads.
                why = "a CR in a field" if "new-line" in str(error) else str(error)
                if lines.is_too_long:
                    why = f"a quote is open for more than {_ROW_CHARS:,} characters"
                report.note("csv", f"{place} is not valid CSV ({why})")
                lines.put_back()
                has_rows = True
                continue
            if values is None:
                break
            if not values:
                continue
            if not names:
                names = values
                # All columns are text, so a single column is chosen whatever its name.
                columns = dict.fromkeys(names, "")
                fields = text_fields(columns, source.text_field, names)
                if not fields:
                    missing = no_field(columns, source.text_field, "column")
                    raise wrong_field(report, f"{place} {missing}")
                continue
            has_rows = True
            if len(values) != len(names):
                what = (
                    f"{place} has {count(len(values), 'field')}; the first row has {len(names):,}"
                )
                report.note("fields", what, lines.n_in_row)
                continue
            row = dict(zip(names, values, strict=True))
            text = joined_text(row, fields, place, report, n_lines=lines.n_in_row)
            if text:
                yield source.document(row, text, number)
    report.note_if_empty()
    if report.n_lines and not has_rows:
        report.note("empty", "the file has no rows", then="Nothing is read from it")


class _Lines(Iterator[str]):
    """Decoded lines with their line breaks; the lines of a malformed row can be read again.

    An unclosed quote extends a row to the next quote, to the end, or to the length limit. If many
    rows break at the same line, or one is too long, each of their lines is read as a row, so that
    reading takes linear time.
    """

    def __init__(self, stream: BinaryIO, report: FileReport) -> None:
        self._lines, self._report = decoded_lines(stream, report), report
        self._n_before = 0
        self._row: list[str] = []
        self._again: deque[str] = deque()
        self._n_breaks = self._broken_at = self._n_single = self._n_chars = 0
        self.is_too_long = False

    @property
    def n_in_row(self) -> int:
        return len(self._row)

    def begin_row(self) -> int:
        """Start a row; returns the number, from 1, of its first line."""
        self._n_before += len(self._row)
        self._row, self._n_chars, self.is_too_long = [], 0, False
        return self._n_before + 1

    def put_back(self) -> None:
        """Return all lines of this row but the first to the input."""
        self._again.extendleft(reversed(self._row[1:]))
        del self._row[1:]
        if self._report.n_lines != self._broken_at:
            self._broken_at, self._n_breaks = self._report.n_lines, 0
        self._n_breaks += 1
        if self._n_breaks == _BREAKS or self.is_too_long:
            self._n_single = len(self._again)

    def __next__(self) -> str:
        if self._row and self._n_single:
            raise StopIteration
        if self._row and self._n_chars > _ROW_CHARS:
            self.is_too_long = True
            raise StopIteration
        line = self._again.popleft() if self._again else next(self._lines)
        self._n_single = max(0, self._n_single - 1)
        self._row.append(line)
        self._n_chars += len(line)
        return line


def read_parquet(source: Source) -> Iterator[Document]:
    """Read Parquet by row groups: one document per row."""
    report = source.report
    report.unit = "rows"
    errors = (pa.ArrowException, OSError, UnicodeDecodeError)
    with _seekable(source.file.path, report) as stream:
        try:
            table = pq.ParquetFile(stream)
        except errors as error:
            report.refuse("parquet", f"the file is not valid Parquet ({one_line(error)})")
            return
        rows = Rows(source)
        rows.choose(table.schema_arrow)
        for group in range(table.num_row_groups):
            begin, n_rows = rows.n_rows, table.metadata.row_group(group).num_rows
            try:
                batches = table.iter_batches(_ROWS, row_groups=[group], columns=rows.columns)
                for batch in batches:
                    yield from rows.documents(pa.Table.from_batches([batch]))
            except errors as error:
                n_lost = begin + n_rows - rows.n_rows
                what = f"rows {rows.n_rows + 1:,} to {begin + n_rows:,} cannot be read"
                # Later rows keep the ids that they have in the intact file.
                rows.n_rows = report.n_lines = begin + n_rows
                report.note("parquet", f"{what} ({one_line(error)})", n_lost)
    report.note_if_empty()


@contextmanager
def _seekable(path: Path, report: FileReport) -> Iterator[Any]:
    """A seekable file; compressed files are decompressed to a temporary one."""
    with open_stream(path, report) as stream:
        if stream.seekable():
            yield stream
            return
        with tempfile.TemporaryFile() as unpacked:
            copyfileobj(stream, unpacked, 1 << 20)
            unpacked.seek(0)
            yield unpacked


def one_line(error: BaseException) -> str:
    """Another package's error message, shortened to one line.

    >>> one_line(ValueError("No such thing.\\n  Try another."))
    'No such thing. Try another'
    """
    text = " ".join(str(error).split()) or "no reason given"
    return text[:300].rstrip(".")


@dataclass
class Rows:
    """Converts the batches of one Arrow table, in order, to documents."""

    source: Source
    n_rows: int = field(default=0, init=False)
    columns: list[str] = field(default_factory=list, init=False)
    _fields: tuple[str, ...] = field(default=(), init=False)

    def choose(self, schema: pa.Schema) -> None:
        """Choose the columns to read. Raises CorpusError if there is no text column."""
        fields, text_field = sample_row(schema), self.source.text_field
        self._fields = text_fields(fields, text_field, text_columns(schema))
        if not self._fields:
            raise wrong_field(self.source.report, no_field(fields, text_field, "column"))
        texts = [field_of(fields, path) for path in self._fields]
        # Read sample fields only if all are present.
        more = SAMPLE_FIELDS if all(name in fields for name in SAMPLE_FIELDS) else ()
        ids = [name for name in (*ID_FIELDS, *more) if name in fields]
        self.columns = list(dict.fromkeys([*texts, *ids]))

    def documents(self, table: pa.Table) -> Iterator[Document]:
        """The documents of the next rows; the first call chooses the columns if needed."""
        if not self._fields:
            self.choose(table.schema)
        values = [_values(table.column(name)) for name in self.columns]
        report = self.source.report
        for row in zip(*values, strict=True):
            self.n_rows += 1
            report.n_lines = self.n_rows
            place = f"row {self.n_rows:,}"
            cells = dict(zip(self.columns, row, strict=True))
            read = partial(self._text, place)
            text = joined_text(cells, self._fields, place, report, read=read)
            if text:
                also = (*ID_FIELDS, *SAMPLE_FIELDS)
                own = {name: read(cells[name], name) for name in also if name in cells}
                yield self.source.document(own, text, self.n_rows)

    def _text(self, place: str, value: Any, name: str) -> Any:
        """Bytes as text, None as empty text; other values unchanged."""
        if isinstance(value, bytes):
            return decode(value, 0, self.source.report, place=f"{place}, {name}: ")[0]
        if isinstance(value, list):
            return [self._text(place, word, name) for word in value]
        return "" if value is None else value


def text_columns(schema: pa.Schema) -> list[str]:
    """The columns of type text, except id columns."""
    return [c.name for c in schema if _is_text(c.type) and c.name not in ID_FIELDS]


def _is_text(kind: pa.DataType) -> bool:
    """Whether a type is text, in any memory layout."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return kind in (pa.string(), pa.large_string(), pa.string_view())


def _is_list(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.ListType | pa.LargeListType | pa.FixedSizeListType)


def sample_row(schema: pa.Schema) -> dict[str, Any]:
    """A row with the fields of a schema, nested ones included: TEXT in each text field."""
    return {column.name: _sample(column.type) for column in schema}


def _sample(kind: pa.DataType) -> Any:
    if pa.types.is_struct(kind):
        return {inner.name: _sample(inner.type) for inner in kind}
    if _is_list(kind):
        return [_sample(kind.value_type)]
    if _is_json(kind):
        return None
    return TEXT if _is_text(kind) else _OTHER


def _is_json(kind: pa.DataType) -> bool:
    """Whether values are JSON, which `datasets` uses for mixed types."""
    return getattr(kind, "extension_name", "") == "arrow.json"


def _has(kind: pa.DataType, is_one: Callable[[pa.DataType], bool]) -> bool:
    """Whether a type, or one nested in it, satisfies `is_one`."""
    inner = range(kind.num_fields) if pa.types.is_nested(kind) else ()
    return is_one(kind) or any(_has(kind.field(i).type, is_one) for i in inner)


def _parsed(kind: pa.DataType, value: Any) -> Any:
    """A value with all JSON in it parsed."""
    if _is_json(kind) and isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    if pa.types.is_struct(kind) and isinstance(value, dict):
        return {inner.name: _parsed(inner.type, value.get(inner.name)) for inner in kind}
    if _is_list(kind) and isinstance(value, list):
        return [_parsed(kind.value_type, item) for item in value]
    return value


def _values(column: pa.ChunkedArray) -> Iterable[Any]:
    """A column's values, with text as bytes, since it may not be valid UTF-8.

    Raises pa.ArrowInvalid if its offsets or indices, which pyarrow trusts, are out of bounds.
    """
    kind = column.type
    column.validate()
    if pa.types.is_dictionary(kind) and _is_text(kind):
        chunks = [x.dictionary.cast(pa.large_binary()).take(x.indices) for x in column.chunks]
        column = pa.chunked_array(chunks, pa.large_binary())
    elif _is_text(kind) or pa.types.is_nested(kind):
        if _has(kind, pa.types.is_dictionary):
            column.validate(full=True)
        column = column.cast(_as_bytes(kind))
    column.validate(full=True)
    values = column.to_pylist()
    return [_parsed(kind, value) for value in values] if _has(kind, _is_json) else values


def _as_bytes(kind: pa.DataType) -> pa.DataType:
    """The same type with bytes in place of text, also in nested types."""
    if _is_text(kind):
        return pa.large_binary()
    if pa.types.is_struct(kind):
        return pa.struct([inner.with_type(_as_bytes(inner.type)) for inner in kind])
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_as_bytes(kind.value_type)), kind.list_size)
    if _is_list(kind):
        make = pa.large_list if pa.types.is_large_list(kind) else pa.list_
        return make(kind.value_field.with_type(_as_bytes(kind.value_type)))
    return kind
