"""The small files that travel with the project: in a wheel inside the package, in a checkout beside."""

from __future__ import annotations

from pathlib import Path

from auditor.errors import ConfigError

_HERE = Path(__file__).parent


def shipped_folder() -> Path:
    """The folder `data/` of the project."""
    inside = _HERE / "data"
    return inside if inside.is_dir() else _HERE.parent / "data"


def shipped(name: str) -> Path:
    """A file of `data/`.

    Raises
    ------
    ConfigError
        If there is none of that name.

    >>> shipped("prompts/words.txt").name
    'words.txt'
    """
    path = shipped_folder() / name
    if not path.is_file():
        folder = path.parent
        there = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
        raise ConfigError(f"No {name} ships with the auditor. There are: {', '.join(there)}.")
    return path
