"""Progress of long runs: a bar on a terminal, a plain line every 30 s elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from reports.safe_text import visible

_LINE_EVERY = 30.0


class Stage:
    """Receives the progress of a stage, and shows nothing."""

    def advance(self, n: float) -> None:
        """Report that `n` more units are done."""


class NullProgress:
    """No output; the default of the library."""

    @contextmanager
    def stage(self, name: str, total: float | None, unit: str) -> Iterator[Stage]:
        """A stage of `total` units of work (None: unknown), ended by leaving the context."""
        yield Stage()

    def note(self, sentence: str) -> None:
        """Show a remark to the user."""


class Terminal(NullProgress):
    """A bar with throughput and time left for each stage, and notes between the bars."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(file=sys.stderr)

    @contextmanager
    def stage(self, name, total, unit):
        from rich import progress

        columns = (
            "{task.description:<24}",
            progress.BarColumn(bar_width=None),
            "{task.percentage:>3.0f} %  {task.fields[rate]:>18}",
            progress.TimeElapsedColumn(),
            "left",
            progress.TimeRemainingColumn(),
        )
        with progress.Progress(*columns, console=self._console) as bar:
            size = None if total is None else max(total, 1e-9)
            task = bar.add_task(name, total=size, rate="")
            yield _Bar(bar, task, unit)
            bar.update(task, total=size or 1, completed=size or 1)

    def note(self, sentence):
        self._console.print(_plain(sentence), highlight=False, markup=False, style="yellow")


class _Bar(Stage):
    def __init__(self, bar, task, unit):
        self.bar, self.task, self.unit = bar, task, unit

    def advance(self, n):
        speed = self.bar.tasks[self.task].speed
        rate = f"{_number(speed)} {self.unit}/s" if speed else ""
        self.bar.update(self.task, advance=n, rate=rate)


class Lines(NullProgress):
    """A plain line when a stage ends and every 30 s in between, to stderr."""

    def __init__(
        self,
        stream: TextIO | None = None,
        every: float = _LINE_EVERY,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._stream = stream or sys.stderr
        self.every, self._clock = every, clock

    @contextmanager
    def stage(self, name, total, unit):
        line = _Line(self, name, total, unit, self._clock)
        yield line
        spent = self._clock() - line.begun
        rate = f", {_number(line.done / spent)} {unit}/s" if spent > 0 and line.done else ""
        self.note(f"{name}: done in {_duration(spent)}{rate}")

    def note(self, sentence):
        print(_plain(sentence), file=self._stream, flush=True)


class _Line(Stage):
    def __init__(self, owner, name, total, unit, clock):
        self.owner, self.name, self.total, self.unit, self.clock = owner, name, total, unit, clock
        self.begun = self.last = clock()
        self.done = 0.0

    def advance(self, n):
        self.done += n
        now = self.clock()
        if now - self.last >= self.owner.every and self.done:
            self.last = now
            rate = self.done / (now - self.begun)
            done, left = f"{_number(self.done)} {self.unit}", ""
            if self.total is not None:
                done = f"{min(1.0, self.done / self.total) if self.total else 1.0:.0%}"
                left = f", {_duration(max(0.0, self.total - self.done) / rate)} left"
            self.owner.note(f"{self.name}: {done}, {_number(rate)} {self.unit}/s{left}")


def steps(stage: Stage) -> Callable[[float], None]:
    """Convert reports of total progress to the increments that a stage expects.

    >>> class Printed(Stage):
    ...     def advance(self, n):
    ...         print(n)
    >>> report = steps(Printed())
    >>> report(3), report(10)
    3
    7
    (None, None)
    """
    last: float = 0

    def report(done: float) -> None:
        nonlocal last
        stage.advance(done - last)
        last = done

    return report


def for_terminal() -> NullProgress:
    """A bar if stderr is a terminal, otherwise plain lines."""
    return Terminal() if sys.stderr.isatty() else Lines()


def _plain(sentence: str) -> str:
    """Escape control characters: a sentence may quote file names or contents."""
    return visible(sentence, double_backslash=False)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _duration(seconds: float) -> str:
    """Seconds in readable form.

    >>> _duration(3.21), _duration(75), _duration(7300)
    ('3.2 s', '1 min 15 s', '2 h 01 min')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    seconds = round(seconds)
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02} min"
