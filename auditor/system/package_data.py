"""The small files that travel with the project: in a wheel inside the package, else beside it."""

from __future__ import annotations

from pathlib import Path

from auditor.errors import ConfigError

_PACKAGE = Path(__file__).parents[1]


def data_folder() -> Path:
    """The folder `data/` of the project."""
    inside = _PACKAGE / "data"
    return inside if inside.is_dir() else _PACKAGE.parent / "data"


def shipped(name: str) -> Path:
    """A file of `data/`.

    Raises
    ------
    ConfigError
        If there is none of that name.

    >>> shipped("prompts/words.txt").name
    'words.txt'
    """
    path = data_folder() / name
    if not path.is_file():
        folder = path.parent
        there = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
        raise ConfigError(f"No {name} ships with the auditor. There are: {', '.join(there)}.")
    return path


def prompt_file(given: str, ending: str) -> Path | None:
    """The shipped prompt set that a user named, or None if `given` is no bare name of one.

    A file of that name where the user stands goes first: then it is None, too.

    >>> prompt_file("openings", ".txt").name
    'openings.txt'
    """
    path = data_folder() / "prompts" / f"{given}{ending}"
    is_bare = Path(given).name == given and not Path(given).exists()
    return path if is_bare and path.is_file() else None
