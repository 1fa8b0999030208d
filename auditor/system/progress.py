"""Progress of long runs: a bar at a terminal or in a notebook, a line every 30 s elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from reports.safe_text import visible

_LINE_EVERY = 30.0
_BEAT = 1.0  # seconds between looks at the clock
# Of a notebook: seconds between updates, characters of the bar.
_UPDATE_EVERY, _BAR_WIDTH = 0.5, 24


class Stage:
    """Receives the progress of a stage, and shows nothing."""

    def advance(self, n: float) -> None:
        """Report that `n` more units are done."""


class NullProgress:
    """No output, and no answer to questions."""

    @contextmanager
    def stage(self, name: str, total: float | None, unit: str) -> Iterator[Stage]:
        """A stage of `total` units of work (None: unknown), ended by leaving the context."""
        yield Stage()

    def note(self, sentence: str) -> None:
        """Show a remark to the user."""

    def confirm(self, question: str) -> bool:
        """Ask the user a yes-or-no question; False if there is nobody to ask."""
        return False


class Terminal(NullProgress):
    """A bar with the time elapsed and left for each stage, and notes between the bars."""

    def __init__(self, *, is_verbose: bool = False, asks: bool = True) -> None:
        from rich.console import Console

        self._console = Console(file=sys.stderr)
        self._is_verbose, self._asks = is_verbose, asks

    @contextmanager
    def stage(self, name, total, unit):
        from rich import progress
        from rich.table import Column
        from rich.text import Text

        class Times(progress.ProgressColumn):
            def render(self, task):
                size = None if task.total is None or total == 0 else task.total
                return Text(_times(task.elapsed or 0.0, task.completed, size))

        columns = (
            "{task.description:<24}",
            progress.BarColumn(bar_width=None),
            "{task.percentage:>3.0f} %",
            Times(table_column=Column(no_wrap=True)),
        )
        begun = time.monotonic()
        with progress.Progress(*columns, console=self._console) as bar:
            size = None if total is None else max(total, 1e-9)
            task = bar.add_task(name, total=size)
            yield _Bar(bar, task)
            done = bar.tasks[task].completed
            bar.update(task, total=size or 1, completed=size or 1)
        if self._is_verbose:
            self.note(_ended(name, time.monotonic() - begun, done, unit))

    def note(self, sentence):
        self._console.print(_plain(sentence), highlight=False, markup=False, style="yellow")

    def confirm(self, question):
        if not (self._asks and sys.stdin.isatty()):
            return False
        self._console.print(f"{_plain(question)} [y/N] ", highlight=False, markup=False, end="")
        try:
            return input().strip().lower() in ("y", "yes")
        except EOFError:
            return False


class _Bar(Stage):
    def __init__(self, bar, task):
        self.bar, self.task = bar, task

    def advance(self, n):
        self.bar.update(self.task, advance=n)


class Lines(NullProgress):
    """A plain line when a stage ends and every 30 s in between, to stderr.

    The lines come whether or not there is progress. `beat` is the time between two looks at the
    clock, in seconds.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        every: float = _LINE_EVERY,
        clock: Callable[[], float] = time.monotonic,
        *,
        is_verbose: bool = False,
        beat: float = _BEAT,
    ):
        self._stream = stream or sys.stderr
        self.every, self.clock, self.beat = every, clock, beat
        self._is_verbose = is_verbose

    @contextmanager
    def stage(self, name, total, unit):
        line = _Line(self, name, total, unit)
        is_over = threading.Event()

        def watch() -> None:
            while not is_over.wait(self.beat):
                line.tick()

        watcher = threading.Thread(target=watch, name="progress", daemon=True)
        watcher.start()
        try:
            yield line
        finally:
            is_over.set()
            watcher.join()
        spent = self.clock() - line.begun
        self.note(_ended(name, spent, line.done if self._is_verbose else 0.0, unit))

    def note(self, sentence):
        print(_plain(sentence), file=self._stream, flush=True)


class _Line(Stage):
    def __init__(self, owner: Lines, name: str, total: float | None, unit: str):
        self.owner, self.name, self.total, self.unit = owner, name, total, unit
        self.begun = self.last = owner.clock()
        self.done = 0.0
        self._lock = threading.Lock()

    def advance(self, n):
        self.done += n
        self.tick()

    def tick(self) -> None:
        """Write a line if one is due."""
        with self._lock:
            now = self.owner.clock()
            if now - self.last < self.owner.every:
                return
            self.last = now
        if self.total is not None:
            done = f"{min(1.0, self.done / self.total) if self.total else 1.0:.0%}, "
        else:
            done = f"{self.done:,.0f} {self.unit}, " if self.done else ""
        times = _times(now - self.begun, self.done, self.total)
        self.owner.note(f"{self.name}: {done}{times}")


def _times(elapsed: float, done: float, total: float | None) -> str:
    """The time elapsed and, once it can be estimated, the time left.

    >>> _times(55, 25.5, 100), _times(55, 0, 100), _times(55, 100, 100)
    ('0:55 elapsed, about 2:41 left', '0:55 elapsed', '0:55 elapsed')
    """
    if total is None or not 0 < done < total:
        return f"{clock_time(elapsed)} elapsed"
    left = elapsed * (total - done) / done
    return f"{clock_time(elapsed)} elapsed, about {clock_time(left)} left"


def _ended(name: str, seconds: float, done: float, unit: str) -> str:
    """The last line of a stage; a throughput of less than 1 a second says little."""
    speed = done / seconds if seconds > 0 else 0.0
    return f"{name}: done in {clock_time(seconds)}" + (
        f", {speed:,.0f} {unit}/s" if speed >= 1 else ""
    )


class Notebook(NullProgress):
    """One output of a notebook cell, kept up to date: the stage at work, then the time of each."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        # A kernel has imported IPython; nothing else needs it.
        self._display = sys.modules["IPython.display"]
        self._clock = clock
        self._handle: Any = None
        self._done: list[str] = []
        self._notes: list[str] = []

    @contextmanager
    def stage(self, name, total, unit):
        live = _Cell(self, name, total, unit, self._clock)
        self._show(f"{name} …")
        yield live
        self._done.append(f"{name} {clock_time(self._clock() - live.begun)}")
        self._show("")

    def note(self, sentence):
        self._notes.append(_plain(sentence))
        self._show("")

    def _show(self, current: str) -> None:
        stages = ", ".join([*self._done, *([current] if current else [])])
        shown = self._display.Pretty("\n".join([stages, *self._notes]))
        if self._handle is None:
            self._handle = self._display.display(shown, display_id=True)
        else:
            self._handle.update(shown)


class _Cell(Stage):
    def __init__(self, owner, name, total, unit, clock):
        self.owner, self.name, self.total, self.unit, self.clock = owner, name, total, unit, clock
        self.begun = self.last = clock()
        self.done = 0.0

    def advance(self, n):
        self.done += n
        now = self.clock()
        if now - self.last < _UPDATE_EVERY or not self.done:
            return
        self.last = now
        if self.total:
            share = min(1.0, self.done / self.total)
            filled = round(share * _BAR_WIDTH)
            done = "█" * filled + "░" * (_BAR_WIDTH - filled) + f" {share:.0%}"
        else:
            done = f"{self.done:,.0f} {self.unit}"
        text = f"{self.name} {done}, {_times(now - self.begun, self.done, self.total)}"
        self.owner._show(text)


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


def for_terminal(verbosity: int = 0, *, asks: bool = True) -> NullProgress:
    """A bar if stderr is a terminal, otherwise plain lines; nothing if `verbosity` is below 0.

    `asks`: whether questions may be asked at a terminal.
    """
    if verbosity < 0:
        return NullProgress()
    if sys.stderr.isatty():
        return Terminal(is_verbose=verbosity > 0, asks=asks)
    return Lines(is_verbose=verbosity > 0)


def progress_display(progress: NullProgress | bool | None) -> NullProgress:
    """The `progress` argument of a public function as a display.

    True shows a bar in a notebook and at a terminal, and nothing elsewhere; False and None show
    nothing.
    """
    if progress is None or progress is False:
        return NullProgress()
    if progress is not True:
        return progress
    if _is_notebook():
        return Notebook()
    return Terminal() if sys.stderr.isatty() else NullProgress()


def _is_notebook() -> bool:
    """Whether this is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    return "IPython.display" in sys.modules and hasattr(
        ipython.get_ipython() if ipython else None, "kernel"
    )


def _plain(sentence: str) -> str:
    """Escape control characters: a sentence may quote file names or contents."""
    return visible(sentence, double_backslash=False)


def clock_time(seconds: float) -> str:
    """Seconds as minutes and seconds, from an hour on as hours, minutes and seconds.

    >>> clock_time(3.21), clock_time(75), clock_time(7325)
    ('0:03', '1:15', '2:02:05')
    """
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"
