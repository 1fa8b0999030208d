"""The errors a user can act on.

Each carries one sentence that says what is wrong, what is allowed, what was got and what to do.
The command prints that sentence and ends with `exit_code`; no traceback is shown.
"""


class AuditError(Exception):
    """Something that the user can put right; `str(error)` is one actionable sentence."""

    exit_code = 1


class ConfigError(AuditError):
    """What was asked for contradicts itself or lies outside what is allowed."""

    exit_code = 2


class ModelError(AuditError):
    """A model cannot be found, read safely, or used for what was asked."""


class TooLargeError(ModelError):
    """A model that does not fit into memory."""


class CorpusError(AuditError):
    """A corpus is missing, empty, or not in a form that can be read."""


class RunError(AuditError):
    """A run's folder cannot be used: another run's, damaged, locked or full."""


class GateError(AuditError):
    """A run is finished and kept, and past a limit that its audit file sets."""

    exit_code = 3


def in_short(error: BaseException) -> str:
    """Another library's error as a clause of one's own sentence: its kind, its first line.

    >>> in_short(ValueError("bad header\\nat byte 3"))
    'ValueError: bad header'
    """
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:160]}" if text else type(error).__name__
