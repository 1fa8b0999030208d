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
    """The type and first line of another library's error, for use in a message.

    >>> in_short(ValueError("bad header\\nat byte 3"))
    'ValueError: bad header'
    """
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:160]}" if text else type(error).__name__
