"""Inner loops compiled by numba and run on several threads.

numba is imported and a loop compiled at the first call. The compiled code is cached beside the
source, or in the user's cache folder if that is read-only.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache, wraps


def compiled(function: Callable, **options) -> Callable:
    """`function` compiled by `numba.njit(**options)`, without the GIL."""

    @cache
    def loop() -> Callable:
        import numba

        try:
            return numba.njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:
            # No writable cache folder.
            return numba.njit(nogil=True, **options)(function)

    @wraps(function)
    def call(*arguments):
        return loop()(*arguments)

    return call


def in_parts(loop: Callable, n: int, threads: int, *arguments) -> None:
    """Call `loop(*arguments, begin, end)` for contiguous parts of range(n), one per thread.

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
        wait(others)  # even on errors: they write into the caller's arrays
    for other in others:
        other.result()


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Threads of this process; a forked process needs its own pool."""
    return ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), thread_name_prefix="rows")
