"""Data files of the project: inside the package in a wheel, else beside it."""

from __future__ import annotations

from pathlib import Path

from auditor.errors import ConfigError

_PACKAGE = Path(__file__).parents[1]


def data_folder() -> Path:
    """The folder `data/` of the project."""
    inside = _PACKAGE / "data"
    return inside if inside.is_dir() else _PACKAGE.parent / "data"


def shipped(name: str) -> Path:
    """A file of `data/`; ConfigError if it does not exist.

    >>> shipped("prompts/words.txt").name
    'words.txt'
    """
    path = data_folder() / name
    if not path.is_file():
        folder = path.parent
        there = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
        raise ConfigError(
            f"{name} is not one of the auditor's data files. Choose one of: {', '.join(there)}."
        )
    return path


def prompt_file(given: str, ending: str) -> Path | None:
    """The path of a shipped prompt set, or None if `given` is not the name of one.

    None also if the working directory has a file of that name, which takes precedence.

    >>> prompt_file("openings", ".txt").name
    'openings.txt'
    """
    path = data_folder() / "prompts" / f"{given}{ending}"
    is_bare = Path(given).name == given and not Path(given).exists()
    return path if is_bare and path.is_file() else None
