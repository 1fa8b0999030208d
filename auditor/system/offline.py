"""Block all network access, for `--offline`.

Without `--offline`, downloads happen only for a hub id or an `hf:` dataset. With it, anything that
is not on this machine is an immediate error, and no library can open a remote connection.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# The hub's libraries read theirs at import; child processes inherit them.
_VARIABLES = ("AUDITOR_OFFLINE", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
# The corresponding attributes of libraries that are already imported.
_KEPT = (
    ("huggingface_hub.constants", "HF_HUB_OFFLINE"),
    ("datasets.config", "HF_HUB_OFFLINE"),
    ("datasets.config", "HF_DATASETS_OFFLINE"),
)
_LOOKUPS = ("socket.getaddrinfo", "socket.gethostbyname")
_EVENTS = ("socket.connect", "socket.sendto", "socket.sendmsg", *_LOOKUPS)
_depth = 0
_is_watching = False


def is_offline() -> bool:
    """Whether network access is blocked, here or by the parent process."""
    return os.environ.get(_VARIABLES[0]) == "1"


@contextmanager
def offline() -> Iterator[None]:
    """Block network access within the context; the hub's libraries are set to offline mode.

    Local connections stay allowed, because the processes of an audit communicate. Connections
    opened by native code are not intercepted.

    >>> import socket
    >>> with offline():
    ...     socket.getaddrinfo("example.org", 80)
    Traceback (most recent call last):
        ...
    OSError: [Errno 101] no connection to example.org: --offline blocks network access
    """
    global _depth, _is_watching
    before = {name: os.environ.get(name) for name in _VARIABLES}
    kept = [
        (sys.modules[module], name, getattr(sys.modules[module], name))
        for module, name in _KEPT
        if module in sys.modules
    ]
    if not _is_watching:  # audit hooks cannot be removed: this one checks `_depth`
        sys.addaudithook(_refuse)
        _is_watching = True
    _depth += 1
    os.environ.update(dict.fromkeys(_VARIABLES, "1"))
    for module, name, _ in kept:
        setattr(module, name, True)
    try:
        yield
    finally:
        _depth -= 1
        for variable, value in before.items():
            if value is None:
                os.environ.pop(variable, None)
            else:
                os.environ[variable] = value
        for module, name, value in kept:
            setattr(module, name, value)
        _reset_new_imports(kept, before)


def _reset_new_imports(kept: list, before: dict[str, str | None]) -> None:
    """Reset the attributes of libraries imported within the context."""
    known = {(module.__name__, name) for module, name, _ in kept}
    was_offline = (before["HF_HUB_OFFLINE"] or "").upper() in ("1", "ON", "YES", "TRUE")
    for module, name in _KEPT:
        if module in sys.modules and (module, name) not in known:
            setattr(sys.modules[module], name, was_offline)


def _refuse(event: str, args: tuple[Any, ...]) -> None:
    """Audit hook that refuses connections, packets and name lookups beyond this machine."""
    if not _depth or event not in _EVENTS:
        return
    if event in _LOOKUPS:
        host = args[0]
    elif args[0].family in (socket.AF_INET, socket.AF_INET6) and args[1]:
        host = args[1][0]
    else:
        return
    if not _is_here(host):
        raise OSError(
            errno.ENETUNREACH, f"no connection to {host}: --offline blocks network access"
        )


def _is_here(host: Any) -> bool:
    """Whether an address is a loopback address."""
    if host in (None, "", b"", "localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host).is_loopback
    except (ValueError, UnicodeDecodeError):
        return False
