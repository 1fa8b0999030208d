"""Stream hub datasets, local copies of them, and datasets saved to disk.

Code in a dataset's repository is never run.
"""

import json
import logging
import os
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from auditor.corpus.files import SourceFile, is_saved_dataset
from auditor.corpus.hub_names import HubSpec
from auditor.corpus.tables import Rows, one_line
from auditor.corpus.text_files import Document, Source
from auditor.errors import CorpusError, in_short
from auditor.system.atomic_files import is_inside
from auditor.system.offline import is_offline, offline

_ROWS = 512
_SECONDS = 5


def read_dataset(source: Source) -> Iterator[Document]:
    """Read a dataset, from the hub or from a folder: one document per row, split by split."""
    file, report = source.file, source.report
    name, text_field = file.name, source.text_field
    if file.hub is not None:
        splits = open_splits(file.hub)
        name, text_field = file.hub.name, "+".join(file.hub.columns) or text_field
    else:
        try:
            loaded = load_saved(file.path)
        except _errors() as error:
            report.refuse("dataset", f"the folder is not a valid dataset ({one_line(error)})")
            return
        splits = loaded if isinstance(loaded, dict) else {"": loaded}
    is_one = file.hub is not None and file.hub.split is not None
    for split, dataset in splits.items():
        full_name = f"{name}/{split}" if split and not is_one else name
        # Each split often numbers its rows from 0.
        is_alone = source.is_alone and len(splits) == 1
        part = Source(replace(file, name=full_name), text_field, is_alone, report)
        yield from _documents(dataset, Rows(part), split)


def load_saved(folder: Path) -> Any:
    """Load a dataset written by `save_to_disk` whose files all lie in its folder.

    A split without rows, for which `datasets` raises an error, becomes an empty dataset. Raises
    ValueError if its metadata is invalid or names files outside the folder, and the OSError and
    RuntimeError of `datasets`.
    """
    import datasets

    with _as_value_error():
        for state in sorted(folder.glob("**/state.json")):
            for row in json.loads(state.read_bytes())["_data_files"]:
                if not is_inside(row["filename"]):
                    raise ValueError(f"{state} names a file outside its folder")
        description = folder / "dataset_dict.json"
        if not description.is_file():
            return _load_split(folder)
        splits = json.loads(description.read_bytes())["splits"]
        for split in splits:
            if not is_inside(split):
                raise ValueError(f"{description} names a folder outside its own")
        return datasets.DatasetDict({split: _load_split(folder / split) for split in splits})


def _load_split(folder: Path) -> Any:
    import datasets

    if json.loads((folder / "state.json").read_bytes())["_data_files"]:
        return datasets.load_from_disk(str(folder))
    features = datasets.DatasetInfo.from_directory(str(folder)).features or {}
    return datasets.Dataset.from_dict({name: [] for name in features}, features=features or None)


@contextmanager
def _as_value_error() -> Iterator[None]:
    """Raise errors that invalid metadata causes inside `datasets` as ValueError."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ValueError(in_short(error)) from None


def check_memory(dataset: Any) -> None:
    """Validate every offset of a saved dataset's columns, which pyarrow itself trusts.

    Raises ValueError or OSError if one is out of bounds, or a column does not match its type.
    """
    with _as_value_error():
        for table in dataset.with_format("arrow").iter(batch_size=_ROWS):
            table.validate(full=True)


def _documents(dataset: Any, rows: Rows, split: str) -> Iterator[Document]:
    """The documents of one split; the report counts the rows of all splits."""
    report = rows.source.report
    report.unit = "rows"
    before = report.n_lines
    # An error loses the whole batch, so the rest is read again row by row.
    for n_at_once in (_ROWS, 1):
        try:
            rest = dataset.skip(rows.n_rows) if rows.n_rows else dataset
            for table in _without_logs(rest.with_format("arrow").iter(batch_size=n_at_once)):
                yield from rows.documents(table)
            break
        except _errors() as error:
            if n_at_once == 1:
                row = f"row {rows.n_rows:,}" + (f" of split {split}" if split else "")
                what = f"the rows after {row} cannot be read ({one_line(error)})"
                # The length of a stream is unknown.
                n_all = len(dataset) if hasattr(dataset, "__len__") else None
                report.n_lines = before + (n_all or rows.n_rows)
                n_lost, then = (n_all - rows.n_rows, "") if n_all else (1, "They are skipped")
                report.note("dataset", what, n_lost, then=then)
                return
    report.n_lines = before + rows.n_rows
    if rows.n_rows == 0:
        what = f"split {split} has no rows" if split else "the dataset has no rows"
        report.note("empty-split", what, then="Nothing is read from it")


def _without_logs(tables: Iterator[Any]) -> Iterator[Any]:
    """The same tables, without log messages of `datasets`, which duplicate its errors."""
    readers = logging.getLogger("datasets.packaged_modules")
    while True:
        level = readers.level
        readers.setLevel(logging.CRITICAL)
        try:
            with _as_value_error():
                table = next(tables, None)
        finally:
            readers.setLevel(level)
        if table is None:
            return
        yield table


def _errors() -> tuple[type[Exception], ...]:
    """The errors of `datasets` that a user or the network can cause."""
    from datasets.exceptions import DatasetsError

    return (OSError, ValueError, IndexError, RuntimeError, ImportError, DatasetsError)


@contextmanager
def _opening(spec: HubSpec) -> Iterator[str]:
    """Raise the errors of opening a dataset as CorpusError; yields its path or folder."""
    if not spec.is_local:
        _reach_hub(spec)
    try:
        # The metadata of a local dataset may contain URLs.
        with _as_value_error(), offline() if spec.is_local else nullcontext():
            yield spec.location
    except ConnectionError as error:
        raise _unreachable(spec, error) from None
    except _errors() as error:
        raise CorpusError(
            f"{spec} cannot be read ({one_line(error)}). Check path, config and split, as in "
            "hf:PATH:CONFIG:SPLIT."
        ) from None


def open_splits(spec: HubSpec) -> dict[str, Any]:
    """Open the requested splits as streams of `datasets`, by name.

    Raises CorpusError if the hub is unreachable, or has no such dataset, config or split.
    """
    import datasets

    with _opening(spec) as path:
        if spec.is_local:
            if is_saved_dataset(Path(path)):
                return _saved_splits(path, spec)
            _refuse_outside_files(datasets.load_dataset_builder(path, spec.config), path)
        loaded = datasets.load_dataset(path, spec.config, split=spec.split, streaming=True)
    return {spec.split: loaded} if spec.split else dict(loaded)


def read_rows(dataset: Any, name: str, columns: Collection[str]) -> Iterator[dict[str, Any]]:
    """The rows of a split from `open_splits`, as dicts of the given columns.

    name : of the dataset and split, for errors

    Raises CorpusError if a column is missing or a row cannot be read.
    """
    rows, n = iter(dataset), 0
    while True:
        try:
            with _as_value_error():
                row = next(rows, None)
        except _errors() as error:
            raise CorpusError(
                f"{name} cannot be read after row {n:,} ({one_line(error)}). Copy it again."
            ) from None
        if row is None:
            return
        if missing := [column for column in columns if column not in row]:
            raise CorpusError(
                f"{name} must have the columns {', '.join(columns)}; {', '.join(missing)} is "
                f"missing. Its columns: {', '.join(row)}. Rename them in your copy."
            )
        yield {column: row[column] for column in columns}
        n += 1


def _refuse_outside_files(builder: Any, folder: str) -> None:
    """Refuse a local folder whose metadata names URLs or files outside the folder."""
    # Do not resolve links: in the hub's cache, files are links to other folders.
    insides = (os.path.abspath(folder), os.path.realpath(folder))
    for found in (builder.config.data_files or {}).values():
        for name in map(str, found):
            is_there = any(Path(os.path.abspath(name)).is_relative_to(i) for i in insides)
            if "://" in name or not is_there:
                raise ValueError(f"it names a file outside the folder: {name[:80]}")


def _saved_splits(path: str, spec: HubSpec) -> dict[str, Any]:
    """The splits of a dataset saved to disk, which has a single config."""
    loaded = load_saved(Path(path))
    if not isinstance(loaded, dict):
        return {spec.split or "train": loaded}
    if spec.split and spec.split not in loaded:
        raise ValueError(f"Bad split: {spec.split}. Available splits: {list(loaded)}")
    return {name: loaded[name] for name in loaded if spec.split in (None, name)}


def _reach_hub(spec: HubSpec) -> None:
    """Fail at once without a network; the hub's client retries for half a minute."""
    import datasets

    if datasets.config.HF_HUB_OFFLINE or getproxies():
        return
    address = urlsplit(datasets.config.HF_ENDPOINT)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), _SECONDS).close()
    except OSError as error:
        raise _unreachable(spec, error) from None


def _unreachable(spec: HubSpec, error: Exception) -> CorpusError:
    if is_offline():
        return CorpusError(
            f"{spec} is not on this machine, and --offline forbids network access. Leave out "
            "--offline, or name a local copy: hf:FOLDER:CONFIG:SPLIT, or PRESET@FOLDER."
        )
    return CorpusError(
        f"{spec}: the hub is unreachable ({one_line(error)}). Go online (HF_HUB_OFFLINE unset), "
        "or name a local copy: hf:FOLDER:CONFIG:SPLIT, or PRESET@FOLDER."
    )


def data_files(file: SourceFile) -> list[Path]:
    """The local files with a dataset's rows, as far as known."""
    folder = Path(file.hub.location) if file.hub else file.path
    if is_saved_dataset(folder):
        return sorted(folder.rglob("*.arrow"))
    if file.hub is None or not file.hub.is_local:
        return []
    splits = _builder(file.hub).config.data_files or {}
    found = (splits[name] for name in splits if file.hub.split in (None, str(name)))
    return [Path(str(name)) for names in found for name in names if Path(str(name)).is_file()]


def identity(spec: HubSpec) -> str:
    """Identify a hub dataset by its commit and config. Raises CorpusError if unreachable."""
    builder = _builder(spec)
    return json.dumps({"revision": builder.hash, "config": builder.config.name})


def _builder(spec: HubSpec) -> Any:
    import datasets

    with _opening(spec) as path:
        return datasets.load_dataset_builder(path, spec.config)
