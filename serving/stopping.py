"""How a command that runs for ever is told to stop: Ctrl-C, SIGTERM, or its time is up."""

from __future__ import annotations

import signal
import time

_LOOK_EVERY_S = 0.05


class Stop:
    """A flag that a signal handler may set.

    Not a `threading.Event`: its `set` takes the lock that the very thread it interrupts may hold
    in `wait`, and a job told to stop in that moment hung for ever (seen once in some hundred
    runs).

    Parameters
    ----------
    seconds : float or None
        It is set by itself after so long; None: never.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._is_set = False
        self._until_s = None if seconds is None else time.monotonic() + seconds

    def set(self) -> None:
        """Set it; takes no lock."""
        self._is_set = True

    def is_set(self) -> bool:
        """Return whether it is set, or its time is up."""
        if self._until_s is not None and time.monotonic() >= self._until_s:
            self._is_set = True
        return self._is_set

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until it is set; return whether it is."""
        until_s = time.monotonic() + seconds
        while not self.is_set():
            left_s = until_s - time.monotonic()
            if left_s <= 0.0:
                break
            time.sleep(min(left_s, _LOOK_EVERY_S))
        return self._is_set


def stop_on_signals(seconds: float | None = None) -> Stop:
    """Return what Ctrl-C and SIGTERM set from now on, and the time when it is up."""
    stop = Stop(seconds)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop
