"""Tables: CSV, TSV, Parquet and Arrow -> documents, one a row."""

import csv
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copyfileobj
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from auditor.corpora.files import SourceFile
from auditor.corpora.formats import BOM, Document, decode
from auditor.corpora.problems import FileReport
from auditor.corpora.records import (
    ID_FIELDS,
    SAMPLE_FIELDS,
    joined_text,
    no_field,
    record_id,
    record_tokens,
    text_fields,
    wrong_field,
)
from auditor.corpora.streams import ending, open_stream

# The csv module's own limit, 128 kB, is less than many a document has.
_FIELD_BYTES = 2**31 - 1
_ROWS = 512


def read_csv(
    file: SourceFile, text_field: str | None, is_alone: bool, report: FileReport
) -> Iterator[Document]:
    """CSV or TSV whose first row names the columns: one document a row.

    CSV is read by RFC 4180: a field may stand in double quotes and then hold line breaks. In TSV
    quotes are characters like any other, and a field holds neither tabs nor line breaks.
    """
    csv.field_size_limit(_FIELD_BYTES)
    is_tsv = ending(file.path) == ".tsv"
    with open_stream(file.path, report) as stream:
        lines = _lines(stream, report)
        if is_tsv:
            rows = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        else:
            rows = csv.reader(lines, strict=True)
        names: list[str] = []
        fields: tuple[str, ...] = ()
        while True:
            place = f"line {rows.line_num + 1:,}"
            try:
                values = next(rows, None)
            except csv.Error as error:
                # Of a bare CR the module says how to open a file, which is no news to a user.
                why = "a CR in a field" if "new-line" in str(error) else error
                report.note("csv", f"{place} is not CSV that can be read ({why})")
                continue
            report.n_lines = rows.line_num
            if values is None:
                break
            if not values:
                continue
            if not names:
                names = values
                # Everything is text here: the only column, where there is but one.
                fields = text_fields(names, text_field, names)
                if not fields:
                    raise wrong_field(report, f"{place} {no_field(names, text_field, 'column')}")
                continue
            if len(values) != len(names):
                wanted = f"where the first row has {len(names):,}"
                report.note("fields", f"{place} has {len(values):,} field(s) {wanted}")
                continue
            row = dict(zip(names, values, strict=True))
            text = joined_text(row, fields, place, report)
            if text:
                doc_id = record_id(row, file.name, int(place[5:].replace(",", "")), is_alone)
                yield Document(doc_id, text, str(file.path), record_tokens(row))
    if report.n_lines == 0:
        report.note("empty", "the file is empty")


def _lines(stream: BinaryIO, report: FileReport) -> Iterator[str]:
    """Decoded lines with their line breaks."""
    offset = 0
    for line in stream:
        begin, offset = offset, offset + len(line)
        if begin == 0 and line.startswith(BOM):
            line, begin = line[len(BOM) :], len(BOM)
        yield decode(line, begin, report)


def read_parquet(
    file: SourceFile, text_field: str | None, is_alone: bool, report: FileReport
) -> Iterator[Document]:
    """Parquet: one document a row, a row group at a time."""
    report.unit = "rows"
    with _seekable(file.path, report) as source:
        try:
            table = pq.ParquetFile(source)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            report.refuse("parquet", f"is not Parquet that can be read ({one_line(error)})")
            return
        rows = Rows(file.name, str(file.path), text_field, is_alone, report)
        rows.choose(table.schema_arrow)
        for group in range(table.num_row_groups):
            begin, n_rows = rows.n_rows, table.metadata.row_group(group).num_rows
            try:
                batches = table.iter_batches(_ROWS, row_groups=[group], columns=rows.columns)
                for batch in batches:
                    yield from rows.documents(pa.Table.from_batches([batch]))
            except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
                n_lost = begin + n_rows - rows.n_rows
                what = f"rows {rows.n_rows + 1:,} to {begin + n_rows:,} cannot be read"
                # What follows keeps the ids that it has in a file that is whole.
                rows.n_rows = report.n_lines = begin + n_rows
                report.note("parquet", f"{what} ({one_line(error)})", n_lost)
    if rows.n_rows == 0:
        report.note("empty", "the file has no rows")


@contextmanager
def _seekable(path: Path, report: FileReport) -> Iterator[Any]:
    """A file that can be read anywhere: packed ones are unpacked to a temporary one."""
    with open_stream(path, report) as stream:
        if stream.seekable():
            yield stream
            return
        with tempfile.TemporaryFile() as unpacked:
            copyfileobj(stream, unpacked, 1 << 20)
            unpacked.seek(0)
            yield unpacked


def one_line(error: BaseException) -> str:
    """What another package has to complain of, short enough for a sentence.

    >>> one_line(ValueError("No such thing.\\n  Try another."))
    'No such thing. Try another'
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:300].rstrip(".")


@dataclass
class Rows:
    """Arrow tables of one table, in order, as documents."""

    name: str
    source: str
    text_field: str | None
    is_alone: bool
    report: FileReport
    n_rows: int = field(default=0, init=False)
    columns: list[str] = field(default_factory=list, init=False)
    _fields: tuple[str, ...] = field(default=(), init=False)

    def choose(self, schema: pa.Schema) -> None:
        """Choose the columns that are read. Raises CorpusError if there is none of text."""
        strings = [column.name for column in schema if _is_text(column.type)]
        self._fields = text_fields(schema.names, self.text_field, strings)
        if not self._fields:
            raise wrong_field(self.report, no_field(schema.names, self.text_field, "column"))
        # Samples come with their tokens, or they are texts like any other.
        more = SAMPLE_FIELDS if all(n in schema.names for n in SAMPLE_FIELDS) else ()
        ids = [name for name in (*ID_FIELDS, *more) if name in schema.names]
        self.columns = list(dict.fromkeys([*self._fields, *ids]))

    def documents(self, table: pa.Table) -> Iterator[Document]:
        """The documents of the next rows; the first call chooses the columns if none are yet."""
        if not self._fields:
            self.choose(table.schema)
        values = [_values(table.column(name)) for name in self.columns]
        for row in zip(*values, strict=True):
            self.n_rows += 1
            self.report.n_lines = self.n_rows
            place = f"row {self.n_rows:,}"
            cells = {
                name: self._text(value, f"{place}, {name}: ")
                for name, value in zip(self.columns, row, strict=True)
            }
            text = joined_text(cells, self._fields, place, self.report)
            if text:
                doc_id = record_id(cells, self.name, self.n_rows, self.is_alone)
                yield Document(doc_id, text, self.source, record_tokens(cells))

    def _text(self, value: Any, place: str) -> Any:
        """Bytes as text, nothing as empty text; all else as it is."""
        if isinstance(value, bytes):
            return decode(value, 0, self.report, place=place)
        if isinstance(value, list):
            return [self._text(word, place) for word in value]
        return "" if value is None else value


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _values(column: pa.ChunkedArray) -> Iterable[Any]:
    """A column's values, text as bytes: that it is UTF-8 is for us to find out.

    Raises
    ------
    pa.ArrowInvalid
        If its offsets or indices lead out of its memory, where pyarrow itself would follow them.
    """
    kind = column.type
    column.validate()
    if _is_text(kind):
        if pa.types.is_dictionary(kind):
            column = _looked_up(column)
        column = column.cast(pa.large_binary())
    elif pa.types.is_list(kind) and _is_text(kind.value_type):
        column = column.cast(pa.list_(pa.large_binary()))
    column.validate(full=True)
    return column.to_pylist()


def _looked_up(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of numbers into lists of texts, as the texts' bytes."""
    chunks = [x.dictionary.cast(pa.large_binary()).take(x.indices) for x in column.chunks]
    return pa.chunked_array(chunks, pa.large_binary())
