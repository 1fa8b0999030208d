"""A clear error if the packages of an extra are not installed."""

from __future__ import annotations

from importlib.util import find_spec

from auditor.errors import ConfigError


def require_extra(what: str, extra: str, *packages: str) -> None:
    """Raise a ConfigError unless the packages are installed; does not import them.

    >>> require_extra("Scheduling", "schedule", "json", "no_such_package")
    Traceback (most recent call last):
    auditor.errors.ConfigError: Scheduling needs no_such_package, which is not installed. Install it
    with: pip install '.[schedule]' in a checkout.
    """
    for name in packages:
        try:
            missing = find_spec(name) is None
        except ModuleNotFoundError:  # of a parent package
            missing = True
        if missing:
            raise ConfigError(
                f"{what} needs {name}, which is not installed. Install it with: "
                f"pip install '.[{extra}]' in a checkout."
            )
