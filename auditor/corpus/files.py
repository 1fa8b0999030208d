"""Resolve corpus specs (files, folders, globs, datasets) to a stable list of files."""

import difflib
import glob
import os
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from auditor.corpus.hub_names import PREFIX, HubSpec, parse_hub
from auditor.corpus.presets import PRESETS, preset_specs
from auditor.errors import CorpusError


@dataclass(frozen=True)
class SourceFile:
    """A file of a corpus: its path as given, its short name, and whether a spec names it.

    The path may also be a folder written by `save_to_disk` or, if `hub` is set, the name of a hub
    dataset.
    """

    path: Path
    name: str
    is_named: bool
    hub: HubSpec | None = None

    @property
    def is_dataset(self) -> bool:
        """Whether `datasets` reads it."""
        return self.hub is not None or is_saved_dataset(self.path)


class LeftOut(NamedTuple):
    """Files of a spec that are not read: path, kind of problem, description, count."""

    path: Path
    kind: str
    what: str
    n: int = 1


def list_files(specs: Sequence[str | Path]) -> tuple[list[SourceFile], list[LeftOut]]:
    """List the files of the specs, in a stable order and each real file once.

    Each spec is a file, a folder (all files below it, sorted; links are followed, hidden entries
    skipped; a folder written by `save_to_disk` of `datasets` is one dataset), a glob such as
    "shards/*.jsonl" ("**" matches recursively), a hub dataset (hf:PATH:CONFIG:SPLIT:COLUMN), a
    preset such as "glue/qnli", or a local copy of one, PRESET@FOLDER. An existing path takes
    precedence.

    Files come in the order of the specs, sorted within each. A file's name is its path relative to
    the spec's folder, or its file name; files that would share a name get their whole path. Also
    returns what is omitted: links to a parent folder or to files already listed, folders without
    permission, folders that a glob matches without their files.

    Raises CorpusError if a path is missing, a glob or folder has no files, or there is no spec.

    >>> [file.name for file in list_files([Path(__file__)])[0]]
    ['files.py']
    """
    if isinstance(specs, str | Path):
        specs = [specs]
    if not specs:
        raise CorpusError("A corpus needs at least one file, folder or glob; got none.")
    files: list[SourceFile] = []
    left_out: list[LeftOut] = []
    seen: dict[str, tuple[int, SourceFile]] = {}
    for number, spec in enumerate(specs):
        try:
            found, outside = _files_of(spec)
        except OSError as error:
            # No permission for a folder, or a name that is too long.
            raise CorpusError(
                f"{spec} cannot be found ({error.strerror}). Check the path and its permissions."
            ) from None
        repeated = []
        for file in found:
            # A link and its target have the same text, which must count once.
            real = os.path.realpath(file.path)
            if real not in seen:
                seen[real] = number, file
                files.append(file)
            elif seen[real][0] == number:
                repeated.append(f"{file.path} is the same file as {seen[real][1].path}")
        left_out += outside
        if repeated:
            left_out.append(LeftOut(Path(spec), "left-out", repeated[0], len(repeated)))
    uses = Counter(file.name for file in files)
    files = [
        file if uses[file.name] == 1 else replace(file, name=file.path.as_posix()) for file in files
    ]
    return files, left_out


def _files_of(spec: str | Path) -> tuple[list[SourceFile], list[LeftOut]]:
    """The files of one spec, sorted, and those left out."""
    text = str(spec)
    path = Path(spec)
    if text.startswith(PREFIX):
        return [_hub_source(parse_hub(text))], []
    if is_saved_dataset(path):
        return [SourceFile(path, path.name or path.resolve().name, is_named=True)], []
    if path.is_dir():
        below, left_out = _below(path)
        if not below:
            why = f": {left_out[0].what}" if left_out else ""
            raise CorpusError(f"{text} is a folder without files{why}. Name one that holds text.")
        return [SourceFile(path / b, b.as_posix(), is_named=False) for b in below], left_out
    if path.exists():
        return [SourceFile(path, path.name, is_named=True)], []
    preset = preset_specs(text)
    if preset is not None:
        return [_hub_source(spec) for spec in preset], []
    if glob.has_magic(text):
        return _files_of_glob(text)
    # A path or a file name does not mean a preset.
    is_path = path.suffix or text.startswith(("/", ".", "~")) or text.count("/") > 1
    near = difflib.get_close_matches(text.partition("@")[0], PRESETS, 1, cutoff=0.75)
    hint = f" Did you mean the preset {near[0]}?" if near and not is_path else ""
    raise CorpusError(
        f"{text} does not exist; a corpus is a file, a folder, a glob, hf:DATASET or a preset "
        f"(glue/qnli, wikitext).{hint} Check the path (the current folder is {Path.cwd()})."
    )


def _hub_source(spec: HubSpec) -> SourceFile:
    return SourceFile(Path(str(spec)), spec.name, is_named=True, hub=spec)


def is_saved_dataset(path: Path) -> bool:
    """Whether a folder was written by `save_to_disk` of `datasets`."""
    return (path / "dataset_dict.json").is_file() or (
        (path / "state.json").is_file() and (path / "dataset_info.json").is_file()
    )


def _below(folder: Path) -> tuple[list[Path], list[LeftOut]]:
    """All visible files and saved datasets below a folder, relative and sorted.

    Real folders come before links, so that a file reachable both ways has its real path.
    """
    found: list[Path] = []
    left_out: list[LeftOut] = []
    seen: set[str] = set()
    waiting = deque([folder])
    while waiting:
        top = waiting.popleft()
        real = os.path.realpath(top)
        if top != folder and Path(os.path.realpath(top.parent)).is_relative_to(real):
            what = f"{top} is a link that leads back to {real}"
        elif real in seen:
            what = f"{top} is a link to {real}, which is read under another name"
        else:
            links, errors = _walk(folder, top, seen, found)
            waiting += links
            for error in errors:
                why = f"the folder cannot be entered ({error.strerror})"
                left_out.append(LeftOut(Path(error.filename), "unreadable", why))
            continue
        left_out.append(LeftOut(folder, "left-out", what))
    return sorted(found, key=lambda path: path.parts), left_out


def _walk(
    folder: Path, top: Path, seen: set[str], found: list[Path]
) -> tuple[list[Path], list[OSError]]:
    """Add the files below `top` to `found`; returns links to folders, and errors."""
    links: list[Path] = []
    errors: list[OSError] = []
    for where, folders, names in os.walk(top, onerror=errors.append):
        here = Path(where)
        real = os.path.realpath(where)
        folders[:] = [] if real in seen else sorted(f for f in folders if not f.startswith("."))
        if real in seen:
            continue
        seen.add(real)
        if here != folder and is_saved_dataset(here):
            found.append(here.relative_to(folder))
            folders[:] = []
            continue
        links += [here / name for name in folders if (here / name).is_symlink()]
        below = here.relative_to(folder)
        found += [below / name for name in names if not name.startswith(".")]
    return links, errors


def _files_of_glob(pattern: str) -> tuple[list[SourceFile], list[LeftOut]]:
    """The files that match a glob, sorted and named relative to its fixed part."""
    matches = sorted(Path(name) for name in glob.glob(pattern, recursive=True))
    found = [path for path in matches if not path.is_dir() or is_saved_dataset(path)]
    if not found:
        raise CorpusError(
            f"{pattern} matches no file. Check the pattern (the current folder is {Path.cwd()})."
        )
    # "**" also matches the folders of the files.
    entered = {parent for path in found for parent in (path, *path.parents)}
    skipped = [path for path in matches if path not in entered and _has_entries(path)]
    left_out = []
    if skipped:
        what = f"{skipped[0]} is a folder, whose files a glob matches only with **"
        left_out.append(LeftOut(Path(pattern), "left-out", what, len(skipped)))
    fixed = Path(pattern)
    while glob.has_magic(str(fixed)):
        fixed = fixed.parent
    files = [SourceFile(path, path.relative_to(fixed).as_posix(), is_named=False) for path in found]
    return files, left_out


def _has_entries(folder: Path) -> bool:
    """Whether a folder has entries, or cannot be read."""
    return not os.access(folder, os.R_OK | os.X_OK) or any(folder.iterdir())
