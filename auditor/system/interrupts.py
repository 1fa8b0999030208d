"""SIGINT and SIGTERM: as KeyboardInterrupt, or noted until work has reached a safe place."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class EndSignal:
    """Records SIGTERM and SIGINT."""

    def __init__(self) -> None:
        self.is_received, self._may_raise = False, False

    def _receive(self, number: int, frame: object) -> None:
        self.is_received = True
        if self._may_raise:
            self._may_raise = False  # a second signal must not interrupt the cleanup
            raise KeyboardInterrupt

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Within it, a signal raises KeyboardInterrupt, even one that came just before."""
        try:
            self._may_raise = True
            if self.is_received:
                raise KeyboardInterrupt
            yield
        finally:
            self._may_raise = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within it, signals are recorded; does nothing outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = [signal.signal(number, self._receive) for number in _SIGNALS]
        try:
            yield
        finally:
            for number, handler in zip(_SIGNALS, before, strict=True):
                signal.signal(number, handler)


@contextmanager
def interruptible() -> Iterator[None]:
    """Within it, SIGTERM raises KeyboardInterrupt, so that files are left complete."""
    stop = EndSignal()
    with stop.listening(), stop.raising():
        yield


@contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """Within it, the first signal that would raise is only noted; it raises at the end.

    Yields a function that returns whether a signal was noted, so that work can stop at a place of
    its choice. A second signal raises at once. Does nothing outside the main thread, and to a
    signal that no Python function handles.
    """
    noted: list[signal.Signals] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}

    def receive(number: int, frame: object) -> None:
        noted.append(signal.Signals(number))
        if len(noted) > 1:
            _raise(handlers[noted[-1]], number)

    for number, handler in handlers.items():
        if callable(handler):
            signal.signal(number, receive)
    try:
        yield lambda: bool(noted)
    finally:
        for number, handler in handlers.items():
            if callable(handler):
                signal.signal(number, handler)
    if len(noted) == 1:
        _raise(handlers[noted[0]], noted[0])


def _raise(handler: object, number: int) -> None:
    if callable(handler):
        handler(number, None)
