"""Report a run's outcome to a command or webhook: counts only, with retries, never an error."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from auditor.config.gates import PLACEHOLDERS, Notify
from auditor.errors import in_short
from auditor.system.extras import require_extra
from auditor.system.offline import is_offline

_PATIENCE = 30.0  # seconds for one attempt
_LONGEST_PAUSE = 60.0
_PLACEHOLDER = re.compile("|".join(f"{{{name}}}" for name in PLACEHOLDERS))
_STDERR = 2  # receives a command's output; stdout is for the auditor's own


class _HookError(Exception):
    """An attempt failed and may be retried; the message says how."""


class _HopelessError(_HookError):
    """An attempt failed; retrying is pointless."""


def check_hooks(notify: Notify) -> None:
    """Raise a ConfigError if hooks are configured and the extra that they need is missing."""
    if notify.is_set:
        require_extra("[notify]", "schedule", "requests", "tenacity")


def call_hooks(
    notify: Notify,
    summary: dict[str, Any],
    *,
    is_trouble: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> list[str]:
    """Send the summary to the configured command and webhook.

    The command is run without a shell. Each of its arguments stays one argument, whatever the
    values of its placeholders contain.

    Returns a sentence for each hook whose last attempt failed. Nothing is raised: a hook must not
    affect a finished run. Pauses between attempts are 1, 2, 4 ... and at most 60 seconds.
    """
    if notify.when == "trouble" and not is_trouble:
        return []
    calls: list[tuple[str, Callable[[], None]]] = []
    if notify.command:
        name = f"The command {notify.command[0]}"
        calls.append((name, partial(_run, filled(notify.command, summary), json.dumps(summary))))
    if notify.webhook is not None:
        # The path of a webhook is often its secret: never show it.
        name = f"The webhook at {urlsplit(notify.webhook).hostname or '?'}"
        calls.append((name, partial(_post, notify.webhook, summary)))
    results = (_try(name, call, notify.attempts, sleep) for name, call in calls)
    return [sentence for sentence in results if sentence]


def filled(command: tuple[str, ...], summary: dict[str, Any]) -> tuple[str, ...]:
    """The command with its placeholders replaced by values of the summary, each only once.

    >>> filled(("say", "{text}", "{other}"), {"text": "{model}", "model": "m"})
    ('say', '{model}', '{other}')
    """
    values = {f"{{{name}}}": str(summary.get(name) or "") for name in PLACEHOLDERS}
    values["{status}"] = str(summary.get("state") or "")
    program, *arguments = command
    return (program, *(_PLACEHOLDER.sub(lambda m: values[m[0]], word) for word in arguments))


def _try(
    name: str, call: Callable[[], None], attempts: int, sleep: Callable[[float], None]
) -> str | None:
    from tenacity import (
        Retrying,
        retry_if_not_exception_type,
        stop_after_attempt,
        wait_exponential,
    )

    retrying = Retrying(
        stop=stop_after_attempt(attempts),
        wait=wait_exponential(multiplier=1, max=_LONGEST_PAUSE),
        retry=retry_if_not_exception_type((_HopelessError, KeyboardInterrupt)),
        sleep=sleep,
        reraise=True,
    )
    try:
        retrying(call)
    except _HookError as error:
        n = retrying.statistics["attempt_number"]
        tries = "1 attempt" if n == 1 else f"{n} attempts"
        return f"{name} was not notified: {error} ({tries}). The run is not affected."
    return None


def _run(command: tuple[str, ...], text: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603
            [word.encode("utf-8", "surrogateescape") for word in command],
            input=text.encode(),
            timeout=_PATIENCE,
            stdout=_STDERR,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _HookError(f"no exit within {_PATIENCE:.0f} s") from None
    except (OSError, ValueError) as error:
        raise _HopelessError(f"it cannot be started ({in_short(error)})") from None
    if done.returncode:
        raise _HookError(f"exit code {done.returncode}")


def _post(address: str, summary: dict[str, Any]) -> None:
    import requests

    try:
        answer = requests.post(address, json=summary, timeout=_PATIENCE, allow_redirects=False)
    except (requests.ConnectionError, requests.Timeout) as error:
        if is_offline():
            raise _HopelessError("--offline blocks the network") from None
        slow = isinstance(error, requests.Timeout)
        raise _HookError(
            f"no answer within {_PATIENCE:.0f} s" if slow else "no connection"
        ) from None
    except (requests.RequestException, ValueError):  # its message may quote the address
        raise _HopelessError("invalid request") from None
    if answer.status_code >= 500 or answer.status_code == 429:
        raise _HookError(f"HTTP status {answer.status_code}")
    if not 200 <= answer.status_code < 300:
        raise _HopelessError(f"HTTP status {answer.status_code}")
