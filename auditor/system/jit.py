"""Inner loops as machine code, compiled by numba and shared among threads.

numba is imported, and a loop compiled, when it is first called; the compiled code is kept beside
the source, or in the user's cache folder where that is read-only.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache, wraps


def compiled(function: Callable, **options) -> Callable:
    """`function` as machine code that runs without the interpreter's lock.

    `options` are those of `numba.njit`.
    """

    @cache
    def loop() -> Callable:
        import numba

        try:
            return numba.njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:
            # There is no folder at all in which compiled code could be kept.
            return numba.njit(nogil=True, **options)(function)

    @wraps(function)
    def call(*arguments):
        return loop()(*arguments)

    return call


def in_parts(loop: Callable, n: int, threads: int, *arguments) -> None:
    """Call `loop(*arguments, begin, end)` for ranges that make up range(n), one a thread.

    >>> in_parts(lambda out, begin, end: out.append((begin, end)), 5, 1, seen := [])
    >>> seen
    [(0, 5)]
    """
    if threads <= 1 or n <= 1:
        loop(*arguments, 0, n)
        return
    threads = min(threads, n)
    bounds = [n * i // threads for i in range(threads + 1)]
    pool = _pool(os.getpid())
    others = [pool.submit(loop, *arguments, bounds[i], bounds[i + 1]) for i in range(threads - 1)]
    try:
        loop(*arguments, bounds[-2], n)
    finally:
        wait(others)  # whatever fails: they write into what the caller owns
    for other in others:
        other.result()


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Threads of this process, started when needed: a forked one has none of its parent's."""
    return ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), thread_name_prefix="rows")
