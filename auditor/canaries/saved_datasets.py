"""Insert canaries into a dataset folder saved by `datasets`, keeping columns and splits."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from auditor.canaries.canaries import Canaries
from auditor.canaries.placement import Insertion, Placement, place, publish, size_of
from auditor.corpus.fields import (
    ID_FIELDS,
    field_of,
    no_field,
    text_fields,
    values_at,
    with_text,
)
from auditor.corpus.hub import check_memory, load_saved
from auditor.corpus.tables import TEXT, sample_row, text_columns
from auditor.errors import CorpusError

_ROWS = 512


def insert_rows(
    canaries: Canaries,
    source: Path,
    out: Path,
    text_field: str | None,
    vocabulary: Any,
    seed: int,
    finish: Callable[[str, list[Placement], int], Insertion],
) -> Insertion:
    """Copy a saved dataset, with canaries as rows of its split "train", else its first.

    Other columns of a canary are null, except a text id. `finish` is called with the unit, the
    placements and the size of the text, just before the new folder is moved into place.

    Raises
    ------
    CorpusError
        If the dataset cannot be read, is empty, or lacks the text column.
    """
    import datasets

    with _quiet():
        try:
            loaded = load_saved(source)
            splits = dict(loaded) if isinstance(loaded, dict) else {"": loaded}
            for split in splits.values():
                check_memory(split)
        except (OSError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise CorpusError(f"{source} is not a dataset that can be read ({reason}).") from None
        chosen = "train" if "train" in splits else next(iter(splits), "")
        rows = splits.get(chosen)
        if rows is None or not len(rows):
            raise CorpusError(f"{source} is empty: it has no rows. Give a dataset that has text.")
        fields = _fields(source, rows, text_field)
        sample = sample_row(rows.features.arrow_schema)
        columns = list(dict.fromkeys(field_of(sample, path) for path in fields))
        texts = (
            "\n".join(value for path in fields for value in values_at(row, path) or () if value)
            for row in rows.select_columns(columns)
        )
        _, size = size_of(texts, vocabulary)
        placements = place(canaries, len(rows), seed=seed)
        splits[chosen] = _woven(rows, placements, fields)
        whole = splits[""] if "" in splits else datasets.DatasetDict(splits)
        return _written(whole, out, lambda: finish("row", placements, size))


def _fields(source: Path, rows: Any, text_field: str | None) -> tuple[str, ...]:
    schema = rows.features.arrow_schema
    sample = sample_row(schema)
    fields = text_fields(sample, text_field, text_columns(schema))
    # Each path of the sample row ends in a value of the column's type.
    is_all_text = all(values_at(sample, path) == [TEXT] for path in fields)
    if not fields or not is_all_text:
        of_text = "" if not fields else " of text"
        raise CorpusError(
            f"{source} {no_field(sample, text_field, 'column' + of_text)}. Set --text-field to one "
            "that has text."
        )
    return fields


def _woven(rows: Any, placements: list[Placement], fields: tuple[str, ...]) -> Any:
    """The rows with canaries in between."""
    import datasets

    texts = [placement.canary.text for placement in placements]
    columns: dict[str, list[Any]] = {name: [None] * len(texts) for name in rows.column_names}
    sample = sample_row(rows.features.arrow_schema)
    made = [with_text(sample, fields, text) for text in texts]
    columns |= {name: [row[name] for row in made] for name in made[0]} if made else {}
    key = next((name for name in ID_FIELDS if name in columns), None)
    if key is not None and key not in fields and sample[key] == TEXT:
        columns[key] = [f"{p.canary.canary_id}.{p.copy:02}" for p in placements]
    ours = datasets.Dataset.from_dict(columns, features=rows.features)
    order: list[int] = []
    at = 0
    for number, placement in enumerate(placements):
        order += range(at, placement.source_position)
        at = placement.source_position
        order.append(len(rows) + number)
    order += range(at, len(rows))
    return datasets.concatenate_datasets([rows, ours]).select(order)


def _written(whole: Any, out: Path, finish: Callable[[], Insertion]) -> Insertion:
    """Write the folder atomically, readable only by its owner."""
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        whole.save_to_disk(str(scratch / "dataset"))
        (scratch / "dataset").chmod(0o700)
        return publish(scratch / "dataset", out, finish)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the progress bars of `datasets`."""
    import datasets

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
