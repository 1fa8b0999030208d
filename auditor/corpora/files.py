"""Which files a corpus is made of: specs (files, folders, globs) -> a stable list."""

import glob
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from auditor.errors import CorpusError


@dataclass(frozen=True)
class SourceFile:
    """A file of a corpus: its path as given, its short name, and whether a spec named it."""

    path: Path
    name: str
    is_named: bool


def list_files(specs: Sequence[str | Path]) -> list[SourceFile]:
    """List the files that the specs mean, in a stable order and each real file once.

    Parameters
    ----------
    specs : sequence of str or Path
        Each a file, a folder (all files below it, sorted; hidden entries and links to folders
        are left out), or a glob such as "shards/*.jsonl" ("**" goes down).

    Returns
    -------
    list of SourceFile
        In the order of the specs, sorted within each. A name is the path below the spec's folder,
        or the file's own name; files that would share a name are named by their whole path.

    Raises
    ------
    CorpusError
        If a path is missing, a glob or a folder has no files, or there is no spec at all.

    >>> [file.name for file in list_files([Path(__file__)])]
    ['files.py']
    """
    if isinstance(specs, str | Path):
        specs = [specs]
    if not specs:
        raise CorpusError("A corpus needs at least one file, folder or glob; got none. Name one.")
    files: list[SourceFile] = []
    seen: set[str] = set()
    for spec in specs:
        for file in _files_of(spec):
            # A link and what it points to hold the same text: counting it twice would be wrong.
            real = os.path.realpath(file.path)
            if real not in seen:
                seen.add(real)
                files.append(file)
    uses = Counter(file.name for file in files)
    return [
        file if uses[file.name] == 1 else replace(file, name=file.path.as_posix()) for file in files
    ]


def _files_of(spec: str | Path) -> list[SourceFile]:
    """The files of one spec, sorted."""
    text = str(spec)
    path = Path(spec)
    if text.startswith("hf:"):
        raise CorpusError(
            f"A corpus is a file, a folder or a glob; got {text}, a Hugging Face dataset, which "
            "this version cannot read. Save it as JSONL first."
        )
    if path.is_dir():
        files = [
            SourceFile(path / below, below.as_posix(), is_named=False) for below in _below(path)
        ]
        if not files:
            raise CorpusError(f"{text} is a folder without files. Name a folder that holds text.")
        return files
    if path.exists():
        return [SourceFile(path, path.name, is_named=True)]
    if glob.has_magic(text):
        return _files_of_glob(text)
    raise CorpusError(
        f"{text} does not exist; a corpus is a file, a folder or a glob. Check the path "
        f"(the current folder is {Path.cwd()})."
    )


def _below(folder: Path) -> list[Path]:
    """All visible entries below a folder that are no folders, as relative paths, sorted."""
    found = []
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(where).relative_to(folder)
        found += [below / name for name in names if not name.startswith(".")]
    return sorted(found, key=lambda path: path.parts)


def _files_of_glob(pattern: str) -> list[SourceFile]:
    """The files that a glob finds, sorted, named by their path below its fixed part."""
    found = sorted(Path(name) for name in glob.glob(pattern, recursive=True))
    found = [path for path in found if not path.is_dir()]
    if not found:
        raise CorpusError(
            f"{pattern} matches no file. Check the pattern (the current folder is {Path.cwd()})."
        )
    fixed = Path(pattern)
    while glob.has_magic(str(fixed)):
        fixed = fixed.parent
    return [SourceFile(path, path.relative_to(fixed).as_posix(), is_named=False) for path in found]
