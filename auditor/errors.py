"""Errors that a user can act on.

The message says what is wrong, what is allowed, what was given and what to do. The command prints
it and exits with `exit_code`, without a traceback.
"""


class AuditError(Exception):
    """An error that the user can correct."""

    exit_code = 1


class ConfigError(AuditError):
    """Options that are invalid or contradict each other."""

    exit_code = 2


class ModelError(AuditError):
    """A model cannot be found, read safely, or used for the command."""


class TooLargeError(ModelError):
    """A model that does not fit into memory."""


class CorpusError(AuditError):
    """A corpus is missing, empty, or not in a form that can be read."""


class RunError(AuditError):
    """A run's folder cannot be used: another run's, damaged, locked or full."""


class GateError(AuditError):
    """A run has finished, and exceeds a limit of its audit file."""

    exit_code = 3


def in_short(error: BaseException) -> str:
    """The first line of another library's error, for use in a message, without its type.

    >>> in_short(ValueError("bad header\\nat byte 3"))
    'bad header'
    >>> in_short(KeyError("vocab_size"))
    "'vocab_size' is missing"
    """
    reason = getattr(error, "strerror", None) or str(error)
    first = next(iter(str(reason).strip().splitlines()), "")[:160].rstrip(".")
    if isinstance(error, KeyError) and first:
        return f"{first} is missing"
    return first or "no reason given"
