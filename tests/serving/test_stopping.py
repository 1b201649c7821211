"""A job is told to stop at any moment, also while it looks whether it is."""

from __future__ import annotations

import os
import signal
import time

import pytest

from serving.stopping import Stop, stop_on_signals


def test_waiting_ends_when_it_is_set_or_the_time_is_over() -> None:
    stop = Stop()
    started_s = time.monotonic()
    assert not stop.wait(0.02)
    assert time.monotonic() - started_s >= 0.02
    stop.set()
    assert stop.wait(60.0)
    assert stop.is_set()
    assert time.monotonic() - started_s < 5.0


def test_it_is_set_by_itself_when_its_time_is_up() -> None:
    stop = Stop(seconds=0.05)
    assert not stop.is_set()
    assert stop.wait(60.0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_sets_it_wherever_it_comes(number: int) -> None:
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        for _ in range(2_000):
            stop = stop_on_signals()
            # A timer of the machine interrupts the waiting at ever other places.
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), number))
            signal.setitimer(signal.ITIMER_REAL, 1e-5)
            while not stop.wait(1e-6):
                pass
            assert stop.is_set()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for n, handler in before.items():
            signal.signal(n, handler)
