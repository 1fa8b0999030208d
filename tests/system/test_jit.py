"""Inner loops as machine code, and their share of threads."""

import multiprocessing
import os
import threading
import time

import numba
import pytest

from auditor.system.jit import compiled, in_parts


def double(x):
    return 2 * x


def test_a_compiled_function_gives_what_it_gave():
    assert compiled(double)(21) == 42


def test_compiled_code_that_cannot_be_kept_is_still_made(monkeypatch):
    asked = []

    def njit(**options):
        def decorate(function):
            asked.append(options)
            if options.get("cache"):
                raise RuntimeError("cannot cache function: no locator available")
            return function

        return decorate

    monkeypatch.setattr(numba, "njit", njit)
    assert compiled(double, fastmath=True)(21) == 42
    assert asked == [
        {"nogil": True, "cache": True, "fastmath": True},
        {"nogil": True, "fastmath": True},
    ]


def ranges(n, threads):
    seen, lock = [], threading.Lock()

    def loop(begin, end):
        with lock:
            seen.append((begin, end, threading.get_ident()))

    in_parts(loop, n, threads)
    return sorted(seen)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 10, 97])
@pytest.mark.parametrize("threads", [0, 1, 2, 3, 16])
def test_parts_hold_every_row_once_and_differ_by_one_at_most(n, threads):
    parts = ranges(n, threads)
    assert [row for begin, end, _ in parts for row in range(begin, end)] == list(range(n))
    lengths = {end - begin for begin, end, _ in parts}
    assert max(lengths) - min(lengths) <= 1
    assert len(parts) == max(1, min(n, threads))


def test_parts_run_at_the_same_time():
    """Each waits for the other: one after the other they would break the barrier."""
    together, met = threading.Barrier(2, timeout=30), []
    in_parts(lambda begin, end: met.append(together.wait()), 2, 2)
    assert sorted(met) == [0, 1]


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_what_fails_in_a_part_is_reported_when_all_have_ended(failing):
    ended = []

    def loop(begin, end):
        if begin == failing:
            raise ValueError(f"row {begin}")
        time.sleep(0.05)
        ended.append(begin)

    with pytest.raises(ValueError, match=f"row {failing}"):
        in_parts(loop, 3, 3)
    assert sorted(ended) == sorted({0, 1, 2} - {failing})


def test_more_parts_than_processors_still_run_and_take_no_more_threads():
    threads = {thread for n in (3, 50, 97) for *_, thread in ranges(n, n)}
    assert len(threads) <= max(2, os.cpu_count())


def _told_by_a_child(out):
    out.put([part[:2] for part in ranges(4, 2)])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking beside threads: meant here
def test_a_forked_process_has_threads_of_its_own():
    assert len(ranges(4, 2)) == 2
    context = multiprocessing.get_context("fork")
    out = context.SimpleQueue()
    child = context.Process(target=_told_by_a_child, args=(out,))
    child.start()
    child.join(timeout=30)
    is_done = child.exitcode == 0
    child.kill()
    assert is_done
    assert out.get() == [(0, 2), (2, 4)]
