"""Insert canaries into training text: a new corpus, and a record of the placements."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from auditor.canaries.canaries import Canaries, refuse_taken, vocabulary_of
from auditor.canaries.placement import WARN_SHARE, Insertion, Placement, place, publish, size_of
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
        If the suffix of `out` does not fit the format written.
    RunError
        If `out` or its record exists.
    """
    out = Path(out)
    record = out.with_name(out.name + ".insertions.json")
    refuse_taken(out)
    refuse_taken(record)
    corpus = read_corpus(specs, text_field=text_field)
    vocabulary = vocabulary_of(model)
    measure = "characters" if vocabulary is None else "tokens"
    _, own = size_of((c.text for c in canaries.canaries for _ in range(c.repeats)), vocabulary)

    def finish(unit: str, placements: list[Placement], size: int) -> Insertion:
        """Write the record, just before the corpus is moved into place."""
        made = _insertion(out, record, unit, placements, measure, size, own)
        _write_record(made, canaries, corpus, seed)
        return made

    only = corpus.files[0] if len(corpus.files) == 1 else None
    out.parent.mkdir(parents=True, exist_ok=True)
    if only is not None and only.hub is None and is_saved_dataset(only.path):
        from auditor.canaries.saved_datasets import insert_rows

        return insert_rows(canaries, only.path, out, text_field, vocabulary, seed, finish)
    read, line, unit = _form(corpus, text_field)
    _check_ending(out, wants_lines=unit != "line" or line is not _text_line)
    n_units, size = size_of((text for _, text in read()), vocabulary)
    if not n_units:
        raise CorpusError(
            f"{corpus.files[0].path} is empty: there is no text to insert canaries into. Give one "
            "that has text."
        )
    placements = place(canaries, n_units, seed=seed)
    return _written(out, _woven(read(), placements, line), lambda: finish(unit, placements, size))


def _form(
    corpus: Corpus, text_field: str | None
) -> tuple[Callable[[], Units], Callable[[Placement], bytes], str]:
    """How to read a source and to write a canary, and the name of the source's units."""
    only = corpus.files[0]
    if len(corpus.files) > 1 or only.hub or not only.is_named or is_packed(only.path):
        return lambda: _documents(corpus), _json_line({"id": "", "text": ""}, ("text",)), "document"
    if ending(only.path) in _LINES:
        row, fields = _first_row(only.path, text_field)
        return lambda: _objects(only.path, fields), _json_line(row, fields), "line"
    if ending(only.path) in _TABLES:
        return lambda: _documents(corpus), _json_line({"id": "", "text": ""}, ("text",)), "document"
    return lambda: ((raw, _decoded(raw)) for raw in _lines(only.path)), _text_line, "line"


def _lines(path: Path) -> Iterator[bytes]:
    """Lines with their line ends; a byte order mark is dropped, as it might not stay first."""
    with open_text(path, FileReport(path, strict=True, is_named=True)) as stream:
        for number, line in enumerate(stream):
            yield line.removeprefix(BOM) if number == 0 else line


def _decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


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
            f"{path}: its first object {no_field(row, text_field)}. Set --text-field to the one "
            "with the text."
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


def _woven(
    units: Units, placements: list[Placement], line: Callable[[Placement], bytes]
) -> Iterator[bytes]:
    """Source units with canaries in between, each canary on its own line."""
    waiting = iter([*placements, None])
    following = next(waiting)
    last, n = b"\n", 0
    for raw, _ in units:
        while following is not None and following.source_position == n:
            yield line(following)
            following = next(waiting)
        yield raw
        last, n = raw, n + 1
    if following is not None and not last.endswith(b"\n"):
        yield b"\n"
    while following is not None:
        yield line(following)
        following = next(waiting)


def _written(out: Path, parts: Iterator[bytes], finish: Callable[[], Insertion]) -> Insertion:
    """Write the parts to one file atomically, readable only by its owner."""
    scratch = part_name(out)
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as sink:
            for part in parts:
                sink.write(part)
            sink.flush()
            os.fsync(sink.fileno())
        return publish(scratch, out, finish)
    except BaseException:
        with suppress(OSError):  # the first error is the one to report
            scratch.unlink()
        raise


def _check_ending(out: Path, *, wants_lines: bool) -> None:
    if wants_lines and out.suffix not in _LINES:
        raise ConfigError(
            f"--out must end in .jsonl, as this corpus is written as JSON Lines; got {out.name}."
        )
    if not wants_lines and (is_packed(out) or ending(out) in (*_LINES, *_TABLES)):
        raise ConfigError(
            f"--out must end like plain text (such as .txt), as this corpus is; got {out.name}."
        )


def _insertion(out, record, unit, placements, measure: str, source: int, own: int) -> Insertion:
    rows = [(p.canary.canary_id, p.copy, p.source_position, p.position) for p in placements]
    frame = pd.DataFrame(rows, columns=["canary_id", "copy", "source_position", "position"])
    made = Insertion(out, record, unit, frame, measure, source, own, [])
    if made.share > WARN_SHARE:
        made.notices.append(
            f"Canaries are {100 * made.share:.2g} % of the {made.measure}, more than "
            f"{100 * WARN_SHARE:.0f} %: the model may learn them better than rare text. Use "
            "fewer canaries, fewer repeats, or a larger corpus."
        )
    return made


def _write_record(made: Insertion, canaries: Canaries, corpus: Corpus, seed: int) -> None:
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
