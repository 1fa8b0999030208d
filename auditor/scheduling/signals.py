"""SIGTERM as a wish to end: at once where that is safe, else as soon as it is."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Stop:
    """Whether the process was asked to end, by SIGTERM or SIGINT."""

    def __init__(self) -> None:
        self.is_asked, self._may_raise = False, False

    def _asked(self, number: int, frame: object) -> None:
        self.is_asked = True
        if self._may_raise:
            self._may_raise = False  # a second signal must not cut the tidying up short
            raise KeyboardInterrupt

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Within it, a signal (one that came just before, too) raises KeyboardInterrupt."""
        try:
            self._may_raise = True
            if self.is_asked:
                raise KeyboardInterrupt
            yield
        finally:
            self._may_raise = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within it, signals come here; in a thread beside the main one there are none."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGTERM, signal.SIGINT)
        before = [signal.signal(number, self._asked) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)


@contextmanager
def interruptible() -> Iterator[None]:
    """Within it, SIGTERM means what Ctrl-C does: KeyboardInterrupt; what is written is whole."""
    stop = Stop()
    with stop.listening(), stop.raising():
        yield
