"""Few-shot prompts: a template filled from a table of examples, then its opening."""

from __future__ import annotations

import csv
import io
import string
from pathlib import Path

from auditor.config.audit import Prompts
from auditor.corpus.compression import marked_encoding
from auditor.errors import ConfigError, in_short
from auditor.system.package_data import prompt_file, shipped

_DEFAULT = "contacts"


def few_shot_texts(prompts: Prompts) -> list[str]:
    """One prompt for every rotation of the table, so that samples have different shots.

    Each prompt is the template filled `shots` times (at most once per row), then the template up to
    its first {column}, which the model is to complete. Template and table are files or names of
    shipped ones (`questions`). If one of them is a shipped name, the other may be omitted.
    """
    template_path, table_path = _files(prompts)
    template, rows = read_text(template_path), _table(table_path)
    opening = _opening(template, template_path, rows[0], table_path)
    shots = min(prompts.shots, len(rows))
    out = []
    for first in range(len(rows)):
        chosen = [rows[(first + i) % len(rows)] for i in range(shots)]
        out.append("".join(template.format(**row) for row in chosen) + opening)
    return out


def read_text(path: Path) -> str:
    """Read a text file, as UTF-8 or the encoding of its byte order mark, without the mark."""
    try:
        with path.open("rb") as stream:
            encoding = marked_encoding(stream.read(4)) or "utf-8"
        return path.read_text(encoding=encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        why = f"not {encoding.upper()}, byte {error.start}"
    except OSError as error:
        why = in_short(error)
    raise ConfigError(f"{path} cannot be read as UTF-8 text ({why}). Give a text file.")


def _files(prompts: Prompts) -> tuple[Path, Path]:
    """Paths of template and table: the user's, or shipped ones."""
    found: dict[str, Path | None] = {}
    names = []
    for given, ending in ((prompts.template, ".txt"), (prompts.examples, ".csv")):
        path = prompt_file(given, ending) if given else None
        if path is not None:
            names.append(path.stem)
        found[ending] = path or (Path(given) if given else None)
    other = names[0] if names else _DEFAULT
    return (
        found[".txt"] or shipped(f"prompts/{other}.txt"),
        found[".csv"] or shipped(f"prompts/{other}.csv"),
    )


def _opening(template: str, path: Path, row: dict[str, str], table: Path) -> str:
    """The template's text before its first column; refuses a template that rows cannot fill."""
    fault, opening = "", ""
    fields: list[str] = []
    try:
        for text, field, _, _ in string.Formatter().parse(template):
            if not fields:
                opening += text
            if field is not None:
                fields.append(field)
        missing = [field for field in fields if field not in row]
        if not fields:
            fault = "it has no {column}"
        elif missing:
            fault = f"{{{missing[0]}}} is not a column"
        else:
            template.format(**row)
    except (ValueError, LookupError, AttributeError) as error:
        fault = f"it is not a valid template ({error}; write a literal brace twice)"
    if fault:
        raise ConfigError(
            f"The few-shot template {path.name} does not match its table: {fault}. Columns of "
            f"{table.name}: {', '.join(row)}. Change the template or the table."
        )
    return opening.rstrip(" ")


def _table(path: Path) -> list[dict[str, str]]:
    rows = list(csv.DictReader(io.StringIO(read_text(path), newline="")))
    if not rows:
        raise ConfigError(
            f"{path} must have a header and at least one row; got no rows. Add an example."
        )
    for n, row in enumerate(rows, 1):
        # csv puts surplus cells under the key None, and None for missing cells.
        if None in row or None in row.values():
            n_columns = sum(key is not None for key in row)
            raise ConfigError(
                f"{path}: row {n} must have {n_columns} cells, like the header; got "
                f"{'more' if None in row else 'fewer'}. Correct the row, and put cells that "
                "contain commas in quotes."
            )
    return rows
