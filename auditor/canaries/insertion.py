"""Insert canaries into training text: a new corpus, and a record of the placements."""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from auditor.canaries.canaries import Canaries, refuse_existing, vocabulary_of
from auditor.canaries.placement import WARN_SHARE, Insertion, Placement, Source, place, size_of
from auditor.config.canaries import InsertOptions
from auditor.corpus.compression import ending, is_packed, open_text
from auditor.corpus.fields import ID_FIELDS, no_field, text_fields, values_at, with_text
from auditor.corpus.files import is_saved_dataset
from auditor.corpus.problems import FileReport
from auditor.corpus.reading import Corpus, read_corpus
from auditor.corpus.text_files import BOM
from auditor.errors import ConfigError, CorpusError
from auditor.runs.result_folder import storable
from auditor.system.atomic_files import part_name, write_atomically

_LINES = (".jsonl", ".ndjson")
_TABLES = (".json", ".csv", ".tsv", ".parquet", ".wet", ".warc")

# A unit of a source: its bytes to write, and its text.
Units = Iterator[tuple[bytes, str]]


def insert_canaries(
    canaries: Canaries,
    specs: Sequence[str | Path],
    out: str | Path,
    *,
    text_field: str | None = None,
    model: str | None = None,
    seed: int = 0,
) -> Insertion:
    """Write a copy of a corpus with every canary inserted `repeats` times.

    A single text file gets canaries as lines; a single JSON Lines file gets them as objects; a
    folder saved by `datasets` gets them as rows of its split "train", else its first. Anything
    else becomes JSON Lines with id and text, one document per line. The source is not changed,
    and the new corpus is written atomically.

    Parameters
    ----------
    canaries : Canaries
    specs : corpus specs, as for `read_corpus`
    out : path that does not exist yet
    text_field : str, optional
        As for `read_corpus`.
    model : str, optional
        Measure the canaries' share in tokens of this model (a spec); by default in characters.
    seed : int
        Determines the placements.

    Returns
    -------
    Insertion

    Raises
    ------
    CorpusError
        If the corpus is missing, empty or lacks the text field.
    ConfigError
        If an option is invalid, or the suffix of `out` does not fit the format written.
    RunError
        If `out` or its record exists.
    """
    InsertOptions(
        corpus=tuple(map(str, specs)), text_field=text_field, model=model, seed=seed, out=str(out)
    )
    out = Path(out)
    record = out.with_name(out.name + ".insertions.json")
    refuse_existing(out)
    refuse_existing(record)
    corpus = read_corpus(specs, text_field=text_field)
    vocabulary = vocabulary_of(model)
    only = corpus.files[0] if len(corpus.files) == 1 else None
    if only is not None and only.hub is None and is_saved_dataset(only.path):
        from auditor.canaries.saved_datasets import open_rows

        source = open_rows(only.path, text_field, vocabulary)
    else:
        source = _open_text(corpus, out, text_field, vocabulary)
    placements = place(canaries, source.n_units, seed=seed)
    rows = [(p.canary.canary_id, p.copy, p.source_position, p.position) for p in placements]
    frame = pd.DataFrame(rows, columns=["canary_id", "copy", "source_position", "position"])
    _, size = size_of((p.canary.text for p in placements), vocabulary)
    measure = "characters" if vocabulary is None else "tokens"
    made = Insertion(out, record, source.unit, frame, measure, source.size, size, [])
    if made.share > WARN_SHARE:
        made.notices.append(
            f"Canaries are {100 * made.share:.2g} % of the {measure}, more than "
            f"{100 * WARN_SHARE:.0f} %: the model may learn them better than rare text. Use "
            "fewer canaries, fewer repeats, or a larger corpus."
        )
    _publish(made, lambda scratch: source.write(scratch, placements), canaries, corpus, seed)
    return made


def _publish(
    made: Insertion,
    write: Callable[[Path], None],
    canaries: Canaries,
    corpus: Corpus,
    seed: int,
) -> None:
    """Write the corpus and its record, readable only by their owner: both, or neither."""
    folder = part_name(made.out)
    shutil.rmtree(folder, ignore_errors=True)  # left by a killed process
    folder.mkdir(parents=True, mode=0o700)
    scratch = folder / made.out.name
    try:
        write(scratch)
        scratch.chmod(0o700 if scratch.is_dir() else 0o600)
        content = {
            "version": 1,
            "manifest_sha256": canaries.digest,
            "source": corpus.fingerprint(),
            "out": str(made.out),
            "unit": made.unit,
            "seed": seed,
            "measure": made.measure,
            "n_source": made.n_source,
            "n_canaries": made.n_canaries,
            "share": made.share,
            "placements": made.placements.to_dict("records"),
        }
        write_atomically(made.record, (json.dumps(content, indent=1) + "\n").encode())
        try:
            os.replace(scratch, made.out)
        except BaseException:
            with suppress(OSError):  # report the first error
                made.record.unlink()
            raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _open_text(corpus: Corpus, out: Path, text_field: str | None, vocabulary: Any) -> Source:
    """A source of lines or documents, to be written to one file."""
    read, line, unit = _form(corpus, text_field)
    _check_ending(out, wants_lines=unit != "line" or line is not _text_line)
    n_units, size = size_of((text for _, text in read()), vocabulary)
    if not n_units:
        raise CorpusError(f"{corpus.files[0].path} is empty. Give a corpus that has text.")

    def write(scratch: Path, placements: list[Placement]) -> None:
        with scratch.open("wb") as sink:
            sink.writelines(_interleave(read(), placements, line))
            sink.flush()
            os.fsync(sink.fileno())

    return Source(unit, n_units, size, write)


def _form(
    corpus: Corpus, text_field: str | None
) -> tuple[Callable[[], Units], Callable[[Placement], bytes], str]:
    """How to read a source and to write a canary, and the name of the source's units."""
    only = corpus.files[0]
    is_single = len(corpus.files) == 1 and not only.hub and only.is_named
    keeps_form = is_single and not is_packed(only.path)
    if keeps_form and ending(only.path) in _LINES:
        row, fields = _first_row(only.path, text_field)
        return lambda: _objects(only.path, fields), _json_line(row, fields), "line"
    if keeps_form and ending(only.path) not in _TABLES:
        return lambda: _text_lines(only.path), _text_line, "line"
    return lambda: _documents(corpus), _json_line({"id": "", "text": ""}, ("text",)), "document"


def _lines(path: Path) -> Iterator[bytes]:
    """Lines with their line ends; a byte order mark is dropped, as it might not stay first."""
    with open_text(path, FileReport(path, strict=True, is_named=True)) as stream:
        for number, line in enumerate(stream):
            yield line.removeprefix(BOM) if number == 0 else line


def _text_lines(path: Path) -> Units:
    return ((raw, raw.decode("utf-8", "replace")) for raw in _lines(path))


def _objects(path: Path, fields: tuple[str, ...]) -> Units:
    for raw in _lines(path):
        row = _parsed(raw)
        values = [v for name in fields for v in values_at(row, name) or ()] if row else []
        yield raw, "\n".join(value for value in values if isinstance(value, str))


def _documents(corpus: Corpus) -> Units:
    for document in corpus:
        row = {"id": document.doc_id, "text": document.text}
        yield _as_line(row), document.text


def _first_row(path: Path, text_field: str | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The first object of a JSON Lines file, and its text fields."""
    row = next((row for raw in _lines(path) if (row := _parsed(raw)) is not None), None)
    if row is None:
        raise CorpusError(f"{path} is empty: it has no JSON object. Give a file that has text.")
    fields = text_fields(row, text_field)
    if not fields:
        raise CorpusError(
            f"{path}: its first object {no_field(row, text_field)}. Set --text-field to the field "
            "that holds the text."
        )
    return row, fields


def _parsed(raw: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError):  # skipped, as in the corpus reader
        return None
    return row if isinstance(row, dict) else None


def _text_line(placement: Placement) -> bytes:
    return placement.canary.text.encode() + b"\n"


def _json_line(row: dict[str, Any], fields: tuple[str, ...]) -> Callable[[Placement], bytes]:
    """Format canaries as objects like the source's, with an id if those have one."""
    key = next((name for name in ID_FIELDS if name in row), None)

    def line(placement: Placement) -> bytes:
        own = {key: f"{placement.canary.canary_id}.{placement.copy:02}"} if key else {}
        return _as_line({**own, **with_text(row, fields, placement.canary.text)})

    return line


def _as_line(row: dict[str, Any]) -> bytes:
    # A lone surrogate has no UTF-8 and stays a JSON escape.
    text = json.dumps(row, ensure_ascii=False) + "\n"
    return storable(text).encode()


def _interleave(
    units: Units, placements: list[Placement], line: Callable[[Placement], bytes]
) -> Iterator[bytes]:
    """Source units with canaries in between, each canary on its own line."""
    lines: dict[int, list[bytes]] = defaultdict(list)
    for placement in placements:
        lines[placement.source_position].append(line(placement))
    last = b"\n"
    for n, (raw, _) in enumerate(units):
        yield from lines.pop(n, ())
        yield raw
        last = raw
    if lines and not last.endswith(b"\n"):
        yield b"\n"
    yield from chain.from_iterable(lines.values())


def _check_ending(out: Path, *, wants_lines: bool) -> None:
    if wants_lines and out.suffix not in _LINES:
        raise ConfigError(
            f"--out must end in .jsonl; got {out.name}. This corpus is written as JSON Lines."
        )
    if not wants_lines and (is_packed(out) or ending(out) in (*_LINES, *_TABLES)):
        raise ConfigError(
            f"--out must end like plain text, such as .txt; got {out.name}. This corpus is written "
            "as plain text."
        )
