"""Requests to a server: repeated after temporary faults, bounded in number and cost.

The key is read from an environment variable; it appears in no message, and is removed from what
the server sends back.
"""

from __future__ import annotations

import ipaddress
import os
import threading
import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from auditor.config.served import Served
from auditor.errors import ConfigError, ModelError, in_short
from auditor.models.served.journal import Journal

_ATTEMPTS = 8
_LONGEST_PAUSE = 300.0
_TIMEOUT = httpx.Timeout(600.0, connect=20.0)
_TEMPORARY = (408, 409, 425, 429, 500, 502, 503, 504, 529)
_backoff = wait_random_exponential(multiplier=0.5, max=60)


class RefusedError(Exception):
    """The server does not accept a request: HTTP status, and its reason without the key."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status, self.reason = status, reason


class TemporaryError(Exception):
    """A fault that may pass: `pause` seconds are asked for by the server, if any."""

    def __init__(self, why: str, pause: float | None = None):
        super().__init__(why)
        self.pause = pause


class Client:
    """A connection to a server.

    Parameters
    ----------
    url : base of the API, such as http://localhost:8000/v1
    served : Served, for the key, the caps and the prices
    journal : Journal, which counts the requests and tokens so far
    pause : callable(seconds), waits between attempts; by default until `stop`

    Raises
    ------
    ConfigError
        If the variable of the key is not set.
    """

    def __init__(
        self,
        url: str,
        served: Served,
        journal: Journal,
        *,
        pause: Callable[[float], object] | None = None,
    ):
        self.url, self.served, self.journal = url.rstrip("/"), served, journal
        self._key = _key(served)
        self._stopped = threading.Event()
        self._pause = self._stopped.wait if pause is None else pause
        self._lock = threading.Lock()
        # Requests that are not in the journal yet, and at most how many tokens they take.
        self._open = self._open_input = self._open_output = 0
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._http = httpx.Client(
            timeout=_TIMEOUT,
            headers=headers,
            # Redirects would take the key elsewhere, and a proxy cannot reach this machine.
            follow_redirects=False,
            trust_env=not _is_loopback(self.url),
            limits=httpx.Limits(max_connections=served.concurrency),
        )
        self._closing = weakref.finalize(self, self._http.close)

    def get(self, path: str) -> dict[str, Any]:
        """The JSON object at a path; raises as `post`."""
        return self._request("GET", path, None)[0]

    def post(
        self, path: str, body: dict[str, Any], check: Callable[[dict[str, Any]], Any] = lambda _: _
    ) -> tuple[Any, int]:
        """What `check` makes of the answer to a request, and the number of requests it took.

        `check` raises a TemporaryError for an answer that should be asked for again.

        Raises
        ------
        RefusedError
            If the server does not accept the request.
        ModelError
            If it cannot be reached, refuses the key, or does not answer with JSON after several
            attempts; or if --max-requests or --max-cost is reached.
        """
        return self._request("POST", path, body, check)

    def stop(self) -> None:
        """Send no further requests; those under way are finished."""
        self._stopped.set()

    def close(self) -> None:
        """Close the connections."""
        self._closing()

    def settle(self, body: dict[str, Any], n: int) -> None:
        """Tell that the n requests that a body took are counted by the journal now."""
        n_input, n_output = _most_tokens(body)
        with self._lock:
            self._open -= n
            self._open_input -= n * n_input
            self._open_output -= n * n_output

    def _request(self, method, path, body, check=lambda _: _) -> tuple[Any, int]:
        n = 0

        def attempt() -> Any:
            nonlocal n
            if self._stopped.is_set():
                raise ModelError("Interrupted: no further requests are sent.")
            if method == "POST":
                self._check_caps(body)
                n += 1
            return check(self._once(method, path, body))

        retrying = Retrying(
            retry=retry_if_exception_type(TemporaryError),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=_wait,
            sleep=self._wait,
            reraise=True,
        )
        try:
            return retrying(attempt), n
        except TemporaryError as error:
            raise ModelError(
                f"{self.url} {self._hidden(str(error))} ({_ATTEMPTS} attempts). Check the server; "
                "the answers so far are kept, and the same command goes on from there."
            ) from None

    def _wait(self, seconds: float) -> None:
        self._pause(seconds)

    def _check_caps(self, body: dict[str, Any]) -> None:
        """Count a request; raise ModelError if it would go beyond a cap."""
        served, journal = self.served, self.journal
        n_input, n_output = _most_tokens(body)
        with self._lock:
            n, cap = journal.n_requests + self._open, served.max_requests
            if cap is not None and n >= cap:
                raise ModelError(
                    f"--max-requests {cap:,} is reached. The answers so far are kept: raise "
                    "--max-requests and repeat the command to go on."
                )
            cost = served.cost(
                journal.n_input + self._open_input + n_input,
                journal.n_output + self._open_output + n_output,
            )
            if served.max_cost is not None and cost > served.max_cost:
                spent = served.cost(journal.n_input, journal.n_output)
                raise ModelError(
                    f"--max-cost {served.max_cost:g} could be exceeded by the next request; "
                    f"{n:,} requests have cost about {spent:.4g}. The answers so far are kept: "
                    "raise --max-cost and repeat the command to go on."
                )
            self._open += 1
            self._open_input += n_input
            self._open_output += n_output

    def _once(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        address = f"{self.url}/{path}"
        try:
            answer = self._http.request(method, address, json=body)
        except httpx.ConnectError as error:
            raise ModelError(
                f"{self.url} cannot be reached ({self._hidden(in_short(error))}). Start the "
                "server, or check --model."
            ) from None
        except httpx.TimeoutException:
            raise TemporaryError("did not answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise TemporaryError(f"broke the connection ({in_short(error)})") from None
        status = answer.status_code
        if status in (401, 403):
            given = "the key" if self._key else "a request without a key"
            raise ModelError(
                f"{self.url} refused {given} (HTTP {status}). Put a valid key into an environment "
                "variable, and name it with --api-key-env."
            )
        if status in _TEMPORARY:
            raise TemporaryError(f"answered HTTP {status}", _retry_after(answer))
        if 300 <= status < 400:
            raise ModelError(
                f"{self.url} redirects to another address (HTTP {status}). Give that address with "
                "--model."
            )
        return self._object(answer)

    def _object(self, answer: httpx.Response) -> dict[str, Any]:
        text = self._hidden(answer.text)
        try:
            found = httpx.Response(200, text=text).json()
        except ValueError:
            found = None
        if answer.status_code != 200:
            raise RefusedError(answer.status_code, _reason(found))
        if isinstance(found, dict):
            return found
        if text.lstrip()[:1] == "<":
            raise ModelError(
                f"{self.url} answered with a web page, not JSON. --model must be the base of an "
                "OpenAI-compatible API, such as http://localhost:8000/v1."
            )
        raise TemporaryError("answered with JSON that is damaged or cut off")

    def _hidden(self, text: str) -> str:
        """A text of the server without the key."""
        return text.replace(self._key, "[key]") if self._key else text


def _most_tokens(body: dict[str, Any]) -> tuple[int, int]:
    """At most how many tokens a request sends and generates.

    >>> _most_tokens({"prompt": [5, 6], "max_tokens": 3})
    (2, 3)
    """
    given = body.get("prompt", body.get("messages", ""))
    # A token has at least one byte; a chat template adds some.
    n_input = len(given) if isinstance(given, list) and "prompt" in body else 0
    return n_input or len(str(given).encode()) + 64, body.get("max_tokens") or 0


def _key(served: Served) -> str:
    if served.api_key_env is None:
        return ""
    key = os.environ.get(served.api_key_env, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise ConfigError(
            f"--api-key-env must name an environment variable that holds the key; "
            f"{served.api_key_env} is {'not set' if not key else 'no valid key'}. Set it."
        )
    return key


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _wait(state: RetryCallState) -> float:
    """Seconds to wait: what the server asks for, else growing at random."""
    error = state.outcome.exception() if state.outcome else None
    pause = getattr(error, "pause", None)
    return _backoff(state) if pause is None else min(pause, _LONGEST_PAUSE)


def _retry_after(answer: httpx.Response) -> float | None:
    """Seconds of the header Retry-After: a number, or a date; None if there is none."""
    given = answer.headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(given))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(given)
    except ValueError:
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())


def _reason(found: Any) -> str:
    """The server's reason for refusing a request, in short."""
    error = found.get("error", found) if isinstance(found, dict) else None
    reason = error.get("message") if isinstance(error, dict) else error
    return in_short(ValueError(str(reason or "no reason given")))
