"""Signals: raised as KeyboardInterrupt, or deferred to a safe place."""

import os
import signal
import threading

import pytest

from auditor.system.interrupts import deferred, interruptible


@pytest.fixture(autouse=True)
def python_handles_sigint():
    """A shell lets a process in the background ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_and_raises_at_the_end(number):
    done = []
    with pytest.raises(KeyboardInterrupt), interruptible(), deferred() as stop:  # noqa: PT012
        assert not stop()
        send(number)
        assert stop()
        done.append("all of the work")
    assert done == ["all of the work"]


def test_a_second_signal_raises_at_once():
    with pytest.raises(KeyboardInterrupt), deferred():  # noqa: PT012
        send(signal.SIGINT)
        send(signal.SIGINT)
        raise AssertionError("still here")


def test_without_a_signal_nothing_changes():
    before = signal.getsignal(signal.SIGINT)
    with deferred() as stop:
        assert not stop()
    assert signal.getsignal(signal.SIGINT) is before


def test_one_inside_another_raises_when_both_have_ended():
    done = []
    with pytest.raises(KeyboardInterrupt), deferred() as outer:  # noqa: PT012
        with deferred() as inner:
            send(signal.SIGINT)
            assert inner()
            assert not outer()
        assert outer()
        done.append("outer")
    assert done == ["outer"]


def test_another_error_wins_over_the_signal():
    with pytest.raises(ValueError, match="mine"), deferred():  # noqa: PT012
        send(signal.SIGINT)
        raise ValueError("mine")


def test_a_thread_has_no_signals_to_defer():
    seen = []

    def work():
        with deferred() as stop:
            seen.append(stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
