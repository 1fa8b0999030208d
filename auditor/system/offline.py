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

# The hub's libraries read their variables at import; child processes inherit them.
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
    variables = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    attributes = _attributes()
    if not _is_watching:  # audit hooks cannot be removed: this one checks `_depth`
        sys.addaudithook(_refuse)
        _is_watching = True
    _depth += 1
    os.environ.update(dict.fromkeys(_VARIABLES, "1"))
    for module, name in attributes:
        setattr(sys.modules[module], name, True)
    try:
        yield
    finally:
        _depth -= 1
        for name in _VARIABLES:
            if name not in variables:
                os.environ.pop(name, None)
        os.environ.update(variables)
        # A library imported within the context has read the variables.
        was_offline = variables.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
        for module, name in _attributes():
            setattr(sys.modules[module], name, attributes.get((module, name), was_offline))


def _attributes() -> dict[tuple[str, str], Any]:
    """The attributes of `_KEPT` in the libraries imported so far."""
    return {(m, n): getattr(sys.modules[m], n) for m, n in _KEPT if m in sys.modules}


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
